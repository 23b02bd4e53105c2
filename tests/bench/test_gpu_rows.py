"""Rows that run on a GPU, on the emulator: what is measured is there when the clock stops."""

from __future__ import annotations

import pytest
from emulated import emulated_ops

from flowpipe.bench import Meter, batches, flow_rows, made_pairs, rows, sweep
from flowpipe.flow.tvl1 import TVL1Params
from flowpipe.ops.cpu import native_core

pytestmark = pytest.mark.skipif(not native_core().available, reason=native_core().reason or "none")


@pytest.fixture
def pairs():
    return made_pairs(2, 40, 50)


def test_the_flow_of_a_row_is_that_of_the_cpu(pairs, monkeypatch):
    get_ops, on_gpu = rows.get_ops, emulated_ops()
    monkeypatch.setattr(
        rows, "get_ops", lambda device="cpu", isa=None: on_gpu if device == "cuda" else get_ops()
    )
    by_name = {row.name: row for row in flow_rows()}
    meter, distances = Meter(pairs, 1), []
    for name in (rows.PEER, "flowpipe-opencv2", "flowpipe-opencv2-cuda"):
        figures = meter.measure(by_name[name])
        assert figures.clock == ("wall" if name.endswith("cuda") else "cpu")
        distances.append(figures.difference_px)
    assert distances[0] == 0
    assert distances[2] == pytest.approx(distances[1], abs=1e-3)


def test_pairs_are_taken_again_for_larger_batches(pairs, monkeypatch):
    monkeypatch.setattr(batches, "BATCHES", (1, 3))
    said = []
    found = list(sweep(emulated_ops(), pairs, TVL1Params(warps=1), 1, said.append))
    assert said == [
        "counting the iterations of 2 pairs on the CPU",
        "measuring 1 pair per call", "pass 1 of at most 1",
        "measuring 3 pairs per call", "pass 1 of at most 1",
    ]  # fmt: skip
    assert [batch.pairs for batch in found] == [1, 3]
    for batch in found:
        assert batch.pairs_per_s > 0 and 0 < batch.share < 1


def test_work_is_what_the_iterations_come_to(pairs):
    one, two = (
        batches.pixel_iterations(TVL1Params(scales=1, warps=n, iterations=8, epsilon=0.0),
                                 pairs.first[:1], pairs.second[:1])
        for n in (1, 2)
    )  # fmt: skip
    assert (one, two) == (8 * 40 * 50, 2 * 8 * 40 * 50)
