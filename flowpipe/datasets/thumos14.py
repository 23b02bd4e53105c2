"""THUMOS14 as it lies on a disk -> VideoRecords of its validation and test videos.

Wanted below the root, in any folders (those that the official archives unpack to, or others)::

    video_validation_0000001.mp4 ...                  1010 videos
    video_test_0000001.mp4 ...                        1574 videos
    <Class>_val.txt, <Class>_test.txt                 temporal annotations of 20 classes, if there
    detclasslist.txt                                  names of these classes, if there

Everything is found by its name. Segments and labels come from the temporal annotations: ``labels``
of a video are the classes of its segments. `Ambiguous_*.txt` marks stretches that the evaluation
leaves out; they are counted in the note and are no segments.
"""

from __future__ import annotations

import posixpath
import re
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

from flowpipe.datasets.dataset import Dataset
from flowpipe.datasets.tree import Tree, is_video
from flowpipe.errors import DatasetError
from flowpipe.types import Segment, VideoRecord

CLASS_NAMES = (
    "BaseballPitch", "BasketballDunk", "Billiards", "CleanAndJerk", "CliffDiving",
    "CricketBowling", "CricketShot", "Diving", "FrisbeeCatch", "GolfSwing", "HammerThrow",
    "HighJump", "JavelinThrow", "LongJump", "PoleVault", "Shotput", "SoccerPenalty", "TennisSwing",
    "ThrowDiscus", "VolleyballSpiking",
)  # fmt: skip
OFFICIAL_COUNTS = {"validation": 1010, "test": 1574}
BAD_TEST_VIDEOS = ("video_test_0000270", "video_test_0001292", "video_test_0001496")

_VIDEO = re.compile(r"(video_(validation|test)_\d{7})\.\w+", re.IGNORECASE)
_ANNOTATION = re.compile(r"(\w+)_(val|test)\.txt")
_ROW = re.compile(r"(video_(?:validation|test)_\d{7})\s+(\d+(?:\.\d*)?)\s+(\d+(?:\.\d*)?)")
_SUBSETS = {"val": "validation", "test": "test"}


def load(root: Path, *, subsets: Sequence[str] = ("validation", "test")) -> Dataset:
    """Find the videos and annotations of THUMOS14 below a folder.

    Parameters
    ----------
    root : Path
        Any folder above the videos and, if there, the annotations.
    subsets : sequence of {"validation", "test"}
        Which videos to take.

    Returns
    -------
    Dataset
        ``absent`` has the videos that the annotations of these subsets name and that have no file.

    Raises
    ------
    DatasetError
        If there is no such video, an id has two files, or an annotation cannot be read.
    """
    unknown = sorted(set(subsets) - set(OFFICIAL_COUNTS))
    if unknown or not subsets:
        raise DatasetError(f"subsets must be some of validation, test, got {', '.join(unknown)}")
    tree = Tree.below(Path(root))
    paths = _find_videos(tree, subsets)
    class_names = _class_names(tree)
    segments, ambiguous = _find_segments(tree, class_names, subsets)
    records = []
    for video_id, name in sorted(paths.items(), key=lambda entry: entry[0]):
        own = tuple(sorted(segments.get(video_id, ()), key=lambda s: (s.start_s, s.end_s, s.label)))
        labels = tuple(sorted({segment.label for segment in own}))
        subset = video_id.split("_")[1]
        records.append(VideoRecord(video_id, tree.path(name), labels, subset, segments=own))
    absent = tuple(VideoRecord(video_id, "") for video_id in sorted(set(segments) - set(paths)))
    note = _note(paths, segments, ambiguous, subsets)
    return Dataset("thumos14", class_names, tuple(records), absent, note=note)


def _find_videos(tree: Tree, subsets: Sequence[str]) -> dict[str, str]:
    places: dict[str, list[str]] = defaultdict(list)
    for name in tree.files:
        found = _VIDEO.fullmatch(posixpath.basename(name))
        if found and is_video(name) and found[2].lower() in subsets:
            places[found[1].lower()].append(name)
    twice = [f"{key}: {' and '.join(map(tree.path, p))}" for key, p in places.items() if len(p) > 1]
    if twice:
        shown = "\n  ".join(sorted(twice)[:10])
        raise DatasetError(
            f"{len(twice)} videos below {tree.root} have more than one file; "
            f"remove or move away all but one of each\n  {shown}",
            reason="video_id",
        )
    if not places:
        raise DatasetError(_nothing(tree, subsets))
    return {video_id: names[0] for video_id, names in places.items()}


