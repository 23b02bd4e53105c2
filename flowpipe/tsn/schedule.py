"""ScheduleParams -> the learning rate of every step, in iterations or in epochs."""

from __future__ import annotations

from dataclasses import dataclass

from torch.optim import Optimizer

from flowpipe.train_recipe import ScheduleParams


@dataclass(frozen=True)
class Schedule:
    """Where a run is and where it ends."""

    params: ScheduleParams
    steps_an_epoch: int

    @property
    def steps(self) -> int:
        """Steps of the whole run."""
        by_epoch = self.params.unit == "epochs"
        return self.params.end * (self.steps_an_epoch if by_epoch else 1)

    @property
    def epochs(self) -> int:
        """Epochs of the whole run, a last one that is cut short included."""
        return -(-self.steps // self.steps_an_epoch)

    def factor(self, step: int) -> float:
        """What the learning rate is multiplied by in a step, counted from 0."""
        by_epoch = self.params.unit == "epochs"
        now = step // self.steps_an_epoch if by_epoch else step
        return self.params.lr_decay ** sum(now >= at for at in self.params.lr_steps)

    def set(self, optimiser: Optimizer, step: int) -> float:
        """Set the rates of all groups for a step; the rate of plain weights."""
        lr = self.params.lr * self.factor(step)
        for group in optimiser.param_groups:
            group["lr"] = lr * group["lr_multiplier"]
        return lr
