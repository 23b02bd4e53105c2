from __future__ import annotations

import pytest

from flowpipe.cli.networks import weights_of
from flowpipe.errors import UsageError


@pytest.mark.parametrize(
    ("text", "streams", "weights"),
    [(None, 2, [1, 1]), ("1,1.5", 2, [1, 1.5]), ("0, 2", 2, [0, 2]), ("3", 1, [3])],
)
def test_weights(text: str | None, streams: int, weights: list[float]) -> None:
    assert weights_of(text, streams) == weights


@pytest.mark.parametrize("text", ["1", "1,2,3", "1,x", "1,", "-1,2", "0,0", "nan,1", "inf,1"])
def test_weights_that_are_refused(text: str) -> None:
    with pytest.raises(UsageError, match=f"wants 2 numbers from 0 up, as 1,1.5, got {text}"):
        weights_of(text, 2)
