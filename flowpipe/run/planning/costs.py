"""Costs of a frame and the resources of a run: how long a frame keeps each of them busy."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, kw_only=True)
class Rates:
    """Costs of a frame with one recipe on one machine."""

    frame_s: float
    """CPU seconds for all modalities of one frame, without the work of a GPU."""
    frame_bytes: float
    """Stored bytes for all modalities of one frame."""
    gpu_s: float = 0.0
    """GPU seconds for all modalities of one frame."""
    gpu_workers: int = 1
    """Number of workers that fit into the memory of a GPU, by measurement; 1 if not measured."""
    worker_bytes: int = 0
    """Host memory of a worker with a GPU; 0 if not measured."""
    stages_s: Mapping[str, float] = field(default_factory=dict)
    """Seconds of `frame_s` by stage."""

    @property
    def both_s(self) -> float:
        """Seconds that a frame takes if cores and GPU wait for each other."""
        return self.frame_s + self.gpu_s

    def busy_s(self, device: str, *, workers: int, cores: int, gpus: int) -> dict[str, float]:
        """Return how long a frame keeps each part of a machine busy, seconds.

        If all workers have work, the largest value is the time between two frames. A worker
        without a GPU uses one core. A worker with a GPU has a thread for each stage.

        Parameters
        ----------
        device : {"cpu", "cuda"}
            Device that computes.
        workers, cores, gpus : int
            Numbers of workers, and of the cores and GPUs that they share.

        Returns
        -------
        dict of str to float
            ``cores``, ``gpus`` and, if stages have threads, ``stage``: the slowest one.
        """
        gpu_s = self.gpu_s / max(1, gpus)
        if device == "cpu":
            return {"cores": self.frame_s / min(workers, cores), "gpus": gpu_s}
        slowest_s = max(self.stages_s.values(), default=self.frame_s)
        return {"cores": self.frame_s / cores, "gpus": gpu_s, "stage": slowest_s / workers}


NOTHING = Rates(frame_s=1.0, frame_bytes=1.0)
"""Placeholder rates of a run that has no frame to extract."""


@dataclass(frozen=True, kw_only=True)
class Resources:
    """Device and workers of a run, and the costs of a frame with them."""

    rates: Rates
    device: str = "cpu"
    gpus: int = 0
    """Number of GPUs that local workers share; 0 for none, or with a scheduler."""
    workers: int = 1
    """Number of workers that the run starts, or that the scheduler has."""
    cores: int = 1
    """Number of usable cores of this machine; with a scheduler, one for each of its workers."""
    reason: str = ""
    """Reason for a device and number of workers that the user did not choose, and how workers
    share GPUs."""
    cores_alone: Rates | None = None
    """Costs of a frame on the cores alone, if they were measured beside the GPUs."""

    def busy_s(self, more_cores: int = 0, more_gpus: int = 0) -> dict[str, float]:
        """Return how long a frame keeps each resource busy, seconds, by `Rates.busy_s`.

        Parameters
        ----------
        more_cores, more_gpus : int
            Cores, each with a worker, and GPUs to add.

        Returns
        -------
        dict of str to float
            Keys of `Rates.busy_s`.
        """
        return self.rates.busy_s(
            self.device, workers=self.workers + more_cores, cores=self.cores + more_cores,
            gpus=self.gpus + more_gpus,
        )  # fmt: skip

    @property
    def frames_per_s(self) -> float:
        """Throughput while all workers have work, frames per second."""
        return 1 / max(self.busy_s().values())
