"""Small ground truth and detections on which the official codes differ; see test_detections.py."""

from __future__ import annotations

import json
from pathlib import Path

SEGMENTS = {
    # video: (class, start, end); Diving of the first is not in the order of time, on purpose
    "video_test_0000004": [
        ("Diving", 30.0, 40.0), ("Diving", 10.0, 20.0), ("Diving", 21.0, 26.0),
        ("GolfSwing", 50.0, 53.5),
    ],
    "video_test_0000006": [("Diving", 5.0, 9.0), ("GolfSwing", 0.0, 10.0), ("GolfSwing", 2.0, 9.0)],
    "video_test_0000007": [("GolfSwing", 1.1, 1.3)],
}  # fmt: skip
AMBIGUOUS = {"video_test_0000006": [(20.0, 25.0)], "video_test_0000007": [(8.0, 9.0)]}
DETECTIONS = [
    ("video_test_0000004", 10.0, 21.0, "Diving", 0.9),
    ("video_test_0000004", 11.0, 19.0, "Diving", 0.9),  # a repetition, with the same score
    ("video_test_0000004", 14.0, 25.5, "Diving", 0.8),  # of two segments
    ("video_test_0000004", 35.0, 40.0, "Diving", 0.7),  # a tIoU of exactly 0.5
    ("video_test_0000006", 24.0, 29.0, "Diving", 0.95),  # ambiguous
    ("video_test_0000006", 6.0, 9.5, "Diving", 0.7),
    ("video_test_0000008", 0.0, 5.0, "Diving", 0.7),  # a video without segments
    ("video_test_0000006", 1.0, 9.5, "GolfSwing", 0.6),
    ("video_test_0000006", 3.0, 9.0, "GolfSwing", 0.4),
    ("video_test_0000004", 50.5, 53.5, "GolfSwing", 0.5),
    ("video_test_0000004", 49.0, 55.0, "GolfSwing", 0.55),
    ("video_test_0000007", 1.15, 1.3, "GolfSwing", 0.3),
    ("video_test_0000007", 5.0, 8.5, "GolfSwing", 0.8),  # ambiguous
]
NUMBERS = {"Diving": 26, "GolfSwing": 33}


def write_thumos14(folder: Path) -> Path:
    """Write the annotations of the two classes in the form of THUMOS14."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in NUMBERS:
        lines = [
            f"{video_id}  {start} {end}\n"
            for video_id, own in SEGMENTS.items()
            for label, start, end in own
            if label == name
        ]
        (folder / f"{name}_test.txt").write_text("".join(lines))
    (folder / "Ambiguous_test.txt").write_text(
        "".join(f"{key}  {a} {b}\n" for key, own in AMBIGUOUS.items() for a, b in own)
    )
    return folder


def write_text(path: Path, suffix: str = "") -> Path:
    """Write the detections in the form of THUMOS14."""
    rows = ((f"{v}{suffix}", a, b, NUMBERS[name], score) for v, a, b, name, score in DETECTIONS)
    path.write_text("".join("\t".join(map(str, row)) + "\n" for row in rows))
    return path


def write_json(path: Path, prefix: str = "", **changes: object) -> Path:
    """Write the detections in the form of ActivityNet; `changes` replace the outer values."""
    results: dict[str, list[object]] = {}
    for video_id, start, end, name, score in DETECTIONS:
        one = {"label": name, "score": score, "segment": [start, end]}
        results.setdefault(prefix + video_id, []).append(one)
    values = {"version": "VERSION 1.3", "results": results, "external_data": {}, **changes}
    path.write_text(json.dumps(values))
    return path


def write_activitynet(path: Path, **changes: object) -> Path:
    """Write the segments in the form of ActivityNet's annotations."""
    database = {
        video_id: {
            "subset": "validation",
            "annotations": [{"label": name, "segment": [a, b]} for name, a, b in own],
        }
        for video_id, own in SEGMENTS.items()
    }
    path.write_text(json.dumps({"database": database, "taxonomy": [], "version": "x", **changes}))
    return path
