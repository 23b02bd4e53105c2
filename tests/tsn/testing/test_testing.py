"""Testing: the crops and snippets whose mean is the score of a video."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs torch")

import tiny  # noqa: E402
from tiny_training import job, run  # noqa: E402

from flowpipe.errors import UsageError  # noqa: E402
from flowpipe.store import open_store  # noqa: E402
from flowpipe.tsn.run_folder import LAST  # noqa: E402
from flowpipe.tsn.testing import mtwi  # noqa: E402
from flowpipe.tsn.testing import test as testing  # noqa: E402
from flowpipe.tsn.testing.scorer import SnippetScorer  # noqa: E402


def test_scores_are_means_over_crops_then_snippets(store: Path, tmp_path: Path) -> None:
    wanted = job(store, tmp_path, end=3)
    run(wanted)
    network, opened = SnippetScorer(wanted.run, LAST, "cpu"), open_store(store)
    tested = testing.test(testing.TestJob(store, wanted.run), lambda done, total: None)
    video_id = tested.video_ids[0]
    assert video_id == "video 03"  # twelve frames: ticks of 3, from 1.5 on
    starts = np.array([1, 4, 7, 10])
    by_hand = []
    for start in starts:
        frame = opened.snippet(video_id, "rgb", int(start), 1)[0].astype(np.float32) / 255
        mean, std = (np.array(v)[:, None, None] for v in
                     ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))  # fmt: skip
        frame = (frame - mean) / std
        for x, y in ((0, 0), (16, 0), (0, 4), (16, 4), (8, 2)):
            crop = frame[:, y : y + 32, x : x + 32]
            for image in (crop, crop[:, :, ::-1].copy()):
                with torch.no_grad():
                    x_in = torch.from_numpy(image).float()[None]
                    by_hand.append(network.model.new_fc(network.model.base_model(x_in))[0].numpy())
    np.testing.assert_allclose(tested.scores[0], np.mean(by_hand, 0), rtol=1e-3, atol=1e-5)
    best = replace(wanted.recipe.test, of_crops="max")
    tested = testing.test(testing.TestJob(store, wanted.run, params=best), lambda done, total: None)
    of_snippets = np.reshape(by_hand, (4, 10, 3)).max(1)
    np.testing.assert_allclose(tested.scores[0], of_snippets.mean(0), rtol=1e-3, atol=1e-5)


def test_mirrored_crops_may_keep_the_sign_of_x(store: Path, tmp_path: Path) -> None:
    wanted = job(store, tmp_path, modality="flow", end=3)
    run(wanted)
    network, opened = SnippetScorer(wanted.run, LAST, "cpu"), open_store(store)
    starts = np.array([1, 4])
    right = network.snippet_scores(opened, "video 03", starts, 10, "last").scores
    stream = replace(network.facts.stream, compat=("mmaction2_ten_crop",))
    network.facts = replace(network.facts, stream=stream)
    theirs = network.snippet_scores(opened, "video 03", starts, 10, "last").scores
    same = np.isclose(right, theirs, rtol=1e-5).all((0, 2))
    assert same.sum() == 5  # those that are not mirrored


def test_untrimmed_testing_takes_snippets_by_time(store: Path, tmp_path: Path) -> None:
    wanted = job(store, tmp_path, end=3)
    run(wanted)
    params = replace(wanted.recipe.test, protocol="mtwi", rate_hz=5.0, windows=(1, 2), crops="1")
    tested = testing.test(
        testing.TestJob(store, wanted.run, params=params), lambda done, total: None
    )
    network, opened = SnippetScorer(wanted.run, LAST, "cpu"), open_store(store)
    starts = mtwi.starts_at(opened.pts_s("video 03"), 5.0)
    assert starts.tolist() == [0, 5, 10]
    scores = network.snippet_scores(opened, "video 03", starts, 1, "repeat").scores
    np.testing.assert_allclose(tested.scores[0], mtwi.aggregate(scores, (1, 2)), rtol=1e-6)


def test_a_store_of_other_classes_is_refused(store: Path, tmp_path: Path, monkeypatch) -> None:
    run(job(store, tmp_path, end=1))
    monkeypatch.setattr(tiny, "CLASSES", ("x", "y", "z"))
    other = tiny.make_store(tmp_path / "other")
    with pytest.raises(UsageError, match="has other classes"):
        testing.test(testing.TestJob(other, tmp_path / "run"), lambda done, total: None)
