"""DETECTION_PROTOCOLS: detections + instances -> mean average precision by tIoU threshold.

============================ =======================================================================
``thumos14-detection``       tIoU above 0.1 to 0.7, average precision not interpolated
                             (``TH14evalDet`` of the evaluation kit of 2015)
``thumos14-detection-11``    the same matches, precision interpolated at 11 recalls (kit of 2014)
``activitynet-detection``    tIoU of at least 0.5 to 0.95, average precision interpolated at all
                             recalls (``eval_detection.py`` of the official code)
============================ =======================================================================

The protocols differ in how detections are matched, see `thumos14_detection` and
`activitynet_detection`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from flowpipe.evaluation import activitynet_detection, thumos14_detection
from flowpipe.evaluation.detections import Detections
from flowpipe.evaluation.instances import (
    ClassDetections,
    ClassInstances,
    InstanceGroundTruth,
    detections_of_class,
)

FloatArray = NDArray[np.float64]


@dataclass(frozen=True)
class DetectionProtocol:
    """A row of `DETECTION_PROTOCOLS`."""

    name: str
    tiou: tuple[float, ...]
    """tIoU thresholds of the published figures."""
    average_precision: Callable[[ClassDetections, ClassInstances, Sequence[float]], FloatArray]
    """Returns the average precision of a class at each threshold."""


_THUMOS14_TIOU = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7)

DETECTION_PROTOCOLS = {
    row.name: row
    for row in (
        DetectionProtocol(
            "thumos14-detection", _THUMOS14_TIOU, thumos14_detection.average_precision
        ),
        DetectionProtocol(
            "thumos14-detection-11",
            _THUMOS14_TIOU,
            thumos14_detection.interpolated_average_precision,
        ),
        DetectionProtocol(
            "activitynet-detection",
            tuple(np.linspace(0.5, 0.95, 10).tolist()),
            activitynet_detection.average_precision,
        ),
    )
}


@dataclass(frozen=True)
class DetectionResult:
    """Figures of one split, shares in [0, 1]."""

    tiou: tuple[float, ...]
    labels: tuple[int, ...]
    """Classes that have instances, C."""
    by_class: FloatArray
    """Average precision by threshold and class, (len(tiou), C)."""

    @property
    def mean_average_precision(self) -> FloatArray:
        """Mean over the classes at each threshold, (len(tiou),)."""
        return np.asarray(self.by_class.mean(axis=1))

    @property
    def average(self) -> float:
        """Mean of `mean_average_precision`, the average mAP."""
        return float(self.mean_average_precision.mean())


def evaluate_detections(
    protocol: DetectionProtocol,
    found: Detections,
    truth: InstanceGroundTruth,
    tiou: Sequence[float] = (),
) -> DetectionResult:
    """Compute the figures of one split.

    Parameters
    ----------
    protocol : DetectionProtocol
        Row of `DETECTION_PROTOCOLS`.
    found : Detections
        Detections of videos without instances are false positives.
    truth : InstanceGroundTruth
        Classes without instances do not count.
    tiou : sequence of float
        Thresholds in place of the protocol's own.

    Returns
    -------
    DetectionResult
        Average precision by threshold and class.
    """
    thresholds = tuple(tiou) or protocol.tiou
    by_class = [
        protocol.average_precision(detections_of_class(found, label), instances, thresholds)
        for label, instances in truth.classes.items()
    ]
    return DetectionResult(thresholds, tuple(truth.classes), np.stack(by_class, axis=1))
