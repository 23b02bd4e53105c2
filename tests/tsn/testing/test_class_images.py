"""`flowpipe draw`: images that a network takes for a class, as pictures and animations."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import cv2
import numpy as np
import pytest

pytest.importorskip("torch", reason="needs torch")

import tiny
import tiny_training as training
import torch
from command import in_process
from PIL import Image

from flowpipe.modality import MODALITIES
from flowpipe.report import Drawing, drawings_page
from flowpipe.tsn.data.inputs import InputSpec
from flowpipe.tsn.run_folder import LAST
from flowpipe.tsn.testing import class_images
from flowpipe.tsn.testing.class_images import OCTAVES, Octave, draw_class
from flowpipe.tsn.testing.scorer import SnippetScorer

FEW = (Octave(1.0, 20, (2.5, 0.78), (11, 11)), Octave(1.2, 20, (0.94, 0.5), (6, 6)))


@pytest.fixture(scope="module")
def runs(store: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Runs of rgb in BGR, of flow and of differences; each learns the brightness of its images."""
    folder = tmp_path_factory.mktemp("runs")
    wanted = {
        "rgb": {"pixels": "caffe", "schedule.lr": 0.0002},
        "flow": {"schedule.lr": 0.2},
        "rgb_diff": {},
    }
    for modality, stream in wanted.items():
        training.run(
            training.job(store, folder, modality, modality=modality, stream=stream, end=12)
        )
    return folder


@pytest.mark.parametrize("modality", ["rgb", "flow", "rgb_diff"])
def test_the_network_itself_gives_the_drawn_image_the_reported_probability(
    runs: Path, modality: str
) -> None:
    network = SnippetScorer(runs / modality, LAST, "cpu")
    drawn = draw_class(network, 2, octaves=FEW[:1])
    spec = InputSpec(modality, network.input.length, modality)
    assert drawn.planes.shape == (
        spec.length, MODALITIES[modality].channels, tiny.SIDE, tiny.SIDE,
    )  # fmt: skip
    with torch.inference_mode():
        x = spec.normalise(torch.from_numpy(drawn.planes)[None], network.row.pixels)
        scores = network.model.snippets(x)[1][0, 0].softmax(0)
    # the drawing was rounded to bytes since
    assert float(scores[2]) == pytest.approx(drawn.probability, abs=0.02)
    assert int(scores.argmax()) == drawn.predicted


@pytest.mark.parametrize("modality", ["rgb", "flow"])
@pytest.mark.parametrize("label", range(len(tiny.CLASSES)))
def test_the_drawing_of_a_class_scores_higher_than_the_noise_it_began_with(
    runs: Path, modality: str, label: int
) -> None:
    network = SnippetScorer(runs / modality, LAST, "cpu")
    noise = draw_class(network, label, octaves=(), start=128)
    drawn = draw_class(network, label, octaves=FEW, start=128)
    assert drawn.probability > noise.probability


@pytest.mark.parametrize(("modality", "mean", "std"), [("rgb", 200, 12), ("rgb_diff", 128, 12)])
def test_the_noise_is_that_of_the_notebooks(
    runs: Path, modality: str, mean: float, std: float
) -> None:
    noise = draw_class(SnippetScorer(runs / modality, LAST, "cpu"), 0, octaves=())
    assert (noise.planes.mean(), noise.planes.std()) == pytest.approx((mean, std), abs=1)


def test_an_octave_enlarges_the_image_and_the_network_sees_crops_of_it(runs: Path) -> None:
    network = SnippetScorer(runs / "rgb", LAST, "cpu")
    steps = []
    drawn = draw_class(network, 0, progress=lambda: steps.append(1))
    # 32, 38, 46: as 224 becomes 269 and 323
    assert drawn.planes.shape == (1, 3, 46, 46)
    assert len(steps) == sum(octave.steps for octave in OCTAVES) == 500


def test_the_schedule_changes_evenly_from_the_first_step_to_the_end() -> None:
    assert OCTAVES[0].at(0) == (2.5, 11)
    blur_px, change = OCTAVES[2].at(75)  # half way
    assert (blur_px, change) == pytest.approx((0.688, 4.5))


def test_draw_writes_a_page_that_its_seed_repeats(
    runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(class_images, "draw_class", partial(draw_class, octaves=FEW))
    arguments = ("draw", runs / "rgb", runs / "flow", "--class", "dark", "--class", "bright")
    pages = {}
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        result = in_process(*arguments, "-o", tmp_path / f"{name}.png", "--seed", seed)
        assert result.returncode == 0, result.stderr
        pages[name] = cv2.imread(str(tmp_path / f"{name}.png"))
    assert len([line for line in result.stdout.splitlines() if "bright" in line]) >= 2
    assert np.array_equal(pages["a"], pages["b"])
    assert not np.array_equal(pages["a"], pages["c"])


def test_the_page_has_a_row_for_each_class_and_a_column_for_each_run() -> None:
    def drawing(level: int) -> Drawing:
        strip = np.full((1, 40, 60, 3), level, np.uint8)
        return Drawing("class", "run", "note", False, (strip,))

    page = drawings_page([[drawing(10), drawing(20)], [drawing(30), drawing(40)]])
    found = [np.argwhere((page == level).all(axis=2)) for level in (10, 20, 30, 40)]
    assert [len(places) for places in found] == [40 * 60] * 4
    (top, left), (_, right), (low, _), _ = (places[0] for places in found)
    assert right >= left + 60
    assert low >= top + 40


def test_an_animation_has_a_frame_for_each_image_of_a_snippet(runs: Path, tmp_path: Path) -> None:
    path = tmp_path / "flow.gif"
    result = in_process("draw", runs / "flow", "--class", "middle", "-o", path)
    assert result.returncode == 0, result.stderr
    with Image.open(path) as gif:
        assert (gif.n_frames, gif.info["duration"]) == (2, 200)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (
            ("rgb", "--class", "birght", "-o", "x.png"),
            "class 'birght' is unknown; did you mean bright?",
        ),
        (("rgb", "--class", "dark", "-o", "x.gif"), "choose a name that ends in .png"),
        (("rgb", "--class", "dark", "-o", "x.jpg"), "wanted a name that ends in .png or .gif"),
        (("rgb", "-o", "x.png"), "missing option '--class'"),
    ],
)
def test_wrong_options_are_answered_before_anything_is_drawn(
    runs: Path, tmp_path: Path, arguments: tuple[str, ...], words: str
) -> None:
    result = in_process("draw", runs / arguments[0], *arguments[1:], cwd=tmp_path)
    assert result.returncode == 2
    assert words in result.stderr
    assert not list(tmp_path.iterdir())
