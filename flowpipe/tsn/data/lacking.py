"""Store and clips of a training -> warnings: videos without images, classes that a split lacks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

from flowpipe.modality import MODALITIES
from flowpipe.store import Store, Video
from flowpipe.tsn.data.clips import Clip
from flowpipe.words import agree_verb, count_noun, list_some

Phase = Literal["train", "val"]

_WITHOUT_SOUND = {
    "audio_undecodable": "FFmpeg has no decoder for its sound",
    "audio_damaged": "all of its sound is damaged",
    "no_audio": "the file has no sound",
}
"""Note of a video without an image of sound -> reason; the first one that it has holds."""


def explain_without_images(video: Video, modality: str) -> str:
    """Return why a video has no image of a modality, by what its extraction noted.

    Parameters
    ----------
    video : Video
        Video of a store.
    modality : str
        Modality of which it has no image.

    Returns
    -------
    str
        Reason, for a message.
    """
    if not MODALITIES[modality].from_sound:
        return f"the store has {count_noun(video.frames, 'frame')} of it"
    codes = {note.partition(":")[0] for note in video.notes}
    found = [reason for code, reason in _WITHOUT_SOUND.items() if code in codes]
    return found[0] if found else "its extraction noted no reason"


def describe_without_images(lacking: int, count: int, split: str, modality: str) -> str:
    """Return the log line on videos that have no image of a modality.

    Parameters
    ----------
    lacking : int
        Number of these videos.
    count : int
        Number of all videos of the split.
    split : str
        Name of the split.
    modality : str
        Modality that is read.

    Returns
    -------
    str
        Line for the log.
    """
    are = agree_verb(lacking, "has", "have")
    left = agree_verb(lacking, "is", "are")
    return (
        f"{lacking} of {count_noun(count, 'video')} of split {split} {are} no image of {modality} "
        f"and {left} left out"
    )


def find_without_images(store: Store, splits: Mapping[Phase, str], modality: str) -> list[str]:
    """Return a log line for each split of which videos have no image, such as no sound.

    Parameters
    ----------
    store : Store
        Open store.
    splits : mapping of phase to str
        Name of the split of each phase.
    modality : str
        Modality that is read.

    Returns
    -------
    list of str
        Lines for the log.
    """
    lines = []
    for split in dict.fromkeys(splits.values()):
        members = [video for video in store.videos.values() if split in video.splits]
        lacking = sum(not video.images[modality] for video in members)
        if lacking:
            lines.append(describe_without_images(lacking, len(members), split, modality))
    return lines


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
