"""Scores -> a results file that ActivityNet's evaluation of classification reads."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from flowpipe.atomic import write_atomic
from flowpipe.evaluation.detections import VERSION
from flowpipe.evaluation.scores import Scores


def write_activitynet_results(path: Path, scores: Scores, class_names: Sequence[str]) -> None:
    """Write the scores of all classes of each video as ActivityNet's JSON, atomically.

    Parameters
    ----------
    path : Path
        File to write.
    scores : Scores
        Scores of the videos.
    class_names : sequence of str
        Names of the classes, C.

    Raises
    ------
    UsageError
        If the file cannot be written.

    Notes
    -----
    Source: https://github.com/activitynet/ActivityNet, Evaluation/eval_classification.py.
    """
    results = {
        video_id: [
            {"label": name, "score": score} for name, score in zip(class_names, row, strict=True)
        ]
        for video_id, row in zip(scores.video_ids, scores.values.tolist(), strict=True)
    }
    content = {
        "version": VERSION,
        "results": results,
        "external_data": {"used": False, "details": ""},
    }
    text = json.dumps(content, ensure_ascii=False)
    write_atomic(path, text.encode(), "results")
