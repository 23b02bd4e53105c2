"""Scores + labels of videos -> the figures that papers report, as each data set defines them."""

from flowpipe.evaluation.activitynet_results import write_activitynet_results
from flowpipe.evaluation.fusion import fuse, probabilities, sigmoid, softmax
from flowpipe.evaluation.ground_truth import select_ground_truth, test_splits
from flowpipe.evaluation.original_scores import read_original_scores
from flowpipe.evaluation.protocols import PROTOCOLS, Result, evaluate
from flowpipe.evaluation.scores import Scores, read_facts, read_h5, read_scores, write_scores

__all__ = [
    "PROTOCOLS", "Result", "Scores", "evaluate", "fuse", "probabilities",
    "read_facts", "read_h5", "read_original_scores", "read_scores", "select_ground_truth",
    "sigmoid", "softmax", "test_splits", "write_activitynet_results", "write_scores",
]  # fmt: skip
