"""Every operation against the reference, at awkward sizes: on each instruction set here, and CUDA's
kernels on the emulator."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from emulated import emulated_ops
from real_gpu import require_cuda
from synth import texture, translated_pair

from flowpipe.ops import TVL1Model, get_ops
from flowpipe.ops.cpu import native_core
from flowpipe.ops.tables import SAMPLINGS
from flowpipe.surfaces import RgbConversion, Surfaces

SIZES = [(1, 1), (1, 40), (37, 1), (2, 3), (5, 16), (17, 31), (48, 33), (64, 85)]  # rows, columns
MODEL = TVL1Model(tau=0.25, lambda_=0.15, theta=0.3, epsilon=0.01, block=4)
ISAS = native_core().usable

pytestmark = pytest.mark.skipif(not ISAS, reason=native_core().reason or "no core")
reference = get_ops("reference")


GPU = pytest.param("gpu", marks=pytest.mark.cuda)


@pytest.fixture(params=[*ISAS, "cuda", GPU], scope="module")
def native(request):
    if request.param == "gpu":
        require_cuda()
        return get_ops("cuda")
    if request.param == "cuda":
        return emulated_ops()
    return get_ops("cpu", isa=request.param)


@pytest.fixture(params=["cuda", GPU], scope="module")
def cuda(request):
    if request.param == "gpu":
        require_cuda()
        return get_ops("cuda")
    return emulated_ops()


@pytest.fixture(params=SIZES, ids=lambda size: f"{size[0]}x{size[1]}")
def size(request):
    return request.param


@pytest.fixture(params=[1, 5])
def count(request):
    return request.param


@pytest.fixture
def images(size, count, rng):
    """Makes (count, H, W) uint8: texture, nothing at all, only extremes."""

    def make() -> np.ndarray:
        kinds = [
            texture(*size, seed=1), np.full(size, 77), rng.choice([0, 255], size),
            texture(*size, seed=2), rng.choice([0, 255], size),
        ]  # fmt: skip
        return np.stack(kinds[:count]).astype(np.uint8)

    return make


def test_resize(native, size, count, rng):
    frames = rng.integers(0, 256, (count, *size, 3), dtype=np.uint8)
    for target in ((16, 16), (33, 20), size):
        ours, meant = native.resize(frames, *target), reference.resize(frames, *target)
        assert ours.shape == (count, *target, 3)
        assert np.abs(ours.astype(int) - meant).max() <= 1  # cv2 rounds its weights to 11 bits


@pytest.mark.parametrize("bits", [8, 10, 12])
@pytest.mark.parametrize("turn", [(0, False), (1, False), (2, True), (3, True)])
def test_resize_of_surfaces(cuda, size, count, rng, turn, bits):
    """Whole numbers throughout: before it is resized, the RGB is the same to the bit."""
    height, width = size
    tables = []
    for side, one in ((width, 1 << 14), (height, 1 << 12)):
        near = np.arange(side) // 2
        far, weight = np.minimum(near + 1, (side - 1) // 2), rng.integers(0, one + 1, side)
        tables.append(np.stack([near, far, one - weight, weight], 1).astype(np.int32))
    colour = np.array([8192, 9539, 13074, -6660, -3209, 16525], np.int32)
    columns, rows = tables
    quarter_turns, mirrored = turn
    conversion = RgbConversion(
        height=height, width=width, bits=bits, colour=colour, columns=columns, rows=rows,
        quarter_turns=quarter_turns, mirrored=mirrored,
    )  # fmt: skip
    values = (height + (height + 1) // 2) * (width + width % 2)
    dtype, shift = (np.uint8, 0) if bits == 8 else (np.uint16, 16 - bits)
    noise = (rng.integers(0, 1 << bits, (count, values)) << shift).astype(dtype).view(np.uint8)
    surfaces = Surfaces(tuple(noise), conversion)
    there = replace(surfaces, pictures=tuple(map(cuda.to_device, noise)))
    upright = reference.resize(surfaces, *conversion.upright)
    assert surfaces.shape == upright.shape
    np.testing.assert_array_equal(cuda.resize(there, *conversion.upright), upright)
    np.testing.assert_array_equal(
        cuda.resize(there, 20, 33), cuda.resize(np.ascontiguousarray(upright), 20, 33)
    )


def test_gray(native, size, count, rng):
    frames = rng.integers(0, 256, (count, *size, 3), dtype=np.uint8)
    np.testing.assert_array_equal(native.to_host(native.gray(frames)), reference.gray(frames))


@pytest.mark.parametrize("high", [2, 256])
def test_difference(native, size, count, rng, high):
    frames = rng.integers(0, 256, (count + 1, *size, 3), dtype=np.uint8)
    frames = np.where(frames < 128, 0, 255).astype(np.uint8) if high == 2 else frames
    for ours, meant in zip(native.difference(frames), reference.difference(frames), strict=True):
        assert ours.dtype == meant.dtype
        np.testing.assert_array_equal(ours, meant)


def test_difference_of_one_frame_is_empty(native):
    planes, clipped = native.difference(np.zeros((1, 4, 6, 3), np.uint8))
    assert planes.shape == (0, 3, 4, 6) and clipped.shape == (0,)


def test_quantise(native, size, count, rng):
    flow = rng.normal(0, 12, (count, 2, *size)).astype(np.float32)
    flow.flat[:7] = [0, -0.0, 20, -20, 20.000002, np.inf, np.nan][: flow.size]
    for ours, meant in zip(native.quantise(flow, 20), reference.quantise(flow, 20), strict=True):
        assert ours.dtype == meant.dtype
        np.testing.assert_array_equal(ours, meant)


def warp(ops, *arguments):
    return ops.to_host(ops.warp_homography(*arguments))


@pytest.mark.parametrize("margin", [0, 5])
def test_warp_homography(native, size, count, rng, margin):
    gray = rng.integers(0, 256, (count, *size), dtype=np.uint8)
    fill = rng.integers(0, 256, (count, *size), dtype=np.uint8)
    matrix = np.eye(3) + rng.normal(0, 1, (count, 3, 3)) * [
        [0.02, 0.02, 4],
        [0.02, 0.02, 4],
        [1e-4, 1e-4, 0],
    ]
    matrix[0] = np.eye(3)
    ours = warp(native, gray, matrix, fill, margin)
    np.testing.assert_array_equal(ours, reference.warp_homography(gray, matrix, fill, margin))


@pytest.mark.parametrize(
    "matrix",
    [
        np.zeros((3, 3)),
        np.diag([1e300, 1e300, 1e-300]),
        np.array([[1, 0, 0], [0, 1, 0], [-0.1, 0, 1.0]]),
    ],
    ids=["zero", "huge", "horizon"],
)
def test_warp_homography_at_infinity(native, matrix, rng):
    gray = rng.integers(0, 256, (1, 32, 40), dtype=np.uint8)
    fill = rng.integers(0, 256, (1, 32, 40), dtype=np.uint8)
    ours = warp(native, gray, matrix[None], fill)
    np.testing.assert_array_equal(ours, reference.warp_homography(gray, matrix[None], fill))


def test_pyramid(native, size, images):
    gray = images()
    height, width = size
    halves = [size, ((height + 1) // 2, (width + 1) // 2)]
    halves.append(((halves[1][0] + 1) // 2, (halves[1][1] + 1) // 2))
    steps = [size, (max(1, round(height * 0.8)), max(1, round(width * 0.8)))]
    for rule, sizes in (("pyrdown", halves), ("bilinear", steps), ("centred", steps)):
        ours, meant = (ops.pyramid(gray, sizes, rule, 0.8) for ops in (native, reference))
        for a, b in zip(map(native.to_host, ours), meant, strict=True):
            assert a.dtype == np.float32
            np.testing.assert_allclose(a, b, atol=1e-4)


@pytest.mark.parametrize("rule", ["pyrdown", "bilinear", "centred"])
def test_upsample(native, size, count, rng, rule):
    flow = rng.normal(0, 3, (count, 2, *size)).astype(np.float32)
    for target in ((2 * size[0], 2 * size[1]), (2 * size[0] - 1, 2 * size[1] - 1), (50, 61)):
        ours, meant = (
            ops.to_host(ops.upsample(flow, *target, 2.0, rule)) for ops in (native, reference)
        )
        np.testing.assert_allclose(ours, meant, atol=1e-4)


def start(ops, first, second, flow, model=MODEL):
    memory = ops.tvl1_memory(*first.shape)
    first, second = first.astype(np.float32), second.astype(np.float32)
    return ops.tvl1_start(first, second, flow, model, memory)


def flow_of(ops, state):
    n, height, width = state.first.shape
    return ops.to_host(ops.tvl1_flow(state, ops.empty(n, 2, height, width)))


def warps(ops, state, count, iterations):
    """Iterations done by each pair."""
    return ops.to_host(ops.tvl1_warps(state, count, iterations))


@pytest.mark.parametrize("sampling", SAMPLINGS)
def test_centered_gradient(native, images, sampling):
    """Warped by a flow of nothing the second image's gradient is a and b, exactly."""
    image, model = images(), replace(MODEL, sampling=sampling)
    ours, meant = (start(ops, image, image, None, model) for ops in (native, reference))
    for ops, state in ((native, ours), (reference, meant)):
        assert not warps(ops, state, 1, 0).any()
    for name in "abc":
        np.testing.assert_array_equal(ours.field(name), meant.field(name))
    middle = image.astype(np.float32)
    np.testing.assert_array_equal(
        ours.field("a")[:, :, 1:-1], 0.5 * (middle[:, :, 2:] - middle[:, :, :-2])
    )


