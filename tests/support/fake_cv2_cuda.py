"""Stand-in of cv2.cuda: proves how flows call OpenCV's CUDA classes, not what these compute.

Names, order and types of arguments are those that `help` shows of a cv2 4.14 built with CUDA, and
the stand-in is as strict as that binding. It keeps from call to call what a real object keeps.
OpenCV's CPU code computes the flow: shapes, units and directions are real, values, speed, memory
and errors of a GPU are not.
"""

from __future__ import annotations

import cv2
import numpy as np

created: list[tuple[str, tuple]] = []
"""Class and arguments of every object made."""


def install(monkeypatch, devices: int = 1) -> None:
    """Put the classes into cv2 until the test ends."""
    created.clear()
    monkeypatch.setattr(cv2.cuda, "getCudaEnabledDeviceCount", lambda: devices)
    for cls in (GpuMat, *FLOWS):
        monkeypatch.setattr(cv2, f"cuda_{cls.__name__}", cls, raising=False)


def check_types(*pairs) -> None:
    """Refuse what the binding would not parse: a float for an int, anything but bool for a bool."""
    for value, kind in pairs:
        if kind is float:
            good = isinstance(value, (int, float)) and not isinstance(value, bool)
        else:
            good = type(value) is kind
        if not good:
            raise TypeError(f"wanted {kind.__name__}, got {value!r}")


def check(good: bool, what: str) -> None:
    if not good:
        raise cv2.error(f"OpenCV(4.14.0) error: (-215:Assertion failed) {what}")


class GpuMat:
    """Empty at first: what fails while ``GpuMat(image)`` uploads is a SystemError of Python."""

    def __init__(self):
        self._array = np.empty((0, 0), np.uint8)

    def upload(self, arr):
        assert isinstance(arr, np.ndarray)
        self._array = arr.copy()

    def download(self):
        return self._array.copy()


def upload(array) -> GpuMat:
    made = GpuMat()
    made.upload(array)
    return made


def check_pair(first, second, flow, dtypes):
    """Check the arguments of `calc` as cv2 does; return the two host images."""
    assert type(first) is GpuMat and type(second) is GpuMat and flow is None
    first, second = first.download(), second.download()
    check(first.shape == second.shape and first.ndim == 2, "I0.size() == I1.size()")
    check(first.dtype == second.dtype and first.dtype in dtypes, "I0.type() == CV_...")
    check(min(first.shape) > 1, "cudaCreateTextureObject: invalid argument")
    return first, second


class OpticalFlowDual_TVL1:
    @staticmethod
    def create(tau=0.25, lambda_=0.15, theta=0.3, nscales=5, warps=5, epsilon=0.01, iterations=300,
               scaleStep=0.8, gamma=0.0, useInitialFlow=False):  # fmt: skip
        check_types((tau, float), (lambda_, float), (theta, float), (nscales, int), (warps, int),
               (epsilon, float), (iterations, int), (scaleStep, float), (gamma, float),
               (useInitialFlow, bool))  # fmt: skip
        made = OpticalFlowDual_TVL1()
        made._settings = tau, lambda_, theta, nscales, warps, epsilon, iterations, scaleStep
        made._nscales = nscales
        created.append(("OpticalFlowDual_TVL1", (*made._settings, gamma, useInitialFlow)))
        return made

    def calc(self, I0, I1, flow, stream=None):
        first, second = check_pair(I0, I1, flow, (np.uint8, np.float32))
        tau, lambda_, theta, _, warps, epsilon, _, step = self._settings
        height, width = first.shape
        for s in range(1, self._nscales):
            height, width = round(height * step), round(width * step)
            if min(height, width) < 16:
                self._nscales = s  # and so it stays, in OpenCV too
                break
        peer = cv2.optflow.DualTVL1OpticalFlow_create(
            tau, lambda_, theta, self._nscales, warps, epsilon, 30, 10, step, 0.0, 1, False
        )
        return upload(peer.calc(first, second, None))


