"""ScheduleParams -> learning rate of each step."""

from __future__ import annotations

import math
from dataclasses import dataclass

from torch.optim import Optimizer

from flowpipe.tsn.recipe import ScheduleParams


@dataclass(frozen=True)
class Schedule:
    """Learning rate of each step, and length of the run."""

    params: ScheduleParams
    steps_an_epoch: int

    @property
    def steps(self) -> int:
        """Steps of the whole run."""
        by_epoch = self.params.unit == "epochs"
        return self.params.end * (self.steps_an_epoch if by_epoch else 1)

    @property
    def epochs(self) -> int:
        """Epochs of the whole run, including an incomplete last one."""
        return -(-self.steps // self.steps_an_epoch)

    def factor(self, step: int) -> float:
        """Return the multiplier of the learning rate in a step.

        Parameters
        ----------
        step : int
            Number of the step, from 0.

        Returns
        -------
        float
            Multiplier.
        """
        params, scale = self.params, self.steps_an_epoch if self.params.unit == "epochs" else 1
        warmup = params.warmup * scale
        if params.lr_policy == "cosine":
            share = max(0, step - warmup) / (self.steps - warmup)
            factor = 0.5 * (1 + math.cos(math.pi * share))
        else:
            factor = params.lr_decay ** sum(step // scale >= at for at in params.lr_steps)
        if step < warmup:  # as mmengine's LinearLR, which reaches the full rate in the last step
            done = step / max(1, warmup - 1)
            factor *= params.warmup_factor + (1 - params.warmup_factor) * done
        return factor

    def set(self, optimiser: Optimizer, step: int) -> float:
        """Set the learning rate of all groups for a step.

        Parameters
        ----------
        optimiser : Optimizer
            Optimiser to set.
        step : int
            Number of the step, from 0.

        Returns
        -------
        float
            Base rate.
        """
        lr = self.params.lr * self.factor(step)
        for group in optimiser.param_groups:
            group["lr"] = lr * group["lr_multiplier"]
        return lr
