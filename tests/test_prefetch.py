"""Working ahead in a thread: the same steps, the same errors, and no thread left."""

from __future__ import annotations

import gc
import threading
import weakref
from collections.abc import Callable, Iterator

import pytest

from flowpipe.prefetch import CallerThread, WorkerThread, prefetch


def test_steps_come_in_order() -> None:
    assert list(prefetch(iter(range(100)))) == list(range(100))


def test_an_error_comes_after_the_steps_before_it() -> None:
    def steps() -> Iterator[int]:
        yield 1
        yield 2
        raise KeyError("third")

    seen = []
    with pytest.raises(KeyError, match="third"):
        for step in prefetch(steps()):
            seen.append(step)
    assert seen == [1, 2]


def test_it_stays_within_its_depth() -> None:
    made = []

    def steps() -> Iterator[int]:
        for k in range(50):
            made.append(k)
            yield k

    for step in prefetch(steps(), depth=3):
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

    for _ in prefetch(steps()):
        break
    assert len(closed_in) == 1
    assert closed_in[0] is not threading.current_thread()
    assert not closed_in[0].is_alive()


def test_nested_threads_end_together() -> None:
    before = threading.active_count()
    for step in prefetch(prefetch(iter(range(1000)))):
        if step == 3:
            break
    assert threading.active_count() == before


class Taken:
    """Something large."""


@pytest.mark.parametrize(
    "make", [CallerThread, lambda: WorkerThread("one")], ids=["at once", "thread"]
)
def test_a_failed_call_holds_nothing_but_its_error(
    make: Callable[[], CallerThread | WorkerThread],
) -> None:
    held = []

    def inner() -> None:
        taken = Taken()
        held.append(weakref.ref(taken))
        raise KeyError("inner")

    def call() -> None:
        taken = Taken()
        held.append(weakref.ref(taken))
        try:
            inner()
        except KeyError as error:
            raise ValueError("outer") from error

    with make() as calls:
        future = calls.submit(call)
        assert isinstance(future.exception(), ValueError)
    gc.collect()
    assert [reference() for reference in held] == [None, None]
