"""`flowpipe flow`, as a user runs it: pictures and videos, good, odd and broken."""

from __future__ import annotations

import os
import re
from pathlib import Path

import cv2
import numpy as np
import pytest
from command import Run
from synth import translated_pair
from videofile import encode_video

from flowpipe import optical_flow
from flowpipe.flow.flo import read_flo, write_flo
from flowpipe.ops import get_ops
from flowpipe.ops.cpu import native_core
from flowpipe.report import flow_colours
from flowpipe.video import open_video

needs_core = pytest.mark.skipif(not native_core().available, reason=native_core().reason)
DIS = ("--flow", "dis")  # runs without the compiled core


@pytest.fixture
def pair(tmp_path: Path) -> tuple[Path, Path]:
    """Two colour pictures whose content moves by (3, -2); run in their folder, tmp_path."""
    paths = tmp_path / "a.png", tmp_path / "b.png"
    for path, gray in zip(paths, translated_pair(60, 80, 3, -2, seed=1), strict=True):
        cv2.imwrite(str(path), np.stack([gray, 255 - gray, gray // 2], axis=-1))
    return paths


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A lossless video of 40 frames that differ; a window of the reader holds 32."""
    rng = np.random.default_rng(5)
    frames = rng.integers(0, 256, (40, 48, 64, 3), dtype=np.uint8)
    return encode_video(tmp_path_factory.mktemp("clip") / "clip.avi", frames, codec="ffv1")


def rgb(path: Path) -> np.ndarray:
    return np.ascontiguousarray(cv2.imread(str(path))[..., ::-1])


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def fail(flowpipe: Run, folder: Path, *arguments: object, code: int = 2) -> str:
    """Run what must fail in words and leave no file; returns the words."""
    before = names(folder)
    done = flowpipe("flow", *arguments, cwd=folder)
    assert done.returncode == code, (done.returncode, done.stdout, done.stderr)
    assert "Traceback" not in done.stderr and not done.stdout
    assert names(folder) == before
    return " ".join(done.stderr.split())


@needs_core
def test_two_pictures_become_a_flo(pair, tmp_path, flowpipe):
    done = flowpipe("flow", *pair, "-o", tmp_path / "x.flo")
    assert done.returncode == 0, done.stderr
    flow = read_flo(tmp_path / "x.flo")
    np.testing.assert_array_equal(flow, optical_flow(*map(rgb, pair)))
    assert np.abs(np.median(flow, axis=(0, 1)) - (3, -2)).max() < 0.1
    speed = np.hypot(flow[..., 0], flow[..., 1])
    line = re.fullmatch(
        rf"80x60, tvl1 opencv2 on {get_ops().name}: median ([\d.]+) px, largest ([\d.]+) px, "
        rf"([\d.]+) ms of CPU; wrote {re.escape(str(tmp_path))}/x\.flo\n",
        done.stdout,
    )
    assert line, done.stdout
    median, largest, cpu_ms = map(float, line.groups())
    assert (median, largest) == pytest.approx((np.median(speed), speed.max()), abs=1e-3)
    assert 0 < cpu_ms < 60_000
    assert names(tmp_path) == ["a.png", "b.png", "x.flo"]


@needs_core
def test_settings_variant_device_and_size_reach_the_flow(pair, tmp_path, flowpipe):
    done = flowpipe(
        "flow", *pair, "-o", tmp_path / "x.NPY", "--variant", "opencv4", "--device", "reference",
        "--size", "40x30", "--set", "epsilon=1e-3", "--set", "warps=2", "--set", "iterations=9",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("40x30, tvl1 opencv4 on reference: ")
    small = get_ops("reference").resize(np.stack([rgb(path) for path in pair]), 30, 40)
    wanted = optical_flow(
        *small, "opencv4", device="reference", epsilon=1e-3, warps=2, iterations=9
    )
    flow = np.load(tmp_path / "x.NPY")
    assert flow.dtype == np.float32
    np.testing.assert_array_equal(flow, wanted)


@pytest.mark.parametrize("bound", [None, 1.5])
def test_a_png_has_the_colours_of_the_report(bound, pair, tmp_path, flowpipe):
    chosen = () if bound is None else ("--bound", bound)
    out = tmp_path / "x.png"
    out.write_bytes(b"an older file")
    done = flowpipe("flow", *pair, "-o", out, *DIS, *chosen)
    assert done.returncode == 0, done.stderr
    flow = optical_flow(*map(rgb, pair), flow="dis").transpose(2, 0, 1)
    np.testing.assert_array_equal(rgb(out), flow_colours(flow, bound))
    shown = bound or np.hypot(*flow).max()
    beyond = "" if bound is None else ", darker beyond"
    assert done.stdout.endswith(f"wrote {out}, full colour at {shown:.3f} px{beyond}\n")


def test_two_equal_pictures_are_white(pair, tmp_path, flowpipe):
    done = flowpipe("flow", pair[0], pair[0], "-o", tmp_path / "x.png", *DIS)
    assert "largest 0.000 px" in done.stdout and "full colour at 1.000 px" in done.stdout
    assert (rgb(tmp_path / "x.png") == 255).all()


@pytest.mark.parametrize("k", [0, 30, 31, 32, 38])
def test_two_frames_of_a_video_have_their_flow(k, clip, tmp_path, flowpipe):
    """Inside a window of the reader, across two windows, and the last pair there is."""
    done = flowpipe("flow", clip, "--frame", k, "-o", tmp_path / "x.flo", *DIS)
    assert done.returncode == 0, done.stderr
    with open_video(clip) as video:
        frames = np.concatenate([window.data for window in video.windows()])
    wanted = optical_flow(frames[k], frames[k + 1], flow="dis")
    np.testing.assert_array_equal(read_flo(tmp_path / "x.flo"), wanted)


def test_a_flo_is_drawn_and_converted(tmp_path, flowpipe):
    flow = np.random.default_rng(0).normal(size=(6, 8, 2)).astype(np.float32)
    flow[0, 0] = 2e9  # unknown
    write_flo(tmp_path / "x.flo", flow)
    done = flowpipe("flow", tmp_path / "x.flo", "-o", tmp_path / "x.npy")
    assert done.returncode == 0, done.stderr
    np.testing.assert_array_equal(np.load(tmp_path / "x.npy"), flow)
    done = flowpipe("flow", tmp_path / "x.flo", "-o", tmp_path / "x.png")
    largest = np.hypot(*flow.reshape(-1, 2)[1:].T).max()
    assert "8x6: median" in done.stdout and f"largest {largest:.3f} px; wrote" in done.stdout
    assert not cv2.imread(str(tmp_path / "x.png"))[0, 0].any()
    for more in (["--frame", 0], [tmp_path / "x.flo"], ["--set", "warps=2"], ["--size", "4x4"]):
        done = flowpipe("flow", tmp_path / "x.flo", *more, "-o", tmp_path / "y.png")
        assert done.returncode == 2 and "is a flow already" in done.stderr
    (tmp_path / "bad.flo").write_bytes(b"PIEH")
    done = flowpipe("flow", tmp_path / "bad.flo", "-o", tmp_path / "y.png")
    assert done.returncode == 2 and "ends inside its header" in done.stderr


def test_a_turned_video_is_upright(tmp_path, flowpipe):
    frames = np.random.default_rng(1).integers(0, 256, (3, 32, 48, 3), dtype=np.uint8)
    encode_video(tmp_path / "x.mp4", frames, rotation_deg=90)
    done = flowpipe("flow", tmp_path / "x.mp4", "--frame", 0, "-o", tmp_path / "x.flo", *DIS)
    assert done.stdout.startswith("32x48, dis on "), done.stderr
    assert read_flo(tmp_path / "x.flo").shape == (48, 32, 2)


@pytest.mark.parametrize("name", ["gray.png", "16.png", "opaque.png", "turned.jpg", "ü 1.bmp"])
def test_other_kinds_of_pictures_are_read(name, pair, tmp_path, flowpipe):
    """The same picture written in another way: no motion between it and the usual one."""
    plain = cv2.imread(str(pair[0]))
    coded = {
        "gray.png": (cv2.cvtColor(plain, cv2.COLOR_BGR2GRAY), ".png"),
        "16.png": (plain.astype(np.uint16) * 257, ".png"),
        "opaque.png": (cv2.cvtColor(plain, cv2.COLOR_BGR2BGRA), ".png"),
        "turned.jpg": (cv2.rotate(plain, cv2.ROTATE_90_COUNTERCLOCKWISE), ".jpg"),
        "ü 1.bmp": (plain, ".bmp"),
    }[name]
    content = cv2.imencode(coded[1], coded[0], [cv2.IMWRITE_JPEG_QUALITY, 100])[1].tobytes()
    if name == "turned.jpg":  # with the tag that says: turn it clockwise to show it
        tag = b"Exif\0\0II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x06\0\0\0\0\0\0\0"
        content = b"\xff\xd8\xff\xe1" + (len(tag) + 2).to_bytes(2, "big") + tag + content[2:]
    (tmp_path / name).write_bytes(content)
    done = flowpipe("flow", tmp_path / name, pair[0], "-o", tmp_path / "x.flo", *DIS)
    assert done.returncode == 0, done.stderr
    limit = 0.5 if name == "turned.jpg" else 0  # JPEG halves the resolution of the colours
    assert np.abs(read_flo(tmp_path / "x.flo")).max() <= limit


def test_pictures_that_cannot_be_used_are_refused(pair, tmp_path, flowpipe):
    png = pair[0].read_bytes()
    jpeg = cv2.imencode(".jpg", cv2.imread(str(pair[0])))[1].tobytes()
    clear = cv2.cvtColor(cv2.imread(str(pair[0])), cv2.COLOR_BGR2BGRA)
    clear[..., 3] = 0
    broken = {
        "empty.png": (b"", "cannot be read as a picture"),
        "text.png": (b"no picture", "cannot be read as a picture"),
        "cut.png": (png[: len(png) // 2], "cannot be read as a picture"),
        "cut.jpg": (jpeg[: len(jpeg) // 2], "cannot be read as a picture"),
        "clear.png": (cv2.imencode(".png", clear)[1].tobytes(), "has transparent pixels"),
        "float.tif": (
            cv2.imencode(".tif", np.zeros((60, 80), np.float32))[1].tobytes(),
            "pixels of type float32, wanted 8 or 16 bits",
        ),
    }
    for name, (content, words) in broken.items():
        (tmp_path / name).write_bytes(content)
        said = fail(flowpipe, tmp_path, name, "b.png", "-o", "x.flo", code=1)
        assert name in said and words in said


def test_a_video_is_no_picture(clip, tmp_path, flowpipe):
    said = fail(flowpipe, tmp_path, clip, clip, "-o", "x.flo", code=1)
    assert "clip.avi cannot be read as a picture" in said and "--frame K" in said


def test_pictures_of_two_sizes_need_a_size(pair, tmp_path, flowpipe):
    cv2.imwrite(str(tmp_path / "c.png"), cv2.imread(str(pair[0]))[:50])
    said = fail(flowpipe, tmp_path, "a.png", "c.png", "-o", "x.flo")
    assert "one size, got 80x60 and 80x50; --size WxH" in said
    done = flowpipe("flow", pair[0], tmp_path / "c.png", "-o", tmp_path / "x.flo", *DIS,
                    "--size", "32x24")  # fmt: skip
    assert done.returncode == 0 and read_flo(tmp_path / "x.flo").shape == (24, 32, 2)


def test_an_output_in_a_read_only_folder_is_refused_at_once(pair, tmp_path, flowpipe):
    locked = tmp_path / "locked"
    locked.mkdir(mode=0o555)
    folder = next((f for f in (locked, Path("/proc/sys")) if not os.access(f, os.W_OK)), None)
    if folder is None:
        pytest.skip("this user may write everywhere")
    said = fail(flowpipe, tmp_path, "a.png", "b.png", "-o", folder / "x.flo")
    assert f"the folder {folder} is not writable" in said


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("a.png", "-o", "x.flo"), "give two images, FIRST and SECOND, or one video with --frame"),
        (("a.png", "b.png", "--frame", 0, "-o", "x.flo"), "leave b.png out"),
        (("a.png", "--frame", 0, "-o", "x.flo"), "a.png is a still picture"),
        (("a.png", "nix.png", "-o", "x.flo"), "'nix.png' does not exist"),
        ((".", "b.png", "-o", "x.flo"), "is a folder"),
        (("a.png", "b.png"), "missing option '-o'"),
        (("a.png", "b.png", "-o", "x.jpg"), "ends in .flo or .npy or .png"),
        (("a.png", "b.png", "-o", "flo"), "ends in .flo or .npy or .png"),
        (("a.png", "b.png", "-o", "nowhere/x.flo"), "no folder"),
        (("a.png", "b.png", "-o", "b.png"), "-o b.png: this is an input"),
        (("a.png", "b.png", "-o", "x.flo", "--bound", 3), "--bound belongs to a .png"),
        (("a.png", "b.png", "-o", "x.png", "--bound", 0), "not in the range x>0"),
        (("a.png", "b.png", "-o", "x.png", "--bound", "nan"), "wanted a finite number, got nan"),
        (
            ("a.png", "b.png", "-o", "x.png", "--bound", "inf"),
            "wanted a finite number, got inf",
        ),
        (
            ("a.png", "b.png", "-o", "x.flo", "--flow", "tvl2"),
            "did you mean tvl1? known: tvl1, opencv",
        ),
        (("a.png", "b.png", "-o", "x.flo", "--variant", "opencv3"), "known: opencv2, opencv4"),
        (("a.png", "b.png", "-o", "x.flo", "--device", "abacus"), "known: cpu, cuda, reference"),
        (
            ("a.png", "b.png", "-o", "x.flo", *DIS, "--variant", "opencv2"),
            "dis parameter 'variant' is unkn",
        ),
        (
            ("a.png", "b.png", "-o", "x.flo", "--set", "taux=1"),
            "'taux' is unknown; did you mean tau?",
        ),
        (("a.png", "b.png", "-o", "x.flo", "--set", "tau=fast"), "tau must be float, got 'fast'"),
        (("a.png", "b.png", "-o", "x.flo", "--set", "warps=1.5"), "warps must be int, got 1.5"),
        (("a.png", "b.png", "-o", "x.flo", "--set", "tau=0"), "tau must be in (0, 10]"),
        (("a.png", "b.png", "-o", "x.flo", "--set", "tau=["), "not valid YAML"),
        (("a.png", "b.png", "-o", "x.flo", "--set", "tau"), "wants key=value"),
        (
            ("a.png", "b.png", "-o", "x.flo", "--flow", "raft"),
            "`flowpipe flow`: --set weights=FILE",
        ),
        (("a.png", "b.png", "-o", "x.flo", "--size", "big"), "WIDTHxHEIGHT"),
        (("a.png", "b.png", "-o", "x.flo", "--size", "0x9"), "sides of 1 to 16384"),
        (("a.png", "b.png", "-o", "x.flo", "--size", "99999x9"), "sides of 1 to 16384"),
    ],
)
def test_wrong_use_is_explained(arguments, words, pair, tmp_path, flowpipe):
    assert words in fail(flowpipe, tmp_path, *arguments)


def test_a_frame_beyond_the_end_is_refused_with_their_number(clip, tmp_path, flowpipe):
    for k in (39, 40, 10**9):
        said = fail(flowpipe, tmp_path, clip, "--frame", k, "-o", "x.flo")
        assert "clip.avi has 40 frames, so --frame can be 0 to 38" in said
    assert "not in the range" in fail(flowpipe, tmp_path, clip, "--frame", -1, "-o", "x.flo")


@needs_core
def test_frames_before_the_damage_are_read_and_later_ones_refused(shared_data, tmp_path, flowpipe):
    broken = shared_data / "nasty" / "decord_corrupted.mp4"
    small = ("--size", "64x36", "-o", "x.flo")
    assert "decoding stopped at damage at frame 29" in fail(
        flowpipe, tmp_path, broken, "--frame", 28, *small, code=1
    )
    done = flowpipe("flow", broken, "--frame", 27, *small, cwd=tmp_path)
    assert done.returncode == 0 and read_flo(tmp_path / "x.flo").shape == (36, 64, 2)


def test_a_file_without_video_is_explained(shared_data, tmp_path, flowpipe):
    said = fail(
        flowpipe, tmp_path, shared_data / "nasty" / "sine_mono_s16.wav", "--frame", 0,
        "-o", "x.png", code=1,
    )  # fmt: skip
    assert "no video stream, only audio" in said


def test_an_output_that_cannot_be_written_is_named(pair, tmp_path, flowpipe):
    name = "x" * 251 + ".flo"  # as long as a file's name can be
    assert flowpipe("flow", *pair, "-o", tmp_path / name, *DIS).returncode == 0
    name = "x" * 252 + ".flo"  # longer than a file's name can be
    assert "File name too long" in fail(flowpipe, tmp_path, "a.png", "b.png", "-o", name, *DIS)
