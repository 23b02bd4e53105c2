"""predict gives the scores of test for the same video, and a time line; wrong use is explained."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs torch")

import tiny  # noqa: E402
from command import FAST, draw_noise_clip, in_process  # noqa: E402
from videofile import encode_video  # noqa: E402

from flowpipe.evaluation import read_h5  # noqa: E402
from flowpipe.tsn.testing.predict import PredictedInterval, Prediction, time_line  # noqa: E402

pytestmark = pytest.mark.usefixtures("lasting_workers")
SHADES = {"bright": 170, "dark": 0, "middle": 85}

tiny.register()


def flowpipe(*words: object, code: int = 0) -> tuple[str, str]:
    """What a command says on stdout and stderr."""
    done = in_process(*words)
    assert done.returncode == code, done.stderr
    return done.stdout, done.stderr


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Videos of three shades, a store of them, and a run each of rgb and flow."""
    folder = tmp_path_factory.mktemp("predict")
    lines = ["video_id,path,label,split"]
    for number in range(9):
        label = tuple(SHADES)[number % 3]
        frames = (draw_noise_clip(number) // 3 + SHADES[label]).astype(np.uint8)
        encode_video(folder / f"{number}.mp4", frames)
        split = "test1" if number >= 6 else "train1"
        lines.append(f"{label}-{number},{folder / f'{number}.mp4'},{label},{split}")
    (folder / "list.csv").write_text("\n".join(lines) + "\n")
    flowpipe("extract", "--videos", folder / "list.csv", "--out", folder / "store", *FAST)
    recipe = tiny.write_recipe(folder / "recipe.yaml", end=40, step=30)
    for modality in ("rgb", "flow"):
        flowpipe(
            "train", folder / "store", "--recipe", recipe, "--modality", modality, "-o",
            folder / modality, "--workers", 0, "--validate-every", 20,
        )  # fmt: skip
        flowpipe("test", folder / "store", folder / modality, "-o", folder / f"{modality}.h5")
    return folder


def softmax(scores: np.ndarray) -> np.ndarray:
    return np.exp(scores - scores.max()) / np.exp(scores - scores.max()).sum()


def test_predict_gives_the_scores_of_test_for_the_same_video(place: Path) -> None:
    out, _ = flowpipe(
        "predict", place / "7.mp4", place / "rgb", place / "flow", "--weights", "1,0.5", "--json"
    )
    said = json.loads(out)
    scores = {name: read_h5(place / f"{name}.h5") for name in ("rgb", "flow")}
    rows = {n: s.values[s.video_ids.index("dark-7")] for n, s in scores.items()}
    names = sorted(SHADES)
    fused = softmax(rows["rgb"] + 0.5 * rows["flow"])
    assert [row["class"] for row in said["top"]] == [names[k] for k in np.argsort(-fused)]
    for wanted, found in (
        (fused, said["top"]),
        *((softmax(rows[n]), said["runs"][str(place / n)]) for n in rows),
    ):
        of_class = {row["class"]: row["probability"] for row in found}
        np.testing.assert_allclose([of_class[n] for n in names], wanted, atol=1e-4)
    out, _ = flowpipe(
        "predict", place / "7.mp4", place / "rgb", place / "flow", "--weights", "1,0", "--json"
    )
    first = json.loads(out)
    assert first["top"] == first["runs"][str(place / "rgb")] == said["runs"][str(place / "rgb")]
    assert first["runs"][str(place / "flow")] == said["runs"][str(place / "flow")]
    alone, _ = flowpipe("predict", place / "7.mp4", place / "rgb", "--json", "--top", 1)
    assert [row["class"] for row in json.loads(alone)["top"]] == ["dark"]


def test_predict_prints_a_table_and_a_time_line(place: Path) -> None:
    parts = [(draw_noise_clip(9, 50) // 3 + SHADES[name]).astype(np.uint8) for name in SHADES]
    video = encode_video(place / "long.mp4", np.concatenate(parts))
    out, _ = flowpipe(
        "predict", video, place / "rgb", "--protocol", "mtwi", "--rate", 5, "--least", 0.4
    )
    assert "█" in out and "probability" in out
    lines = [line.split() for line in out.splitlines() if " - " in line]
    said = [(line[0], line[2], line[3]) for line in lines]
    assert said == [
        ("0:00.0", "0:02.0", "bright"), ("0:02.0", "0:04.0", "dark"),
        ("0:04.0", "0:06.0", "middle"),
    ]  # fmt: skip
    out, _ = flowpipe("predict", video, place / "rgb", "--protocol", "mtwi", "--json")
    values = json.loads(out)
    assert [row["time_s"] for row in values["snippets"]] == pytest.approx([0, 1, 2, 3, 4, 5])
    assert {row["class"] for row in values["time_line"]} <= {*SHADES, None}


def test_a_damaged_video_is_used_up_to_the_damage(place: Path) -> None:
    encode_video(place / "cut.avi", draw_noise_clip(3, 60) // 3, codec="mjpeg", pix_fmt="yuvj420p")
    content = (place / "cut.avi").read_bytes()
    (place / "cut.avi").write_bytes(content[: len(content) // 2])
    out, _ = flowpipe("predict", place / "cut.avi", place / "rgb", "--json")
    values = json.loads(out)
    assert values["top"][0]["class"] == "dark" and 0 < values["end_s"] < 2


def test_wrong_use_is_explained(place: Path, tmp_path: Path) -> None:
    video = place / "7.mp4"
    _, said = flowpipe("predict", tmp_path / "none.mp4", place / "rgb", code=2)
    assert "no such file" in said
    _, said = flowpipe("predict", tmp_path, place / "rgb", code=2)
    assert "is a folder; wanted one video file" in said
    _, said = flowpipe("predict", place / "list.csv", place / "rgb", code=1)
    assert "list.csv cannot be extracted: cannot be read as a video" in said
    assert said.count("list.csv") == 1
    _, said = flowpipe("predict", video, place / "rgb", "--weights", "1,2", code=2)
    assert "--weights must be 1 number from 0 up, one of them above 0, such as 1, got" in said
    _, said = flowpipe("predict", video, place / "rgb", "--consensus", "attention", code=2)
    assert "consensus attention has learned weights" in said
    _, said = flowpipe("predict", video, place / "store", code=2)
    assert "is a store; a run is a folder with run.json" in said
    other = tmp_path / "other"
    shutil.copytree(place / "rgb", other)
    facts = json.loads((other / "run.json").read_text())
    (other / "run.json").write_text(json.dumps({**facts, "class_names": ["a", "b", "c"]}))
    _, said = flowpipe("predict", video, place / "rgb", other, code=2)
    assert "knows other classes" in said
    (other / "run.json").write_text(json.dumps({**facts, "extraction": {"imported": "x"}}))
    _, said = flowpipe("predict", video, other, code=2)
    assert "imported store" in said and "--recipe" in said
    short = encode_video(tmp_path / "one.mp4", draw_noise_clip(1, 1))
    _, said = flowpipe("predict", short, place / "flow", code=1)
    assert "too few for flow" in said


def test_the_time_line_joins_neighbours_of_one_class() -> None:
    by_snippet = np.array([[0.9, 0.1], [0.8, 0.2], [0.55, 0.45], [0.3, 0.7], [0.2, 0.8]])
    said = Prediction(
        class_names=("a", "b"),
        probabilities=by_snippet[0],
        of_runs=(),
        times_s=np.arange(5.0),
        by_snippet=by_snippet,
        end_s=4.5,
    )
    assert time_line(said, 0.6) == [
        PredictedInterval(0, 2, 0, pytest.approx(0.85)), PredictedInterval(2, 3, None, 0.55),
        PredictedInterval(3, 4.5, 1, pytest.approx(0.75)),
    ]  # fmt: skip
