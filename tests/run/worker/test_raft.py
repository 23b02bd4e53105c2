"""Shard jobs with RAFT: a split video has the flow of the whole one, and training reads it."""

from __future__ import annotations

import numpy as np
import pytest
from raft_making import save_weights
from videofile import encode_video, moving_clip

from flowpipe import params
from flowpipe.extraction.recipe import ExtractRecipe
from flowpipe.run.planning.plan import ShardPlan
from flowpipe.run.planning.spans import shard_name
from flowpipe.run.worker.shard_job import ShardJob, extract_shard
from flowpipe.store import create_store, open_store, verify_store
from flowpipe.types import Span, VideoRecord

torch = pytest.importorskip("torch")
pytest.importorskip("torchvision")

FRAMES = 20
"""More than a window on the CPU has."""


def extract(folder, recipe, spans):
    """Make a store in this process, a shard for each span."""
    create_store(
        folder, recipe=params.canonical(recipe), recipe_digest=params.digest(recipe), dataset={},
        class_names=("left", "right"),
    )  # fmt: skip
    for number, span in enumerate(spans):
        notes = folder.with_name(f"{folder.name}-notes-{number}")
        notes.mkdir()
        shard = ShardPlan(shard_name([span.key]), (span,), 1.0, 1)
        (outcome,) = extract_shard(
            ShardJob(
                store=str(folder), heartbeat_folder=str(notes), shard=shard, recipe=recipe,
                device="cpu",
            )
        )  # fmt: skip
        assert outcome.status == "done", outcome
    assert verify_store(folder).ok
    return open_store(folder)


def test_a_split_video_has_the_flow_of_the_whole_one_and_is_read(tmp_path):
    from flowpipe import SnippetDataset

    clip = encode_video(tmp_path / "clip.mp4", moving_clip(FRAMES))
    flow = {"name": "raft", "model": "small", "iterations": 1}
    flow["weights"] = str(save_weights(tmp_path / "raft.pth"))
    values = {"modalities": ["flow"], "size": {"width": 64, "height": 48}, "flow": flow}
    recipe = params.build(ExtractRecipe, values | {"codecs": {"flow": "raw"}}, where="extract")
    video = VideoRecord("clip", str(clip), labels=(1,), splits=("train1",))
    whole = extract(tmp_path / "whole", recipe, [Span(video)])
    cut_s = 0.3
    parts = [Span(video, 0, 2, stop_s=cut_s), Span(video, 1, 2, start_s=cut_s)]
    split = extract(tmp_path / "split", recipe, parts)

    meant, found = (store.snippet("clip", "flow", 0, FRAMES - 1) for store in (whole, split))
    np.testing.assert_array_equal(found, meant)
    assert len(np.unique(meant)) > 10
    images, label = SnippetDataset(split, "flow", "train", 3, 5, train=False)[0]
    assert images.shape == (3, 5, 2, 48, 64) and images.dtype == torch.uint8 and label == 1
    assert all(any(np.array_equal(image, one) for one in meant) for image in images.flatten(0, 1))
