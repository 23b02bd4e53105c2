"""Files to check -> answers of processes, which may die or hang over a damaged file."""

from __future__ import annotations

import contextlib
import json
import os
import queue
import select
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import flowpipe


class CheckProcess:
    """Process that checks one file after another; it is replaced when it dies or hangs."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._errors = tempfile.TemporaryFile()

    def __enter__(self) -> CheckProcess:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the process."""
        self._stop()
        self._errors.close()

    def ask(self, task: dict[str, Any], limit_s: float) -> dict[str, Any]:
        """Check one file in the process.

        Parameters
        ----------
        task : dict
            JSON values: ``check`` (``shard`` or ``index``), ``path``, ``digest`` and ``decode``.
        limit_s : float
            Time limit, seconds.

        Returns
        -------
        dict
            Its answer; a fault if it died or hung.
        """
        process = self._process or self.start()
        assert process.stdin is not None and process.stdout is not None
        with contextlib.suppress(BrokenPipeError):
            process.stdin.write(json.dumps(task).encode() + b"\n")
            process.stdin.flush()
        stop, line = time.monotonic() + limit_s, b""
        while not line.endswith(b"\n"):
            ready, _, _ = select.select([process.stdout], [], [], max(0, stop - time.monotonic()))
            block = os.read(process.stdout.fileno(), 1 << 16) if ready else b""
            if not block:
                hangs = not ready
                code = self._stop()
                what = f"hangs its reader for over {limit_s:.0f} s" if hangs else _death(code)
                return {"faults": [("", "S09", f"the file {what}{self._last_words()}")]}
            line += block
        answer: dict[str, Any] = json.loads(line)
        return answer

    def start(self) -> subprocess.Popen[bytes]:
        """Start the process; `ask` does it where there is none."""
        package = Path(flowpipe.__file__).parent.parent
        path = os.pathsep.join(filter(None, [str(package), os.environ.get("PYTHONPATH", "")]))
        self._process = subprocess.Popen(
            [sys.executable, "-m", "flowpipe.store.check"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._errors,
            env={**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"},
        )  # fmt: skip
        return self._process

    def _stop(self) -> int:
        process, self._process = self._process, None
        if process is None:
            return 0
        assert process.stdin is not None and process.stdout is not None
        if process.poll() is None:
            process.kill()
        code = process.wait()
        with contextlib.suppress(BrokenPipeError):
            process.stdin.close()
        process.stdout.close()
        return code

    def _last_words(self) -> str:
        self._errors.seek(0)
        lines = self._errors.read().decode(errors="replace").strip().splitlines()
        self._errors.seek(0)
        self._errors.truncate()
        return f": {lines[-1][:200]}" if lines else ""


class CheckPool:
    """Pool of processes that check files, one for each thread that asks at the same time."""

    def __init__(self) -> None:
        self._idle: queue.SimpleQueue[CheckProcess] = queue.SimpleQueue()

    def __enter__(self) -> CheckPool:
        return self

    def __exit__(self, *_: object) -> None:
        while not self._idle.empty():
            self._idle.get().close()

    def ask(self, task: dict[str, Any], limit_s: float) -> dict[str, Any]:
        """Check one file in an idle process, or in a new one.

        Parameters
        ----------
        task : dict
            See `CheckProcess.ask`.
        limit_s : float
            Time limit, seconds.

        Returns
        -------
        dict
            The answer.
        """
        try:
            process = self._idle.get_nowait()
        except queue.Empty:
            process = CheckProcess()
        try:
            return process.ask(task, limit_s)
        finally:
            self._idle.put(process)


def _death(code: int) -> str:
    cause = signal.Signals(-code).name if code < 0 else f"exit code {code}"
    return f"kills its reader ({cause})"