def _nothing(tree: Tree, subsets: Sequence[str]) -> str:
    wanted = " or ".join(f"video_{subset}_0000001.mp4" for subset in subsets)
    archives = [name for name in tree.files if name.lower().endswith(".zip")]
    if archives:
        way_out = f"unpack {tree.path(archives[0])} first (its password is on the THUMOS14 site)"
    else:
        way_out = "give the folder that holds the unpacked THUMOS14 archives as --root"
    return f"no THUMOS14 video such as {wanted} below {tree.root}; {way_out}"


def _class_names(tree: Tree) -> tuple[str, ...]:
    """Names by detclasslist.txt, ``7 BaseballPitch`` a line, else as built in."""
    lists = [n for n in tree.files if posixpath.basename(n).lower() == "detclasslist.txt"]
    if not lists:
        return CLASS_NAMES
    path = Path(tree.path(lists[0]))
    rows = [line.split() for line in _text(path).splitlines() if line.strip()]
    wrong = next((k for k, row in enumerate(rows, 1) if len(row) != 2), None)
    if wrong is not None or not rows:
        raise DatasetError(f"{path}:{wrong or 1} must read '7 BaseballPitch'")
    return tuple(name for _, name in rows)


def _find_segments(
    tree: Tree, class_names: Sequence[str], subsets: Sequence[str]
) -> tuple[dict[str, list[Segment]], int]:
    """Segments by video id, and how many stretches are marked ambiguous."""
    label = {name: k for k, name in enumerate(class_names)}
    segments: dict[str, list[Segment]] = defaultdict(list)
    read: dict[str, Path] = {}
    ambiguous = 0
    for name in tree.files:
        file_name = posixpath.basename(name)
        found = _ANNOTATION.fullmatch(file_name)
        if not found or found[1] not in (*label, "Ambiguous") or _SUBSETS[found[2]] not in subsets:
            continue
        path = Path(tree.path(name))
        if file_name in read:  # the archives of the evaluation kit bring a second copy
            if _text(read[file_name]).split() != _text(path).split():
                raise DatasetError(
                    f"{read[file_name]} and {path} differ; remove or move away one of them"
                )
            continue
        read[file_name] = path
        rows = _read_annotation(path)
        if found[1] == "Ambiguous":
            ambiguous += len(rows)
        else:
            for video_id, start_s, end_s in rows:
                segments[video_id].append(Segment(label[found[1]], start_s, end_s))
    return segments, ambiguous


def _read_annotation(path: Path) -> list[tuple[str, float, float]]:
    rows = []
    for number, line in enumerate(_text(path).splitlines(), 1):
        if not line.strip():
            continue
        found = _ROW.fullmatch(line.strip())
        if found is None or float(found[2]) > float(found[3]):
            raise DatasetError(
                f"{path}:{number} must read 'video_validation_0000001  start end' in seconds, "
                f"got {line.strip()!r}"
            )
        rows.append((found[1], float(found[2]), float(found[3])))
    return rows


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise DatasetError(f"cannot read {path}: {error}") from error


def _note(
    paths: dict[str, str],
    segments: dict[str, list[Segment]],
    ambiguous: int,
    subsets: Sequence[str],
) -> str:
    notes = []
    for subset in OFFICIAL_COUNTS:
        if subset in subsets:
            count = sum(video_id.split("_")[1] == subset for video_id in paths)
            notes.append(f"{count} of {OFFICIAL_COUNTS[subset]} official {subset} videos found.")
    if segments:
        count = sum(map(len, segments.values()))
        notes.append(
            f"{count} segments of {len(segments)} videos annotated, "
            f"{ambiguous} more stretches marked ambiguous are left out."
        )
    else:
        notes.append("No temporal annotations (<Class>_val.txt) found, so videos have no labels.")
    bad = [video_id for video_id in BAD_TEST_VIDEOS if video_id in paths]
    if bad:
        notes.append(f"{', '.join(bad)}: faulty annotation, commonly left out of evaluation.")
    return " ".join(notes)
