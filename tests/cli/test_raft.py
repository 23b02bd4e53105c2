"""`flowpipe extract` with RAFT: the stored flow, its record, and other weights."""

from __future__ import annotations

import numpy as np
import pytest
from videofile import encode_video, moving_clip

from flowpipe.flow.pair import optical_flow
from flowpipe.store import open_store

torch = pytest.importorskip("torch")
models = pytest.importorskip("torchvision.models.optical_flow")


def save_weights(path, seed):
    torch.manual_seed(seed)
    torch.save(models.raft_small(weights=None).state_dict(), path)
    return path


@pytest.fixture
def clips(tmp_path):
    (tmp_path / "clips").mkdir()
    encode_video(tmp_path / "clips" / "a.mp4", moving_clip(4))
    return tmp_path / "clips"


def test_a_store_of_raft(clips, tmp_path, flowpipe):
    weights = save_weights(tmp_path / "raft.pth", 0)
    raft = ["--set", "flow.name=raft", "--set", "flow.model=small", "--set", "flow.iterations=2"]
    extract = ["extract", "--videos", clips, "--out", tmp_path / "store"]
    extract += ["--modalities", "rgb,flow,warped_flow", "--size", "64x48", "--workers", 1, *raft]
    extract += ["--set", "codecs.rgb={name: jpegls}", "--set", "codecs.flow={name: raw}"]
    refused = flowpipe(*extract)
    assert refused.returncode == 2 and "download.pytorch.org" in refused.stderr
    done = flowpipe(*extract, "--set", f"flow.weights={weights}")
    assert done.returncode == 0, done.stderr
    store = open_store(tmp_path / "store")
    rgb, flow = (
        store.snippet("a.mp4", name, 0, 3).transpose(0, 2, 3, 1) for name in ("rgb", "flow")
    )
    settings = {"model": "small", "weights": str(weights), "iterations": 2}
    meant = optical_flow(rgb[1], rgb[2], flow="raft", **settings)
    quantised = np.rint((np.clip(meant, -20, 20) + 20) * 255 / 40)
    np.testing.assert_array_equal(flow[1], quantised)
    assert store.videos["a.mp4"].images == {"rgb": 4, "flow": 3, "warped_flow": 3}
    assert "weights_sha256" in flowpipe("info", tmp_path / "store").stdout
    assert flowpipe("verify", tmp_path / "store").returncode == 0
    again = flowpipe(*extract, "--set", f"flow.weights={weights}")
    assert again.returncode == 0
    save_weights(weights, 1)
    other = flowpipe(*extract, "--set", f"flow.weights={weights}")
    assert other.returncode == 2 and "weights_sha256" in other.stderr
