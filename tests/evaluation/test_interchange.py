"""Scores of the original code are read; ActivityNet's and mmaction2's files are written."""

from __future__ import annotations

import io
import json
import os
import pickle
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from command import in_process
from numpy.typing import NDArray

from flowpipe.errors import FormatError
from flowpipe.evaluation import Scores, read_h5, read_original_scores, write_scores

VIDEOS, CLASSES = 7, 3
LABELS = np.array([0, 1, 2, 0, 1, 2, 2])


def snippets(seed: int, crops: int) -> list[NDArray[np.float32]]:
    """Return scores (snippets, crops, classes) of videos that mostly agree with the labels."""
    rng = np.random.default_rng(seed)
    made = rng.normal(size=(VIDEOS, 5, crops, CLASSES)).astype(np.float32)
    made[np.arange(VIDEOS), ..., LABELS] += 0.6
    return list(made)


def save_as_the_original(path: Path, scores: list[NDArray[np.float32]], protocol: int = 2) -> Path:
    """Write what ``numpy.savez(path, scores=[(array, label), ...], labels=...)`` wrote in 2017."""
    rows = np.empty((len(scores), 2), object)
    for row, (array, label) in enumerate(zip(scores, LABELS.tolist(), strict=True)):
        rows[row] = [array, label]
    with zipfile.ZipFile(path, "w") as archive:
        for name, array in (("scores", rows), ("labels", LABELS)):
            content = io.BytesIO()
            header = {"descr": "|O", "fortran_order": False, "shape": rows.shape}
            if name == "scores":
                np.lib.format.write_array_header_1_0(content, header)
                pickle.dump(rows, content, protocol)
            else:
                np.save(content, array)
            archive.writestr(f"{name}.npy", content.getvalue())
    return path


@pytest.mark.parametrize("protocol", [2, 4])
@pytest.mark.parametrize("crops", ["mean", "max"])
def test_crops_are_pooled_before_snippets_as_in_eval_scores(
    tmp_path: Path, crops: Any, protocol: int
) -> None:
    made = snippets(1, crops=10)
    read = read_original_scores(
        save_as_the_original(tmp_path / "s.npz", made, protocol), crops=crops
    )
    wanted = [getattr(np, crops)(one.astype(float), axis=1).mean(axis=0) for one in made]
    np.testing.assert_allclose(read.values, wanted, atol=1e-12)
    assert read.positives is not None
    assert read.positives.argmax(1).tolist() == LABELS.tolist()
    assert read.video_ids == tuple("0123456")


def test_what_numpy_saves_today_is_read_too(tmp_path: Path) -> None:
    made = snippets(1, crops=1)
    rows = np.empty((VIDEOS, 2), object)
    for row in range(VIDEOS):
        rows[row] = [made[row], np.int64(LABELS[row])]
    np.savez(tmp_path / "s.npz", scores=rows, labels=LABELS)
    read = read_original_scores(tmp_path / "s.npz")
    np.testing.assert_allclose(read.values, [one.mean((0, 1)) for one in made], atol=1e-6)


def test_code_in_a_pickle_is_refused_and_not_run(tmp_path: Path) -> None:
    class OfficialCode:
        def __reduce__(self) -> Any:
            return os.mkdir, (str(tmp_path / "run"),)

    rows = np.empty((1, 2), object)
    rows[0] = [OfficialCode(), 0]
    np.savez(tmp_path / "s.npz", scores=rows, labels=np.array([0]))
    with pytest.raises(FormatError, match=r"names posix.mkdir, which no array needs"):
        read_original_scores(tmp_path / "s.npz")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("what", ["empty", "other arrays", "text", "other lengths", "rows"])
