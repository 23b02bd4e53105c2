"""Weights of each step -> their exponential moving average (EMA), which is validated and tested."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn


class WeightAverage:
    """Exponential moving average of a network's weights and statistics, by torch.

    The average starts from the weights after the first step.

    Parameters
    ----------
    model : Module
        Network to average.
    decay : float
        Decay: weight of the old average in each update, in (0, 1).
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self._model = model
        self._averaged = AveragedModel(
            model, multi_avg_fn=get_ema_multi_avg_fn(decay), use_buffers=True
        )
        self._averaged.requires_grad_(False)

    @property
    def network(self) -> nn.Module:
        """Network with the averaged weights."""
        network: nn.Module = self._averaged.module
        return network

    def update(self) -> None:
        """Update the average after an optimiser step."""
        self._averaged.update_parameters(self._model)

    def state(self) -> dict[str, Any]:
        """Return the state for a checkpoint."""
        return {"model": self.network.state_dict(), "steps": int(self._averaged.n_averaged)}

    def restore(self, values: Mapping[str, Any]) -> None:
        """Restore what `state` returned.

        Parameters
        ----------
        values : mapping
            What `state` returned.
        """
        self.network.load_state_dict(values["model"])
        self._averaged.n_averaged.fill_(values["steps"])
