"""Each program in examples/ runs as its first lines say, in a process of its own."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
from checkout import ROOT, python_path

EXAMPLES = ROOT / "examples"
NEEDS_TORCH = pytest.mark.skipif(
    find_spec("torch") is None, reason="needs torch: pip install '.[train]'"
)
LINE = re.compile(r"(\w+): (\S+) px per frame in (\d+) videos")
COVERED = {
    "extract_on_cluster.py",
    "flow_of_camera.py",
    "read_numpy.py",
    "tour_of_a_store.py",
    "train_pytorch.py",
}


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve videos of three classes, which brightness tells apart."""
    pytest.importorskip("torch", reason="the store for it is made by a helper that needs torch")
    import tiny

    return tiny.make_store(tmp_path_factory.mktemp("examples") / "store")


def example(name: str, *words: object) -> str:
    """Return what an example prints."""
    done = subprocess.run(
        [sys.executable, str(EXAMPLES / name), *map(str, words)],
        env={**os.environ, "PYTHONPATH": python_path(ROOT)},
        capture_output=True, text=True, timeout=250,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_every_example_is_run_here_and_shows_its_own_command() -> None:
    assert {path.name for path in EXAMPLES.glob("*.py")} == COVERED
    for name in COVERED:
        assert f"python examples/{name} " in (EXAMPLES / name).read_text(encoding="utf-8")


@NEEDS_TORCH
def test_the_trainer_learns(store: Path) -> None:
    printed = example("train_pytorch.py", store, "--epochs", 12, "--workers", 1)
    losses = [float(loss) for loss in re.findall(r"^epoch \d+: loss (\S+)$", printed, re.M)]
    assert len(losses) == 12 and losses[-1] < losses[0] / 2
    assert re.search(r"^test accuracy: [01]\.\d{3}$", printed, re.M)


def test_numpy_reads_the_motion_of_each_class(store: Path) -> None:
    """Values of a class are uniform over 60 bytes at a bound of 20 px."""
    lines = example("read_numpy.py", store).splitlines()
    found = {m[1]: (float(m[2]), int(m[3])) for m in map(LINE.fullmatch, lines) if m}
    assert set(found) == {"dark", "middle", "bright"} and len(lines) == 3
    assert {count for _, count in found.values()} == {4}
    assert found["middle"][0] < found["dark"][0]


def test_the_tour_shows_a_store(store: Path) -> None:
    printed = example("tour_of_a_store.py", store)
    assert "modalities: rgb, flow\n" in printed and "classes: dark, middle, bright\n" in printed
    assert "rgb uint8 (5, 3, 36, 48)\n" in printed and "flow float32 (1, 2, 36, 48)" in printed
    size = re.search(r"^codec raw, first image (\d+) bytes$", printed, re.M)
    assert size and int(size[1]) >= 3 * 36 * 48


def test_the_flow_of_a_video_file_is_drawn(tmp_path: Path) -> None:
    pytest.importorskip("av", reason="needs av to encode the video")
    from videofile import encode_video, moving_clip

    video = encode_video(tmp_path / "clip.mp4", moving_clip(5))
    printed = example("flow_of_camera.py", video, "-o", tmp_path / "flow", "--width", 96)
    assert len(re.findall(r"^frames \d+ to \d+: median \S+ px$", printed, re.M)) == 4
    assert len(list((tmp_path / "flow").glob("*.png"))) == 4


def test_a_cluster_extracts_videos(tmp_path: Path) -> None:
    pytest.importorskip("av", reason="needs av to encode the video")
    from videofile import encode_video, moving_clip

    (tmp_path / "clips" / "wave").mkdir(parents=True)
    encode_video(tmp_path / "clips" / "wave" / "1.mp4", moving_clip(3))
    printed = example("extract_on_cluster.py", tmp_path / "clips", tmp_path / "store")
    assert "1/1 videos, wave/1.mp4: done" in printed
    assert f"store: {tmp_path / 'store'}, done: 1\n" in printed and "failed" not in printed