@pytest.mark.parametrize("sampling", SAMPLINGS)
@pytest.mark.parametrize("motion", ["smooth", "rough", "border"])
def test_warp_linearise(native, size, count, rng, images, motion, sampling):
    """Shifts alike, each pixel its own, and on both sides of a whole number of pixels."""
    first, second = images(), images()[:, ::-1, ::-1]
    scale = {"smooth": 0.0, "rough": 3.0, "border": 1e-3}[motion]
    flow = rng.normal(0, scale, (count, 2, *size)).astype(np.float32)
    flow += 1.7 if motion == "smooth" else 0
    flow[:, 0, 0, 0], flow[:, 1, -1, -1] = 1e30, -1e30  # far outside: clamped, not read
    model = replace(MODEL, sampling=sampling)
    ours, meant = (start(ops, first, second, flow, model) for ops in (native, reference))
    for ops, state in ((native, ours), (reference, meant)):
        warps(ops, state, 1, 0)
    inside = np.abs(flow).max(axis=1) < 1e6
    for name in "abc":
        np.testing.assert_allclose(ours.field(name)[inside], meant.field(name)[inside], atol=2e-3)
    np.testing.assert_allclose(flow_of(native, ours), flow)
    slope = np.hypot(meant.field("a"), meant.field("b"))
    np.testing.assert_allclose(
        ours.field("g")[slope > 0.1], meant.field("g")[slope > 0.1], rtol=2e-3
    )