class BroxOpticalFlow:
    @staticmethod
    def create(alpha=0.197, gamma=50.0, scale_factor=0.8, inner_iterations=5, outer_iterations=150,
               solver_iterations=10):  # fmt: skip
        check_types((alpha, float), (gamma, float), (scale_factor, float), (inner_iterations, int),
               (outer_iterations, int), (solver_iterations, int))  # fmt: skip
        settings = alpha, gamma, scale_factor, inner_iterations, outer_iterations, solver_iterations
        created.append(("BroxOpticalFlow", settings))
        return BroxOpticalFlow()

    def calc(self, I0, I1, flow, stream=None):
        first, second = check_pair(I0, I1, flow, (np.float32,))
        assert max(first.max(), second.max()) <= 1, "its constants are for images in [0, 1]"
        return upload(dis(*(np.rint(255 * image).astype(np.uint8) for image in (first, second))))


class FarnebackOpticalFlow:
    @staticmethod
    def create(numLevels=5, pyrScale=0.5, fastPyramids=False, winSize=13, numIters=10, polyN=5,
               polySigma=1.1, flags=0):  # fmt: skip
        check_types((numLevels, int), (pyrScale, float), (fastPyramids, bool), (winSize, int),
               (numIters, int), (polyN, int), (polySigma, float), (flags, int))  # fmt: skip
        made = FarnebackOpticalFlow()
        made._settings = pyrScale, numLevels, winSize, numIters, polyN, polySigma, flags
        created.append((
            "FarnebackOpticalFlow",
            (numLevels, pyrScale, fastPyramids, winSize, numIters, polyN, polySigma, flags),
        ))  # fmt: skip
        return made

    def calc(self, I0, I1, flow, stream=None):
        first, second = check_pair(I0, I1, flow, (np.uint8, np.float32))
        return upload(cv2.calcOpticalFlowFarneback(first, second, None, *self._settings))


class NvidiaOpticalFlow_2_0:
    @staticmethod
    def create(imageSize, perfPreset=5, outputGridSize=1, hintGridSize=1, enableTemporalHints=False,
               enableExternalHints=False, enableCostBuffer=False, gpuId=0):  # fmt: skip
        check_types(*((n, int) for n in imageSize), (perfPreset, int), (outputGridSize, int),
               (hintGridSize, int), (enableTemporalHints, bool), (enableExternalHints, bool),
               (enableCostBuffer, bool), (gpuId, int))  # fmt: skip
        check(min(imageSize) >= 16, "NV_OF_ERR_INVALID_PARAM")
        check(outputGridSize in (1, 2, 4), "Unsupported output grid size")
        made = NvidiaOpticalFlow_2_0()
        made._size, made._grid = imageSize, outputGridSize
        created.append((
            "NvidiaOpticalFlow_2_0",
            (imageSize, perfPreset, outputGridSize, hintGridSize, enableTemporalHints,
             enableExternalHints, enableCostBuffer, gpuId),
        ))  # fmt: skip
        return made

    def getGridSize(self):
        return self._grid

    def calc(self, inputImage, referenceImage, flow, stream=None, hint=None, cost=None):
        assert flow is None
        for image in (inputImage, referenceImage):
            assert isinstance(image, np.ndarray) and image.dtype == np.uint8
            check(image.shape[::-1] == self._size, "the session has another size")
        grid, (width, height) = self._grid, self._size
        # The vector of a block is that of its middle; the last blocks may reach over the border.
        y = np.minimum(np.arange(0, height, grid) + grid // 2, height - 1)
        x = np.minimum(np.arange(0, width, grid) + grid // 2, width - 1)
        vectors = dis(inputImage, referenceImage)[y[:, None], x]
        return np.rint(32 * vectors).astype(np.int16), None

    def convertToFloat(self, flow, floatFlow):
        assert flow.dtype == np.int16 and floatFlow is None
        return flow.astype(np.float32) / 32


def dis(first, second):
    if min(first.shape) < 16:
        return np.zeros((*first.shape, 2), np.float32)
    algorithm = cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    return algorithm.calc(first, second, None)


FLOWS = OpticalFlowDual_TVL1, BroxOpticalFlow, FarnebackOpticalFlow, NvidiaOpticalFlow_2_0
