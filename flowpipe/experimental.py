"""Features that no GPU has run yet: help, doctor and the documentation call them experimental."""

from __future__ import annotations

EXPERIMENTAL = {
    "cuda": "flow and features by the CUDA kernels, flow by RAFT (`--device cuda`, `--gpus`)",
    "nvdec": "decoding on NVDEC (`--decoder nvdec`)",
    "opencv_cuda_*": "OpenCV's CUDA flows (`flow=opencv_cuda_tvl1` and three others)",
}
"""Feature -> what it covers. A feature leaves the table when its tests have run on a GPU."""


def describe_experimental(feature: str) -> str:
    """Return a sentence that marks a feature as experimental, or "" if it is not.

    Parameters
    ----------
    feature : str
        Name of a feature, as in `EXPERIMENTAL`.

    Returns
    -------
    str
        Sentence, with a full stop.

    Examples
    --------
    >>> describe_experimental("cpu")
    ''
    """
    if feature not in EXPERIMENTAL:
        return ""
    return f"{feature} is experimental: its tests have not run on a GPU yet."
