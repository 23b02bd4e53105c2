"""nvidia-smi, while something runs -> how busy the GPU was, its memory, power and clock."""

from __future__ import annotations

import math
import shutil
import statistics
import subprocess
import threading

FIELDS = {
    "busy_%": "utilization.gpu", "memory_bus_%": "utilization.memory",
    "nvdec_%": "utilization.decoder", "memory_MiB": "memory.used", "watts": "power.draw",
    "sm_MHz": "clocks.sm",
}  # fmt: skip
EVERY_MS = 250


class GpuMonitor:
    """Context manager that samples the first GPU; `means` returns the results afterwards."""

    def __enter__(self) -> GpuMonitor:
        self._rows: list[list[float]] = []
        self._process: subprocess.Popen[str] | None = None
        if shutil.which("nvidia-smi"):
            self._process = subprocess.Popen(
                ["nvidia-smi", f"--query-gpu={','.join(FIELDS.values())}", "--id=0",
                 "--format=csv,noheader,nounits", f"--loop-ms={EVERY_MS}"],
                stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
            )  # fmt: skip
            self._thread = threading.Thread(target=self._read, args=[self._process], daemon=True)
            self._thread.start()
        return self

    def _read(self, process: subprocess.Popen[str]) -> None:
        assert process.stdout is not None
        for line in process.stdout:
            row = [_number(text) for text in line.split(",")]
            if len(row) == len(FIELDS):
                self._rows.append(row)

    def __exit__(self, *error: object) -> None:
        if self._process:
            self._process.terminate()
            self._process.wait()
            self._thread.join(2)

    def means(self) -> dict[str, float]:
        """Return the means over the samples in which the GPU worked; the maximum of memory.

        ``working_%`` is the share of these samples. Empty without nvidia-smi.
        """
        if not self._rows:
            return {}
        working = [row for row in self._rows if row[0] > 0]
        found = {}
        for k, name in enumerate(FIELDS):
            rows, pool = (
                (self._rows, max)
                if name == "memory_MiB"
                else (working or self._rows, statistics.fmean)
            )
            values = [row[k] for row in rows if not math.isnan(row[k])]
            if values:
                found[name] = round(pool(values), 1)
        found["working_%"] = round(100 * len(working) / len(self._rows), 1)
        return found


def _number(text: str) -> float:
    """Read a field; nvidia-smi prints [N/A] for values that a GPU does not report."""
    try:
        return float(text)
    except ValueError:
        return math.nan
