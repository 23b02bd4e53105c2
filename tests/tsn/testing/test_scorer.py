"""A trained network in tests: bounded memory, and batches that give the scores of the whole."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs torch")

from command import wait_for  # noqa: E402
from tiny_training import job, run  # noqa: E402

from flowpipe.store import open_store  # noqa: E402
from flowpipe.tsn.run_folder import LAST  # noqa: E402
from flowpipe.tsn.testing import scorer  # noqa: E402
from flowpipe.tsn.testing.scorer import SnippetScorer  # noqa: E402


@pytest.fixture(scope="module")
def trained(store: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of rgb_diff, two images of three colours a snippet."""
    wanted = job(store, tmp_path_factory.mktemp("network"), modality="rgb_diff", end=1)
    run(wanted)
    return wanted.run


def sizes_of(network: SnippetScorer) -> list[int]:
    """Numbers of inputs that the network gets from now on, a number for each call."""
    sizes: list[int] = []
    network.model.base_model.register_forward_pre_hook(lambda _, x: sizes.append(len(x[0])))
    return sizes


@pytest.mark.parametrize("crops", [1, 5, 10])
@pytest.mark.parametrize("snippets", [1, 3, 10, 25, 53])
def test_crops_are_made_a_few_at_a_time(
    trained: Path, store: Path, crops: int, snippets: int
) -> None:
    network, opened = SnippetScorer(trained, LAST, "cpu"), open_store(store)
    sizes = sizes_of(network)
    starts = np.arange(snippets) % 7
    found = network.snippet_scores(opened, "video 03", starts, crops, "repeat")
    assert found.scores.shape == (snippets, crops, 3) and found.features.shape == (snippets, 8)
    assert max(sizes) <= network.views and sum(sizes) == snippets * crops
    # Each snippet is what it is alone, and snippets that begin together are equal.
    alone = network.snippet_scores(opened, "video 03", starts[:1], crops, "repeat")
    np.testing.assert_allclose(found.scores[0], alone.scores[0], rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(found.features[0], alone.features[0], rtol=1e-5, atol=1e-6)
    if snippets > 7:
        np.testing.assert_allclose(found.scores[7], found.scores[0], rtol=1e-5, atol=1e-6)


def test_large_images_are_decoded_a_few_snippets_at_a_time(
    trained: Path, store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    network, opened = SnippetScorer(trained, LAST, "cpu"), open_store(store)
    starts = np.arange(9)
    whole = network.snippet_scores(opened, "video 11", starts, 10, "repeat")
    snippet_bytes = 3 * 36 * 48 * 3
    monkeypatch.setattr(scorer, "PART_BYTES", 2 * snippet_bytes + 1)
    sizes = sizes_of(network)
    parts = network.snippet_scores(opened, "video 11", starts, 10, "repeat")
    assert max(sizes) <= network.views and len(sizes) == 4 * 2 + 1
    np.testing.assert_allclose(parts.scores, whole.scores, rtol=1e-5, atol=1e-6)
    monkeypatch.setattr(scorer, "PART_BYTES", 1)  # one snippet has more
    single = network.snippet_scores(opened, "video 11", starts, 10, "repeat")
    np.testing.assert_allclose(single.scores, whole.scores, rtol=1e-5, atol=1e-6)


def test_videos_come_in_their_order_each_with_its_own_snippets(trained: Path, store: Path) -> None:
    network, opened = SnippetScorer(trained, LAST, "cpu"), open_store(store)
    wanted = [("video 07", np.arange(23)), ("video 00", np.arange(1)), ("video 08", np.arange(10))]
    found = list(network.score_videos(opened, wanted, 1, "repeat"))
    assert [len(one.scores) for one in found] == [23, 1, 10]
    for (video_id, starts), one in zip(wanted, found, strict=True):
        alone = network.snippet_scores(opened, video_id, starts, 1, "repeat")
        np.testing.assert_allclose(one.scores, alone.scores, rtol=1e-5, atol=1e-6)


def test_the_next_video_is_decoded_while_the_network_computes(trained: Path, store: Path) -> None:
    network, opened = SnippetScorer(trained, LAST, "cpu"), open_store(store)
    begun: list[str] = []

    def wanted() -> Iterator[tuple[str, np.ndarray]]:
        for video_id in opened.videos:
            begun.append(video_id)
            yield video_id, np.arange(2)

    scored = network.score_videos(opened, wanted(), 1, "repeat")
    next(scored)
    wait_for(lambda: len(begun) >= 3)  # one waits, one is being decoded
    assert len(begun) <= 4, "no more lie in memory"
    scored.close()
    assert len(begun) <= 4


def test_half_precision_gives_nearly_equal_scores(trained: Path, store: Path) -> None:
    opened, starts = open_store(store), np.arange(5)
    single, half = (
        SnippetScorer(trained, LAST, "cpu", amp).snippet_scores(
            opened, "video 03", starts, 10, "repeat"
        )
        for amp in ("off", "bf16")
    )
    assert half.scores.dtype == np.float64 and not np.array_equal(half.scores, single.scores)
    np.testing.assert_allclose(half.scores, single.scores, rtol=0.05, atol=0.05)
