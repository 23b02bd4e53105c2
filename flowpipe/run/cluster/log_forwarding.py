"""Log records of Dask workers -> the same loggers in the client's process.

A worker publishes its records as events of the scheduler, which the client receives in order. The
last records of a worker that dies are lost; its heartbeat keeps its stack trace.
"""

from __future__ import annotations

import logging
import os
import platform
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

from distributed import Client, Worker, WorkerPlugin

from flowpipe.logs import LIBRARY


@contextmanager
def forward_logs(client: Client) -> Iterator[None]:
    """Handle the workers' records here during the block, from the level of our own logger on.

    Parameters
    ----------
    client : distributed.Client
        Client of the workers' scheduler.
    """
    topic = f"flowpipe-log-{client.id}"
    here = platform.node(), os.getpid()
    level = logging.getLogger(LIBRARY).getEffectiveLevel()
    client.subscribe_topic(topic, _handle)
    client.register_plugin(ForwardLogs(topic, level, here), name=topic)
    try:
        yield
    finally:
        with suppress(OSError, TimeoutError, ValueError):  # the scheduler may be gone
            client.unregister_worker_plugin(topic)
            client.unsubscribe_topic(topic)


def _handle(event: tuple[float, dict[str, Any]]) -> None:
    _, values = event
    record = logging.makeLogRecord(values)
    logger = logging.getLogger(record.name)
    if logger.isEnabledFor(record.levelno):
        logger.handle(record)


class ForwardLogs(WorkerPlugin):
    """Publishes the records of a worker's loggers.

    Parameters
    ----------
    topic : str
        Topic of the events.
    level : int
        Lowest level that is published.
    client : (str, int)
        Host and process of the client. A worker in the same process shares its loggers already.
    """

    def __init__(self, topic: str, level: int, client: tuple[str, int]) -> None:
        self._topic, self._level, self._client = topic, level, client
        self._handler: _Publisher | None = None

    def setup(self, worker: Worker) -> None:
        """Add a handler to the worker's logger, unless it is our own process.

        Parameters
        ----------
        worker : Worker
            Dask worker that starts.
        """
        if self._client == (platform.node(), os.getpid()):
            return
        logger = logging.getLogger(LIBRARY)
        self._handler = _Publisher(worker, self._topic)
        self._before = logger.level
        logger.addHandler(self._handler)
        logger.setLevel(self._level)

    def teardown(self, worker: Worker) -> None:
        """Remove the handler.

        Parameters
        ----------
        worker : Worker
            Dask worker that ends.
        """
        if self._handler is not None:
            logger = logging.getLogger(LIBRARY)
            logger.removeHandler(self._handler)
            logger.setLevel(self._before)


class _Publisher(logging.Handler):
    def __init__(self, worker: Worker, topic: str) -> None:
        super().__init__()
        self._worker, self._topic = worker, topic

    def emit(self, record: logging.LogRecord) -> None:
        text = record.getMessage()
        if record.exc_info:
            text += "\n" + logging.Formatter().formatException(record.exc_info)
        kept = ("name", "levelno", "levelname", "created", "msecs", "process", "thread")
        values = {key: getattr(record, key) for key in kept}
        self._worker.log_event(self._topic, {**values, "msg": text, "host": platform.node()})
