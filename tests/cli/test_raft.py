"""`flowpipe extract` with RAFT: the stored flow, its record, and other weights."""

from __future__ import annotations

import shutil
from types import SimpleNamespace

import numpy as np
import pytest
from command import in_process
from raft_making import save_weights
from videofile import encode_video, moving_clip

from flowpipe import params
from flowpipe.cli.options import read_stored_options
from flowpipe.flow.pair import optical_flow
from flowpipe.store import open_store

pytest.importorskip("torch")
pytest.importorskip("torchvision")


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A store of one video by RAFT, its weights, and the line that made it without them."""
    folder = tmp_path_factory.mktemp("raft")
    (folder / "clips").mkdir()
    encode_video(folder / "clips" / "a.mp4", moving_clip(4))
    weights = save_weights(folder / "raft.pth")
    line = [
        "extract", "--videos", folder / "clips", "--modalities", "rgb,flow,warped_flow",
        "--size", "64x48", "--workers", 1, "--set", "flow.name=raft",
        "--set", "flow.model=small", "--set", "flow.iterations=2",
        "--set", "codecs.rgb={name: jpegls}", "--set", "codecs.flow={name: raw}", "--out",
    ]  # fmt: skip
    done = in_process(*line, folder / "store", "--set", f"flow.weights={weights}")
    assert done.returncode == 0, done.stderr
    return SimpleNamespace(store=folder / "store", weights=weights, line=line)


def test_a_store_of_raft(made, tmp_path, flowpipe):
    refused = flowpipe(*made.line, tmp_path / "store")
    assert refused.returncode == 2 and "download.pytorch.org" in refused.stderr
    store = open_store(made.store)
    rgb, flow = (
        store.snippet("a.mp4", name, 0, 3).transpose(0, 2, 3, 1) for name in ("rgb", "flow")
    )
    settings = {"model": "small", "weights": str(made.weights), "iterations": 2}
    meant = optical_flow(rgb[1], rgb[2], flow="raft", **settings)
    quantised = np.rint((np.clip(meant, -20, 20) + 20) * 255 / 40)
    np.testing.assert_array_equal(flow[1], quantised)
    assert store.videos["a.mp4"].images == {"rgb": 4, "flow": 3, "warped_flow": 3}
    assert "weights_sha256" in flowpipe("info", made.store).stdout
    assert flowpipe("verify", made.store).returncode == 0


def test_a_store_knows_its_weights_by_their_hash(made, tmp_path, flowpipe):
    """The path of the weights is the machine's: a run resumes with the same ones elsewhere."""
    store = shutil.copytree(made.store, tmp_path / "store")
    there = shutil.copy(made.weights, tmp_path / "there.pth")
    digest = open_store(store).header.recipe_digest
    assert "raft.pth" not in flowpipe("info", store, "--json").stdout

    shards = list((store / "shards").iterdir())
    again = flowpipe(*made.line, store, "--set", f"flow.weights={there}")
    assert again.returncode == 0 and list((store / "shards").iterdir()) == shards, again.stderr
    weights = save_weights(tmp_path / "other.pth", seed=1)
    other = flowpipe(*made.line, store, "--set", f"flow.weights={weights}")
    assert other.returncode == 2 and "weights_sha256" in other.stderr
    assert "flow.weights:" not in other.stderr

    shards[0].unlink()
    mistyped = flowpipe("verify", store, "--repair", "--set", "flow.wieghts=x")
    assert mistyped.returncode == 2 and "did you mean weights?" in mistyped.stderr
    refused = flowpipe("verify", store, "--repair")
    assert refused.returncode == 2 and "--set flow.weights=FILE" in refused.stderr
    _, recipe = read_stored_options(store, [f"flow.weights={there}"])
    assert params.digest(recipe) == digest and recipe.flow.weights == str(there)
