"""-v and --log-file -> handlers of the library's loggers: lines on stderr, records in a file.

The library logs below the logger ``flowpipe``. A command shows warnings of it on stderr; ``-v``
shows the steps too, ``-vv`` the details. The file gets everything, with time and process, and also
what the command itself says.
"""

from __future__ import annotations

import logging
import platform
import shlex
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TypeVar

import click

from flowpipe import __version__
from flowpipe.cli.screen import print_status
from flowpipe.errors import UnwritableError
from flowpipe.logs import COMMAND, LIBRARY, OUTCOMES, get_logger
from flowpipe.words import escape_control

LEVELS = (logging.WARNING, logging.INFO, logging.DEBUG)
"""Lowest level on stderr without ``-v``, with ``-v`` and with ``-vv``."""
STYLES = {logging.WARNING: "yellow", logging.ERROR: "bold red"}
FORMAT = "{asctime} {levelname:7} {host}:{process} {name}: {message}"

Command = TypeVar("Command", bound=click.Command)


class _OnStderr(logging.Handler):
    """Prints records above a progress bar, except those that the command prints itself."""

    def emit(self, record: logging.LogRecord) -> None:
        if record.name == COMMAND or (record.name, record.levelno) == (OUTCOMES, logging.WARNING):
            return
        print_status(self.format(record), STYLES.get(record.levelno, ""))


class _InFile(logging.FileHandler):
    """Appends records to a file, with control characters escaped."""

    def __init__(self, path: Path) -> None:
        super().__init__(path, encoding="utf-8", errors="backslashreplace")
        self.setFormatter(logging.Formatter(FORMAT, style="{", defaults={"host": platform.node()}))

    def format(self, record: logging.LogRecord) -> str:
        return escape_control(super().format(record))

    def handleError(self, record: logging.LogRecord) -> None:
        logging.getLogger(LIBRARY).removeHandler(self)  # once: a full disk stays full
        print_status(
            f"warning: {self.baseFilename} cannot be written to; the log ends here", "yellow"
        )


class CommandLog:
    """Logging of one command; made by `log_command`, changed by the options."""

    def __init__(self, arguments: Sequence[str]) -> None:
        self._arguments = arguments
        self._logger = logging.getLogger(LIBRARY)
        self._before = self._logger.level
        self._on_stderr = _OnStderr(LEVELS[0])
        self._handlers: list[logging.Handler] = [self._on_stderr]
        self._verbosity = 0
        self._logger.addHandler(self._on_stderr)
        self._set_level()

    def show_more(self, count: int) -> None:
        """Show records of `count` more levels on stderr."""
        self._verbosity = min(self._verbosity + count, len(LEVELS) - 1)
        self._on_stderr.setLevel(LEVELS[self._verbosity])
        self._set_level()

    def write_to(self, path: Path) -> None:
        """Append all records to a file."""
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            handler = _InFile(path)
        except OSError as error:
            raise UnwritableError(f"--log-file {path} cannot be written to: {error}") from error
        self._handlers.append(handler)
        self._logger.addHandler(handler)
        self._set_level()
        command = shlex.join(["flowpipe", *self._arguments])
        get_logger(COMMAND).info("flowpipe %s: %s", __version__, command)

    def _set_level(self) -> None:
        self._logger.setLevel(min(handler.level or logging.DEBUG for handler in self._handlers))

    def close(self) -> None:
        """Remove the handlers."""
        for handler in self._handlers:
            self._logger.removeHandler(handler)
            with suppress(OSError):  # a full disk, which was said
                handler.close()
        self._logger.setLevel(self._before)


@contextmanager
def log_command(arguments: Sequence[str]) -> Iterator[CommandLog]:
    """Show the library's warnings on stderr during the block.

    Parameters
    ----------
    arguments : sequence of str
        Arguments of the command, for the first line of the file.

    Yields
    ------
    CommandLog
        Object that the options change.
    """
    log = CommandLog(arguments)
    try:
        yield log
    finally:
        log.close()


def _with_log(do: Callable[[CommandLog], None], context: click.Context) -> None:
    log = context.find_object(CommandLog)
    if log is not None:  # None in a program that calls the click commands itself
        do(log)


def _verbose(context: click.Context, option: click.Parameter, count: int) -> None:
    _with_log(lambda log: log.show_more(count), context)


def _log_file(context: click.Context, option: click.Parameter, path: Path | None) -> None:
    if path is not None:
        _with_log(lambda log: log.write_to(path), context)


def add_log_options(command: Command) -> Command:
    """Add -v and --log-file to a command or group, once; they work before and after its name."""
    if any(option.name == "log_file" for option in command.params):
        return command
    command.params += [
        click.Option(
            ["-v", "--verbose"], count=True, expose_value=False, callback=_verbose, is_eager=True,
            help="Print the steps of the work on stderr; -vv also prints the details.",
        ),
        click.Option(
            ["--log-file"], type=click.Path(dir_okay=False, path_type=Path), metavar="FILE",
            expose_value=False, callback=_log_file, is_eager=True,
            help="Append a log to FILE: all messages, steps and details, of the workers too.",
        ),
    ]  # fmt: skip
    return command
