"""flow/raft.py beside torchvision's own forward pass, and its errors."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from raft_making import save_weights
from real_gpu import require_cuda
from synth import translated_pair

from flowpipe.errors import BackendError, RecipeError
from flowpipe.flow import FLOWS, make_solver
from flowpipe.flow.pair import optical_flow
from flowpipe.flow.raft import RAFTParams
from flowpipe.flow.raft_weights import load_network
from flowpipe.ops import get_ops
from flowpipe.params import build, digest

torch = pytest.importorskip("torch")
models = pytest.importorskip("torchvision.models.optical_flow")


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """Path of random weights of raft_small."""
    return save_weights(tmp_path_factory.mktemp("raft") / "small.pth")


def params(path, **values):
    return build(RAFTParams, {"model": "small", "weights": str(path), **values}, where="flow")


def solve(path, first, second, **values):
    solver = make_solver(params(path, **values), get_ops("cpu"))
    return solver.solve(solver.prepare(first), solver.prepare(second))


def colour_frames(rng, n, height, width):
    return rng.integers(0, 256, (n, height, width, 3), dtype=np.uint8)


def torchvision_flow(path, first, second, iterations):
    """Flow by torchvision's model of images whose sides it takes as they are."""
    model = getattr(models, f"raft_{path.stem}")(weights=None).eval()
    model.load_state_dict(torch.load(path, weights_only=True))
    preset = models.Raft_Small_Weights.DEFAULT.transforms()
    images = [torch.from_numpy(f).permute(0, 3, 1, 2).contiguous() for f in (first, second)]
    images = preset(*images)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with torch.inference_mode():
        pairs = zip(*(image.split(1) for image in images), strict=True)
        flow = torch.cat([model(*pair, num_flow_updates=iterations)[-1] for pair in pairs])
    torch.set_num_threads(threads)
    return flow.numpy()


@pytest.mark.parametrize("model", ["small", "large"])
@pytest.mark.parametrize("height, width", [(128, 128), (136, 128)])
def test_flow_is_that_of_torchvision(model, height, width, tmp_path, rng):
    path = save_weights(tmp_path / f"{model}.pth", model)
    first, second = (colour_frames(rng, 2, height, width) for _ in range(2))
    meant = torchvision_flow(path, first, second, 2)
    found = solve(path, first, second, model=model, iterations=2)
    np.testing.assert_array_equal(found, meant)
    assert np.abs(meant).max() > 0.05


@pytest.mark.parametrize("frames", [3, 4])
def test_consecutive_pairs_share_frames_and_nothing_else(frames, small, rng):
    """At this size the small model rounds otherwise if a frame is encoded alone."""
    images = colour_frames(rng, frames, 128, 136)
    warped = colour_frames(rng, frames - 1, 128, 136)
    made = params(small, iterations=2)
    network = load_network("small", made.weights, made.weights_sha256, "cpu")
    encoded = {network.feature_encoder: 0, network.context_encoder: 0}

    def count(encoder, arguments, output):
        encoded[encoder] += len(output)

    hooks = [encoder.register_forward_hook(count) for encoder in encoded]
    solver = make_solver(made, get_ops("cpu"))
    prepared = solver.prepare(images)
    flow = solver.solve(prepared[:-1], prepared[1:])
    again = solver.solve(prepared[:-1], solver.prepare(warped))
    for hook in hooks:
        hook.remove()
    np.testing.assert_array_equal(flow, torchvision_flow(small, images[:-1], images[1:], 2))
    np.testing.assert_array_equal(again, torchvision_flow(small, images[:-1], warped, 2))
    rounded_up = (frames + 1) // 2 * 2 + frames // 2 * 2
    assert list(encoded.values()) == [rounded_up, frames - 1]


@pytest.mark.cuda
def test_flow_of_a_gpu_is_that_of_the_cpu(small, rng):
    require_cuda()
    frames = colour_frames(rng, 4, 128, 136)
    solver = make_solver(params(small, iterations=2), get_ops("cuda"))
    prepared = solver.prepare(frames)
    found = solver.solve(prepared[:-1], prepared[1:])
    meant = solve(small, frames[:-1], frames[1:], iterations=2)
    np.testing.assert_allclose(found, meant, atol=0.01)


def test_no_pairs_have_no_flow(small):
    assert solve(small, *np.zeros((2, 0, 30, 40, 3), np.uint8)).shape == (0, 2, 30, 40)
    with pytest.raises(ValueError, match=r"got 1 of \(30, 40\) and 1 of \(30, 41\)"):
        solve(small, np.zeros((1, 30, 40), np.uint8), np.zeros((1, 30, 41), np.uint8))