def test_other_files_are_described(tmp_path: Path, what: str) -> None:
    path, rows = tmp_path / "s.npz", ()
    if what == "empty":
        path.touch()
    elif what == "text":
        path.write_text("video 1 2 3")
    elif what == "other arrays":
        np.savez(path, scores=np.zeros((3, 4)))
    elif what == "other lengths":
        made = snippets(1, crops=1)
        made[3] = np.zeros((5, 1, 4), np.float32)
        save_as_the_original(path, made)
    else:
        save_as_the_original(path, snippets(1, crops=1))
        rows = ("a", "b")
    with pytest.raises(FormatError) as caught:
        read_original_scores(path, rows)
    assert str(path) in str(caught.value)
    words = "the list of its rows has 2" if rows else "wanted what --save_scores of TSN's"
    assert words in str(caught.value)


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """Two files of the original code, their list, and one of flowpipe with the same videos."""
    for number, crops in ((1, 1), (2, 10)):
        save_as_the_original(tmp_path / f"{number}.npz", snippets(number, crops))
    names = [f"v_{number}" for number in range(VIDEOS)]
    lines = [f"Class/{name}.avi {label}\n" for name, label in zip(names, LABELS, strict=True)]
    (tmp_path / "test.txt").write_text("".join(lines))
    values = np.array([one.mean((0, 1)) for one in snippets(3, 1)], float)
    positives = np.eye(CLASSES, dtype=bool)[LABELS]
    facts = {"class_names": ["hug", "kick", "wave"], "modality": "flow"}
    write_scores(tmp_path / "3.h5", Scores("", tuple(names), values, positives), facts)
    return tmp_path


def test_fuse_adds_files_of_the_original_code(files: Path) -> None:
    done = in_process("fuse", "1.npz", "2.npz", "--weights", "1,1.5", "-o", "all.h5", cwd=files)
    assert done.returncode == 0, done.stderr
    one, two = (np.array([s.astype(float).mean((0, 1)) for s in snippets(*k)]) for k in
                ((1, 1), (2, 10)))  # fmt: skip
    np.testing.assert_allclose(read_h5(files / "all.h5").values, one + 1.5 * two, atol=1e-6)


def test_fuse_does_not_overwrite_a_file_that_it_reads(files: Path) -> None:
    content = (files / "3.h5").read_bytes()
    done = in_process("fuse", "3.h5", "-o", files / "3.h5", cwd=files)
    assert (done.returncode, "this is an input file" in done.stderr) == (2, True)
    assert (files / "3.h5").read_bytes() == content


def test_fuse_adds_a_file_of_the_original_code_to_one_of_flowpipe(files: Path) -> None:
    done = in_process("fuse", "3.h5", "1.npz", "-o", "all.h5", cwd=files)
    assert (done.returncode, "different videos" in done.stderr) == (2, True)
    done = in_process("fuse", "3.h5", "1.npz", "--rows", "test.txt", "-o", "all.h5", cwd=files)
    assert done.returncode == 0, done.stderr
    one, three = (np.array([s.astype(float).mean((0, 1)) for s in snippets(*k)]) for k in
                  ((1, 1), (3, 1)))  # fmt: skip
    np.testing.assert_allclose(read_h5(files / "all.h5").values, one + three, atol=1e-6)


def test_results_for_activitynet_have_each_score_by_name(files: Path) -> None:
    done = in_process("fuse", "3.h5", "-o", "results.json", cwd=files)
    assert done.returncode == 0, done.stderr
    content = json.loads((files / "results.json").read_text())
    assert set(content) == {"version", "results", "external_data"}
    scores = read_h5(files / "3.h5")
    for video_id, row in zip(scores.video_ids, scores.values, strict=True):
        found = {one["label"]: one["score"] for one in content["results"][video_id]}
        assert found == dict(zip(["hug", "kick", "wave"], row.tolist(), strict=True))
    done = in_process("fuse", "1.npz", "-o", "other.json", cwd=files)
    assert (done.returncode, "names of classes" in done.stderr) == (2, True)


def test_results_for_mmaction2_are_what_it_dumps(files: Path) -> None:
    torch = pytest.importorskip("torch", reason="needs torch")
    done = in_process("fuse", "3.h5", "-o", "results.pkl", cwd=files)
    assert done.returncode == 0, done.stderr
    rows = pickle.loads((files / "results.pkl").read_bytes())
    assert [row["gt_label"].item() for row in rows] == LABELS.tolist()
    wanted = torch.from_numpy(read_h5(files / "3.h5").values).float()
    assert torch.equal(torch.stack([row["pred_score"] for row in rows]), wanted)


def test_an_unknown_ending_is_refused_before_any_work(files: Path) -> None:
    done = in_process("fuse", "3.h5", "-o", "results.txt", cwd=files)
    assert (done.returncode, ".h5 or .json or .pkl" in done.stderr) == (2, True)
