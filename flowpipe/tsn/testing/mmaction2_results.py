"""Scores -> a results file that mmaction2's evaluation reads."""

from __future__ import annotations

import io
import pickle
from pathlib import Path

import torch

from flowpipe.atomic import write_atomic
from flowpipe.errors import UsageError
from flowpipe.evaluation import Scores


def write_mmaction2_results(path: Path, scores: Scores) -> None:
    """Write scores and labels as mmaction2's DumpResults does, atomically.

    ``tools/analysis_tools/report_accuracy.py`` and ``eval_metric.py`` read the file: a pickled list
    of a dict per video with ``pred_score``, float32 (C,), and ``gt_label``, int64: (1,), or 0 and 1
    of all classes, (C,), if a video has another number of labels than one.

    Parameters
    ----------
    path : Path
        File to write.
    scores : Scores
        Scores with labels.

    Raises
    ------
    UsageError
        If the scores have no labels, or the file cannot be written.

    Notes
    -----
    Source: https://github.com/open-mmlab/mmaction2, mmaction/evaluation/metrics/acc_metric.py.
    """
    if scores.positives is None:
        raise UsageError(f"{scores.source} has no labels, which a file for mmaction2 needs")
    is_single = bool((scores.positives.sum(1) == 1).all())
    labels = scores.positives.argmax(1)[:, None] if is_single else scores.positives
    rows = [
        {"pred_score": one, "gt_label": label}
        for one, label in zip(
            torch.from_numpy(scores.values).float(), torch.from_numpy(labels).long(), strict=True
        )
    ]
    content = io.BytesIO()
    pickle.dump(rows, content)
    write_atomic(path, content.getvalue(), "results")
