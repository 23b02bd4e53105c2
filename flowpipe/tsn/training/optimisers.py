"""ScheduleParams + parameter groups -> optimiser."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import optim

from flowpipe.tsn.recipe import ScheduleParams

Groups = list[dict[str, Any]]


def optimiser_of(groups: Groups, params: ScheduleParams, **options: Any) -> optim.Optimizer:
    """Return the optimiser that a recipe names.

    Parameters
    ----------
    groups : list of dict
        Parameter groups with their own ``lr`` and ``weight_decay``, see `TSN.groups`.
    params : ScheduleParams
        Name and settings of the optimiser.
    **options
        Arguments of torch's constructor, such as ``fused``.

    Returns
    -------
    Optimizer
        The optimiser.
    """
    return OPTIMISERS[params.optimiser](groups, params, options)


def _sgd(groups: Groups, params: ScheduleParams, options: dict[str, Any]) -> optim.Optimizer:
    return optim.SGD(groups, momentum=params.momentum, **options)


def _adamw(groups: Groups, params: ScheduleParams, options: dict[str, Any]) -> optim.Optimizer:
    first, second = params.betas
    return optim.AdamW(groups, betas=(first, second), **options)


OPTIMISERS: dict[str, Callable[[Groups, ScheduleParams, dict[str, Any]], optim.Optimizer]] = {
    "sgd": _sgd,
    "adamw": _adamw,
}