@cache
def iterate_reference(size, count, iterations, block):
    """Pairs, and what the reference has done with them: its iterations and its fields."""
    pairs = [translated_pair(*size, 1.3, -0.7, seed) for seed in range(count)]
    first, second = (np.stack(frames) for frames in zip(*pairs, strict=True))
    model = replace(MODEL, epsilon=0.0, block=block)
    state = start(reference, first, second, None, model)
    done = warps(reference, state, 1, iterations).tolist()
    fields = {name: state.field(name) for name in ("u", "v", "p11", "p12", "p21", "p22")}
    return first, second, model, done, fields


@pytest.mark.parametrize("block", [1, 8])
@pytest.mark.parametrize("iterations", [1, 7, 8, 9, 40])
def test_tvl1_iterate(native, size, count, iterations, block):
    first, second, model, meant_done, fields = iterate_reference(size, count, iterations, block)
    ours = start(native, first, second, None, model)
    done = warps(native, ours, 1, iterations).tolist()
    assert done == meant_done
    if min(size) > 2:  # a flow of exactly zero may stop even at epsilon 0
        assert done == [iterations] * count
    for name, meant in fields.items():
        np.testing.assert_allclose(ours.field(name), meant, atol=2e-3, err_msg=name)


@cache
def stops(model):
    """Two pairs, and the iterations that the reference does of each in three warps."""
    pairs = [translated_pair(40, 50, 1.4, -0.6, seed) for seed in range(2)]
    first, second = (np.stack(frames) for frames in zip(*pairs, strict=True))
    state = start(reference, first, second, None, model)
    return first, second, [warps(reference, state, 1, 300).tolist() for _ in range(3)]