@pytest.mark.parametrize("height, width", [(1, 1), (17, 31), (150, 129), (133, 200)])
def test_images_are_padded_by_their_borders_on_both_sides(height, width, small, rng):
    first, second = colour_frames(rng, 1, height, width), colour_frames(rng, 1, height, width)
    to = [max(128, -(-side // 8) * 8) - side for side in (height, width)]
    pads = [(0, 0), *((side // 2, side - side // 2) for side in to), (0, 0)]
    padded = [np.pad(frames, pads, mode="edge") for frames in (first, second)]
    meant = solve(small, *padded, iterations=2)[
        :, :, pads[1][0] : pads[1][0] + height, pads[2][0] : pads[2][0] + width
    ]
    np.testing.assert_array_equal(solve(small, first, second, iterations=2), meant)


def test_flow_of_a_pair_does_not_depend_on_the_others(small, rng):
    frames = colour_frames(rng, 4, 40, 50)
    together = solve(small, frames[:-1], frames[1:], iterations=2)
    for k in range(3):
        alone = solve(small, frames[k : k + 1], frames[k + 1 : k + 2], iterations=2)
        np.testing.assert_array_equal(alone[0], together[k])


def test_gray_frames_are_those_of_equal_planes(small, rng):
    gray = rng.integers(0, 256, (2, 30, 40), dtype=np.uint8)
    colour = np.repeat(gray[..., None], 3, axis=3)
    np.testing.assert_array_equal(solve(small, gray, gray), solve(small, colour, colour))


def test_the_number_of_threads_is_left_as_it_was(small, rng):
    before = torch.get_num_threads()
    frames = colour_frames(rng, 1, 30, 40)
    solve(small, frames, frames, iterations=1)
    assert torch.get_num_threads() == before


def test_optical_flow_takes_colour_and_gray(small):
    first, second = translated_pair(48, 64, 1, 0, 0)
    values = {"flow": "raft", "model": "small", "weights": str(small), "iterations": 2}
    gray = optical_flow(first, second, **values)
    colour = optical_flow(*(np.dstack([image] * 3) for image in (first, second)), **values)
    assert gray.shape == (48, 64, 2)
    np.testing.assert_array_equal(gray, colour)
    red = optical_flow(*(np.dstack([i, 0 * i, 0 * i]) for i in (first, second)), **values)
    assert np.abs(red - colour).max() > 0


def test_weights_are_named_and_recognised(small, tmp_path):
    with pytest.raises(RecipeError, match="download.pytorch.org/models/raft_large"):
        build(RAFTParams, {}, where="flow")
    with pytest.raises(RecipeError, match="none.pth: cannot be read"):
        params(tmp_path / "none.pth")
    with pytest.raises(BackendError, match="wanted 0000"):
        make_solver(params(small, weights_sha256="0" * 64), get_ops("cpu"))
    nameless = build(RAFTParams, {"weights_sha256": "0" * 64}, where="flow")
    with pytest.raises(BackendError, match="and no path; give .* --set flow.weights=FILE"):
        make_solver(nameless, get_ops("cpu"))
    with pytest.raises(BackendError, match="torchvision's raft_large.*flow.model=small"):
        make_solver(params(small, model="large"), get_ops("cpu"))
    other = tmp_path / "other.pth"
    other.write_bytes(b"no weights")
    with pytest.raises(BackendError, match="no tensors.* of torchvision's raft_small"):
        make_solver(params(other), get_ops("cpu"))
    torch.save([1, 2], other)
    with pytest.raises(BackendError, match="does not fit .* of torchvision's raft_small"):
        make_solver(params(other), get_ops("cpu"))


def test_a_relative_path_is_made_absolute(small, monkeypatch):
    """Workers and later runs may have another working directory."""
    monkeypatch.chdir(small.parent)
    assert params(small.name) == params(small)


def test_the_recipe_records_the_hash_of_the_weights(small, tmp_path):
    """A store's recipe can be read where its weights are not."""
    made = params(small)
    assert len(made.weights_sha256) == 64
    gone = params(tmp_path / "gone.pth", weights_sha256=made.weights_sha256)
    assert gone.weights_sha256 == made.weights_sha256
    assert gone != made and digest(gone) == digest(made)
    assert digest(params(small, weights_sha256="0" * 64)) != digest(made)


def bytes_read():
    """Bytes that this process has read so far."""
    return int(Path("/proc/self/io").read_text().split()[1])


@pytest.mark.skipif(not Path("/proc/self/io").exists(), reason="needs Linux")
def test_the_weights_are_hashed_once(small, tmp_path):
    path = Path(shutil.copy(small, tmp_path / "copy.pth"))
    before = bytes_read()
    first = params(path)
    assert bytes_read() - before >= path.stat().st_size
    before = bytes_read()
    assert params(path) == first
    assert bytes_read() - before < path.stat().st_size / 2
    torch.save({}, path)
    assert params(path).weights_sha256 != first.weights_sha256


def test_without_torch_it_says_what_to_install(monkeypatch):
    import importlib.util

    assert FLOWS["raft"].why_not() == ""
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert "pip install torch torchvision" in FLOWS["raft"].why_not()
