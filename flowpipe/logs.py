"""Names of the loggers. The library logs and prints nothing; programs choose what is shown."""

from __future__ import annotations

import logging
from typing import Any

from flowpipe.words import escape_control

LIBRARY = "flowpipe"
"""Parent of all loggers, which are named after their modules."""
OUTCOMES = f"{LIBRARY}.outcomes"
"""One record for each video of an extraction: a warning if it failed or lacks frames, else info."""
COMMAND = f"{LIBRARY}.command"
"""Name of the logger of everything that commands print on stderr."""


class EscapingLogger(logging.LoggerAdapter[logging.Logger]):
    """Logger that escapes control characters.

    Ids, paths and messages may come from untrusted files, and log files are read on terminals.
    """

    def log(self, level: int, msg: object, *args: object, **options: Any) -> None:
        """Log a message with its arguments, like `logging.Logger.log`.

        Parameters
        ----------
        level : int
            Level of the record.
        msg : str
            Message, with ``%`` for each argument.
        *args : object
            Arguments of the message.
        **options : object
            Options of `logging.Logger.log`.
        """
        if self.isEnabledFor(level):
            text = str(msg) % args if args else str(msg)
            self.logger.log(level, "%s", escape_control(text), stacklevel=3, **options)


def get_logger(name: str) -> EscapingLogger:
    """Return the logger of a module.

    Parameters
    ----------
    name : str
        Name of the module.

    Returns
    -------
    EscapingLogger
        Logger below `LIBRARY`.
    """
    return EscapingLogger(logging.getLogger(name), {})
