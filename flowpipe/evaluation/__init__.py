"""Scores + labels of videos -> the figures that papers report, as each data set defines them."""

from flowpipe.evaluation.fusion import fused, probabilities, sigmoid, softmax
from flowpipe.evaluation.ground_truth import Truth, test_splits, truth_of
from flowpipe.evaluation.protocols import PROTOCOLS, Protocol, Result, evaluate, protocol_of
from flowpipe.evaluation.scores import Scores, read_facts, read_h5, read_scores, write_scores

__all__ = [
    "PROTOCOLS", "Protocol", "Result", "Scores", "Truth", "evaluate", "fused", "protocol_of",
    "probabilities", "read_facts", "read_h5", "read_scores", "sigmoid", "softmax", "test_splits",
    "truth_of", "write_scores",
]  # fmt: skip
