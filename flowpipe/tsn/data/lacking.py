"""Clips of training and validation -> warnings about classes that one of them lacks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

from flowpipe.tsn.data.clips import Clip
from flowpipe.words import agree_verb, count_noun, list_some

Phase = Literal["train", "val"]


def find_lacking_classes(
    samples: Mapping[Phase, Sequence[Clip]],
    splits: Mapping[Phase, str],
    class_names: Sequence[str],
) -> list[str]:
    """Return a warning for each split that lacks classes of the other.

    Splits are drawn before videos are decoded, so the only video of a class in a split may turn out
    to be broken.

    Parameters
    ----------
    samples : mapping of phase to sequence of Clip
        Clips of each phase.
    splits : mapping of phase to str
        Name of the split of each phase.
    class_names : sequence of str
        Names of the classes, by label.

    Returns
    -------
    list of str
        Warnings for the log.
    """
    labels = {phase: {k for one in found for k in one.labels} for phase, found in samples.items()}
    costs: dict[Phase, str] = {
        "train": "the network cannot learn",
        "val": "validation does not measure",
    }
    pairs: tuple[tuple[Phase, Phase], ...] = (("train", "val"), ("val", "train"))
    lines = []
    for phase, other in pairs:
        lacking = [class_names[k] for k in sorted(labels[other] - labels[phase])]
        if lacking:
            count = len(lacking)
            lines.append(
                f"warning: {count_noun(count, 'class', 'classes')} "
                f"{agree_verb(count, 'has', 'have')} no usable video in split {splits[phase]}, so "
                f"{costs[phase]} "
                f"{agree_verb(count, 'it', 'them')}: {list_some(lacking)}; to split your own "
                "videos anew, run the same flowpipe extract again with another --val-fraction or "
                "with --list: nothing is decoded again"
            )
    return lines