@pytest.mark.parametrize("epsilon", [0.003, 0.01, 0.05])
@pytest.mark.parametrize("block", [1, 4])
@pytest.mark.parametrize("spaced", [True, False])
def test_stops_where_the_reference_stops(native, spaced, block, epsilon):
    model = replace(MODEL, epsilon=epsilon, block=block, spaced=spaced)
    first, second, meant = stops(model)
    ours = start(native, first, second, None, model)
    for wanted in meant:
        done = warps(native, ours, 1, 300).tolist()
        assert done == wanted
        assert all(n % block == 0 and (not spaced or n % 2 == 0) for n in done)


@pytest.mark.parametrize("median", [3, 5])
def test_median_filter(native, size, median):
    """Before the first iteration and after every seven."""
    model = replace(MODEL, epsilon=0.0, spaced=False, median=median, median_every=7)
    first, second = (image[None] for image in translated_pair(*size, 1.3, -0.7, seed=1))
    ours, meant = (start(ops, first, second, None, model) for ops in (native, reference))
    assert warps(native, ours, 1, 20)[0] == warps(reference, meant, 1, 20)[0]
    for name in ("u", "v", "p11", "p22"):
        np.testing.assert_allclose(ours.field(name), meant.field(name), atol=2e-3, err_msg=name)


def test_pairs_of_a_batch_stop_by_themselves(native, rng):
    still = texture(40, 50, 1).astype(np.uint8)
    first, second = translated_pair(40, 50, 0.6, 0.3, seed=2)
    state = start(native, np.stack([still, first]), np.stack([still, second]), None)
    done = warps(native, state, 1, 300)
    assert done[0] == MODEL.block and MODEL.block < done[1] < 300
    together = flow_of(native, state)
    alone = start(native, first[None], second[None], None)
    assert warps(native, alone, 1, 300)[0] == done[1]
    np.testing.assert_array_equal(flow_of(native, alone)[0], together[1])


def test_memory_is_used_again(native):
    """What a larger, other pair left there is not seen."""
    memory = native.tvl1_memory(1, 64, 85)
    first, second = (i[None].astype(np.float32) for i in translated_pair(64, 85, 3, 1, seed=1))
    warps(native, native.tvl1_start(first, second, None, MODEL, memory), 1, 50)
    small = [i[None].astype(np.float32) for i in translated_pair(33, 40, 1, 1, seed=2)]
    flows = []
    for store in (memory, native.tvl1_memory(1, 33, 40)):
        state = native.tvl1_start(*small, None, MODEL, store)
        warps(native, state, 1, 50)
        flows.append(flow_of(native, state))
    np.testing.assert_array_equal(*flows)


def test_kernels_refuse_arrays_with_gaps(native):
    image = native.to_device(np.zeros((1, 8, 16), np.float32))[:, :, ::2]
    with pytest.raises(ValueError, match="C-contiguous"):
        native.tvl1_start(image, image, None, MODEL, native.tvl1_memory(1, 8, 8))
