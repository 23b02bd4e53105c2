"""Working ahead in a thread: the same steps, the same errors, and nothing left running."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from flowpipe.ahead import ahead


def test_steps_come_in_order() -> None:
    assert list(ahead(iter(range(100)))) == list(range(100))


def test_an_error_comes_after_the_steps_before_it() -> None:
    def steps() -> Iterator[int]:
        yield 1
        yield 2
        raise KeyError("third")

    seen = []
    with pytest.raises(KeyError, match="third"):
        for step in ahead(steps()):
            seen.append(step)
    assert seen == [1, 2]


def test_it_stays_within_its_depth() -> None:
    made = []

    def steps() -> Iterator[int]:
        for k in range(50):
            made.append(k)
            yield k

    for step in ahead(steps(), depth=3):
        # The one handed out, three in the queue, and one in the thread's hand.
        assert len(made) <= step + 5


def test_stopping_early_closes_the_steps_in_their_own_thread() -> None:
    closed_in = []

    def steps() -> Iterator[int]:
        try:
            while True:
                yield 0
        finally:
            closed_in.append(threading.current_thread())

    for _ in ahead(steps()):
        break
    assert len(closed_in) == 1
    assert closed_in[0] is not threading.current_thread()
    assert not closed_in[0].is_alive()


def test_nested_threads_end_together() -> None:
    before = threading.active_count()
    for step in ahead(ahead(iter(range(1000)))):
        if step == 3:
            break
    assert threading.active_count() == before
