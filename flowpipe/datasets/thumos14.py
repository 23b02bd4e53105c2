"""Files of THUMOS14 -> VideoRecords of its validation, test and background videos.

These files may lie in any folders below the root::

    video_validation_0000001.mp4 ...                  1010 videos
    video_test_0000001.mp4 ...                        1574 videos, 480 of them background
    video_background_0000001.mp4 ...                  the background set, if there
    test_set_meta.mat, validation_set.mat             labels of whole videos, if there
    <Class>_val.txt, <Class>_test.txt                 temporal annotations of 20 classes, if there

Classes are the 101 of UCF101. ``labels`` of a video are its primary and secondary actions, none for
background, or the classes of its segments if there are no .mat files. Every instance of CliffDiving
is also listed under Diving, and both are kept. `Ambiguous_*.txt` lists intervals that the
evaluation leaves out; they become ``ambiguous``, not segments.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Collection

from flowpipe.datasets import thumos14_meta
from flowpipe.datasets.dataset import Dataset, DatasetRow, PublishedTest
from flowpipe.datasets.file_kinds import is_video
from flowpipe.datasets.lists import ListFile, Lists
from flowpipe.datasets.match import match, nothing_found_error, stem
from flowpipe.datasets.tree import FileTree
from flowpipe.remote import PathOrUrl, parse_path_or_url
from flowpipe.splits import split_name
from flowpipe.types import Interval, VideoRecord
from flowpipe.words import count_noun

CLASS_NAMES = (
    "ApplyEyeMakeup", "ApplyLipstick", "Archery", "BabyCrawling", "BalanceBeam", "BandMarching",
    "BaseballPitch", "Basketball", "BasketballDunk", "BenchPress", "Biking", "Billiards",
    "BlowDryHair", "BlowingCandles", "BodyWeightSquats", "Bowling", "BoxingPunchingBag",
    "BoxingSpeedBag", "BreastStroke", "BrushingTeeth", "CleanAndJerk", "CliffDiving",
    "CricketBowling", "CricketShot", "CuttingInKitchen", "Diving", "Drumming", "Fencing",
    "FieldHockeyPenalty", "FloorGymnastics", "FrisbeeCatch", "FrontCrawl", "GolfSwing", "Haircut",
    "Hammering", "HammerThrow", "HandstandPushups", "HandstandWalking", "HeadMassage", "HighJump",
    "HorseRace", "HorseRiding", "HulaHoop", "IceDancing", "JavelinThrow", "JugglingBalls",
    "JumpingJack", "JumpRope", "Kayaking", "Knitting", "LongJump", "Lunges", "MilitaryParade",
    "Mixing", "MoppingFloor", "Nunchucks", "ParallelBars", "PizzaTossing", "PlayingCello",
    "PlayingDaf", "PlayingDhol", "PlayingFlute", "PlayingGuitar", "PlayingPiano", "PlayingSitar",
    "PlayingTabla", "PlayingViolin", "PoleVault", "PommelHorse", "PullUps", "Punch", "PushUps",
    "Rafting", "RockClimbingIndoor", "RopeClimbing", "Rowing", "SalsaSpin", "ShavingBeard",
    "Shotput", "SkateBoarding", "Skiing", "Skijet", "SkyDiving", "SoccerJuggling", "SoccerPenalty",
    "StillRings", "SumoWrestling", "Surfing", "Swing", "TableTennisShot", "TaiChi", "TennisSwing",
    "ThrowDiscus", "TrampolineJumping", "Typing", "UnevenBars", "VolleyballSpiking",
    "WalkingWithDog", "WallPushups", "WritingOnBoard", "YoYo",
)  # fmt: skip
"""Label = the official number less 1."""
DETECTION_CLASSES = (
    "BaseballPitch", "BasketballDunk", "Billiards", "CleanAndJerk", "CliffDiving",
    "CricketBowling", "CricketShot", "Diving", "FrisbeeCatch", "GolfSwing", "HammerThrow",
    "HighJump", "JavelinThrow", "LongJump", "PoleVault", "Shotput", "SoccerPenalty", "TennisSwing",
    "ThrowDiscus", "VolleyballSpiking",
)  # fmt: skip
"""Classes with temporal annotations."""
OFFICIAL_COUNTS = {"validation": 1010, "test": 1574}
OFFICIAL_SEGMENTS = {"validation": 3007, "test": 3358}
"""Number of segments, in 200 and 212 videos, counted from the published files."""
BAD_TEST_VIDEOS = ("video_test_0000270", "video_test_0001292", "video_test_0001496")
SPLITS: dict[str, tuple[str, ...]] = {
    "validation": ("train1",),
    "test": ("test1",),
    "background": (),
}
"""TSN trains on UCF101 and the validation videos and tests on the test videos."""

_BACKGROUND = re.compile(r"video_background_\w+", re.IGNORECASE)
_ROW = re.compile(r"(video_(?:validation|test)_\d{7})\s+(\d+(?:\.\d*)?)\s+(\d+(?:\.\d*)?)")


def load(root: PathOrUrl, *, annotations: PathOrUrl | None = None) -> Dataset:
    """Find the videos and annotations of THUMOS14.

    Parameters
    ----------
    root : Path or URL
        Any folder above the videos.
    annotations : Path or URL, optional
        Folder of the annotations; by default they are searched for below `root`.

    Returns
    -------
    Dataset
        One record per official validation and test video, and per existing background video.

    Raises
    ------
    DatasetError
        If there is no video, two files have the same id, or an annotation is wrong.
    """
    tree = FileTree.read(parse_path_or_url(root))
    lists = Lists.from_path(tree, annotations)
    official = _official_ids()
    stems = {stem(name) for name in tree.files if is_video(name)}
    background = sorted(text.lower() for text in stems if _BACKGROUND.fullmatch(text))
    paths, unlisted = match(tree, [*official, *background], any_case=True)
    if not any(paths.values()):
        raise nothing_found_error(
            tree, "THUMOS14", "video_validation_0000001.mp4 or video_test_0000001.mp4",
            "the archive TH14_Test_set_mp4.zip needs the password from the THUMOS14 site",
        )  # fmt: skip
    _check_class_list(lists)
    segments, ambiguous = _temporal(lists, official)
    actions = thumos14_meta.actions(lists.tree, len(CLASS_NAMES), official)
    listed = []
    for video_id, path in paths.items():
        own = tuple(sorted(segments.get(video_id, ()), key=_time))
        labels = actions.get(video_id, tuple(sorted({segment.label for segment in own})))
        subset = video_id.split("_")[1]
        listed.append(
            VideoRecord(
                video_id, path, labels=labels, subset=subset, splits=SPLITS[subset], segments=own,
                ambiguous=tuple(sorted(ambiguous.get(video_id, ()))),
            )
        )  # fmt: skip
    dataset = Dataset.from_listed("thumos14", CLASS_NAMES, listed, unlisted)
    return dataset.with_note(_note(dataset, actions))


def read_records(lists: Lists) -> tuple[VideoRecord, ...]:
    """Read the annotations without videos; paths are empty.

    Parameters
    ----------
    lists : Lists
        Official lists.

    Returns
    -------
    tuple of VideoRecord
        The videos with segments or ambiguous intervals and, where the .mat file is there, all
        others of the subset. Segments keep the order of the files, on which the official detection
        evaluation depends. The split is ``test1`` or ``val1``.

    Raises
    ------
    DatasetError
        If an annotation is wrong.
    """
    official = _official_ids()
    _check_class_list(lists)
    segments, ambiguous = _temporal(lists, official)
    actions = thumos14_meta.actions(lists.tree, len(CLASS_NAMES), official)
    records = []
    for video_id in official:
        if video_id in segments or video_id in ambiguous or video_id in actions:
            own = tuple(segments.get(video_id, ()))
            labels = actions.get(video_id, tuple(sorted({segment.label for segment in own})))
            subset = video_id.split("_")[1]
            spans = tuple(ambiguous.get(video_id, ()))
            splits = (split_name(subset),)
            records.append(
                VideoRecord(
                    video_id,
                    "",
                    labels=labels,
                    subset=subset,
                    splits=splits,
                    segments=own,
                    ambiguous=spans,
                )
            )
    return tuple(records)


def _official_ids() -> dict[str, None]:
    """Return the ids of all validation and test videos, as keys, in a fixed order."""
    return {
        f"video_{subset}_{number:07d}": None
        for subset, count in OFFICIAL_COUNTS.items()
        for number in range(1, count + 1)
    }


def _time(instance: Interval) -> tuple[float, float, int]:
    return instance.start_s, instance.end_s, instance.label


def _check_class_list(lists: Lists) -> None:
    """Raise DatasetError if detclasslist.txt exists and differs from the built-in numbers."""
    for one in lists.find(r"detclasslist\.txt"):
        for number, row in one.rows():
            index, _, name = row.partition(" ")
            known = name.strip() in DETECTION_CLASSES
            if not known or index != str(CLASS_NAMES.index(name.strip()) + 1):
                raise one.wrong(number, "a number and a class as '7 BaseballPitch'", row)


def _temporal(
    lists: Lists, official: Collection[str]
) -> tuple[dict[str, list[Interval]], dict[str, list[tuple[float, float]]]]:
    """Return segments and ambiguous intervals by video id, in the order of the files."""
    segments: dict[str, list[Interval]] = defaultdict(list)
    ambiguous: dict[str, list[tuple[float, float]]] = defaultdict(list)
    names = "|".join((*DETECTION_CLASSES, "Ambiguous"))
    for one in lists.find(rf"({names})_(val|test)\.txt"):
        class_name = one.name.rpartition("_")[0]
        for video_id, start_s, end_s in _rows(one, official):
            if class_name == "Ambiguous":
                ambiguous[video_id].append((start_s, end_s))
            else:
                label = CLASS_NAMES.index(class_name)
                segments[video_id].append(Interval(label, start_s, end_s))
    return segments, ambiguous


def _rows(one: ListFile, official: Collection[str]) -> list[tuple[str, float, float]]:
    rows = []
    for number, row in one.rows():
        found = _ROW.fullmatch(row)
        if found is None or float(found[2]) > float(found[3]):
            raise one.wrong(number, "'video_validation_0000001  start end' in seconds", row)
        if found[1] not in official:
            counts = " or ".join(
                f"{subset} video 1 to {n}" for subset, n in OFFICIAL_COUNTS.items()
            )
            raise one.wrong(number, f"an id of a {counts}", row)
        rows.append((found[1], float(found[2]), float(found[3])))
    return rows


def _note(dataset: Dataset, actions: dict[str, tuple[int, ...]]) -> str:
    there, everything = dataset.records, (*dataset.records, *dataset.absent)
    notes = [
        f"{sum(record.subset == subset for record in there)} of {count} official {subset} videos "
        "found."
        for subset, count in OFFICIAL_COUNTS.items()
    ]
    for subset, count in OFFICIAL_SEGMENTS.items():
        annotated = [record for record in everything if record.subset == subset and record.segments]
        segments = sum(len(record.segments) for record in annotated)
        notes.append(
            f"{segments} of {count} {subset} segments found, in "
            f"{count_noun(len(annotated), 'video')}."
        )
    count = sum(len(record.ambiguous) for record in everything)
    if count:
        notes.append(f"{count_noun(count, 'ambiguous segment')}.")
    for subset, file_name in thumos14_meta.FILES.items():
        known = [labels for video_id, labels in actions.items() if video_id.split("_")[1] == subset]
        if known:
            notes.append(
                f"{count_noun(len(known), f'{subset} video')} labelled as wholes, "
                f"{sum(not labels for labels in known)} of them background."
            )
        else:
            notes.append(
                f"No {file_name}: labels of {subset} videos are the classes of their segments, and "
                "no label does not mean background; an evaluation of whole videos needs that file."
            )
    bad = [record.video_id for record in there if record.video_id in BAD_TEST_VIDEOS]
    if bad:
        notes.append(f"{', '.join(bad)}: faulty annotation, commonly left out of evaluation.")
    return " ".join(notes)


ROW = DatasetRow(
    "thumos14",
    "2584 untrimmed videos",
    load,
    options=("annotations",),
    test=PublishedTest("thumos14", "thumos14-detection", {"test1": OFFICIAL_COUNTS["test"]}),
)
