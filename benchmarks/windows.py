"""M-TWI on random scores: snippets that the paper's formula omits, and its distance to the code.

    python benchmarks/windows.py

For videos of several lengths at one snippet a second, windows of 1, 2, 4, 8 and 16 snippets: the
snippets that are in no window of the paper's formula, and the difference of its scores from
those of the authors' code, once with each one's own pooling of crops and once with the maximum in
both, so that only the windows differ. The code's windows leave out no snippet.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from flowpipe.tsn.recipe import TestParams
from flowpipe.tsn.testing import mtwi

LENGTHS = TestParams().windows
VARIANTS: tuple[mtwi.Variant, ...] = ("code", "paper")
SNIPPETS = (10, 20, 30, 60, 120, 300, 600)
VIDEOS, CROPS, CLASSES = 200, 10, 20
MOST = 600


def main() -> None:
    """Print the two tables."""
    argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0]).parse_args()
    print(f"paper's formula, videos of 1 to {MOST} snippets")
    for length in LENGTHS:
        lost = [count_left_out(count, length) for count in range(1, MOST + 1)]
        share = 100 * np.mean(np.array(lost) > 0)
        print(f"  windows of {length}: at most {max(lost)} left out, some in {share:.0f} % of them")
    print(
        f"\npaper against code, {VIDEOS} videos of {CLASSES} classes and {CROPS} crops; scores have"
    )
    print("random scores with a standard deviation of 1 over snippets and of 0.5 over crops")
    columns = ("distance", "top-1 differs", "windows alone", "top-1 differs")
    print(f"{'snippets':10}" + "".join(f"{column:>16}" for column in columns))
    rng = np.random.default_rng(0)
    for count in SNIPPETS:
        videos = [video(count, rng) for _ in range(VIDEOS)]
        own = compare(videos)
        windows = compare([one.max(1, keepdims=True) for one in videos])
        values = f"{own[0]:16.3f}{own[1]:14.1%}  {windows[0]:14.3f}{windows[1]:14.1%}"
        print(f"{count:<10}{values}")


def video(count: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """Return random scores, (count, crops, classes)."""
    made: NDArray[np.float64] = rng.normal(size=(count, 1, CLASSES))
    return made + 0.5 * rng.normal(size=(count, CROPS, CLASSES))


def count_left_out(count: int, length: int) -> int:
    """Return how many of `count` snippets are in no window of the paper's formula."""
    return count - len({k for one in mtwi.windows_of(count, length, "paper") for k in one})


def compare(videos: Sequence[NDArray[np.float64]]) -> tuple[float, float]:
    """Return the mean distance of two scores, and how often the highest class differs."""
    pairs = [[mtwi.aggregate(one, LENGTHS, variant) for variant in VARIANTS] for one in videos]
    distance = float(np.mean([np.abs(one - other).mean() for one, other in pairs]))
    return distance, float(np.mean([one.argmax() != other.argmax() for one, other in pairs]))


if __name__ == "__main__":
    main()
