"""Score files -> the figures of the original code, mmaction2, ActivityNet and flowpipe.

    python benchmarks/score_files.py --tsn TREE --mmaction2 TREE --activitynet TREE

TREE is a checkout of yjxiong/temporal-segment-networks, open-mmlab/mmaction2 or activitynet/
ActivityNet. Random scores of 200 videos and 8 classes are written as each system's files, and each
system's own script evaluates them: eval_scores.py fuses two .npz files, report_accuracy.py reads
the .pkl and ANETclassification the .json that `flowpipe fuse` writes. Code of Python 2 is run
through lib2to3, which Python has up to 3.12. mmaction2's script needs mmengine, ActivityNet's
pandas.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

from flowpipe.evaluation import PROTOCOLS, Scores, evaluate, read_h5, write_scores

VIDEOS, CLASSES, SNIPPETS = 200, 8, 25
WEIGHTS = ("1", "1.5")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    for name in ("tsn", "mmaction2", "activitynet"):
        parser.add_argument(f"--{name}", type=Path, help=f"checkout of {name}")
    chosen = parser.parse_args()
    rng = np.random.default_rng(3)
    labels = rng.integers(0, CLASSES, VIDEOS)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_files(folder, labels, rng)
        figures = evaluate(PROTOCOLS["accuracy"], *read_fused(folder)).figures
        if chosen.tsn:
            theirs = run_tsn(chosen.tsn, folder)
            show(
                "eval_scores.py, mean class accuracy", theirs, 100 * figures["mean class accuracy"]
            )
        if chosen.mmaction2:
            theirs = run_mmaction2(chosen.mmaction2, folder)
            for key, value in theirs.items():
                show(f"report_accuracy.py, {key}", value, figures[key])
        if chosen.activitynet:
            ours = evaluate(PROTOCOLS["activitynet"], *read_fused(folder)).figures
            for key, value in run_activitynet(chosen.activitynet, folder, labels).items():
                show(f"ANETclassification, {key}", value, ours[key])


def write_files(folder: Path, labels: np.ndarray, rng: np.random.Generator) -> None:
    """Write two .npz files of the original code, and what `flowpipe fuse` makes of them."""
    for name, crops in (("rgb", 10), ("flow", 1)):
        rows = np.empty((VIDEOS, 2), object)
        for row, label in enumerate(labels.tolist()):
            scores = rng.normal(size=(SNIPPETS, crops, CLASSES)).astype(np.float32)
            scores += rng.normal(size=CLASSES).astype(np.float32)
            scores[..., label] += 1
            rows[row] = [scores, label]
        np.savez(folder / f"{name}.npz", scores=rows, labels=labels)
    fuse(folder, "rgb.npz", "flow.npz", "--weights", ",".join(WEIGHTS), "-o", "plain.h5")
    read = read_h5(folder / "plain.h5")
    facts = {"class_names": [f"class {k}" for k in range(CLASSES)], "dataset": "ucf101"}
    write_scores(folder / "all.h5", Scores("", read.video_ids, read.values, read.positives), facts)
    for ending in ("json", "pkl"):
        fuse(folder, "all.h5", "-o", f"all.{ending}")


def fuse(folder: Path, *words: str) -> None:
    command = [sys.executable, "-m", "flowpipe", "fuse", *words]
    subprocess.run(command, cwd=folder, check=True, stdout=subprocess.DEVNULL)


def read_fused(folder: Path) -> tuple[np.ndarray, np.ndarray]:
    """Return the fused scores and the labels, both (N, C)."""
    read = read_h5(folder / "all.h5")
    assert read.positives is not None
    return read.values, read.positives


def run_tsn(tree: Path, folder: Path) -> float:
    """Return the accuracy that eval_scores.py prints, in %."""
    for name in ("tools/eval_scores.py", "pyActionRecog/utils/video_funcs.py",
                 "pyActionRecog/utils/metrics.py"):  # fmt: skip
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        text = (tree / name).read_text().replace("np.load(x)", "np.load(x, allow_pickle=True)")
        path.write_text(text.rstrip() + "\n")
    for package in ("pyActionRecog", "pyActionRecog/utils"):
        (folder / package / "__init__.py").touch()
    subprocess.run(
        [sys.executable, "-m", "lib2to3", "-wn", "tools", "pyActionRecog"], cwd=folder, check=True,
        capture_output=True,
    )  # fmt: skip
    command = ["tools/eval_scores.py", "rgb.npz", "flow.npz", "--score_weights", *WEIGHTS]
    done = subprocess.run(
        [sys.executable, *command], cwd=folder, check=True, capture_output=True, text=True
    )
    return float(re.search(r"Final accuracy ([\d.]+)%", done.stdout)[1])


def run_mmaction2(tree: Path, folder: Path) -> dict[str, float]:
    """Return the figures that report_accuracy.py prints."""
    # the script needs one module of mmaction2, whose package needs mmcv
    package = folder / "mmaction" / "evaluation"
    package.mkdir(parents=True)
    (package.parent / "__init__.py").touch()
    (package / "__init__.py").touch()
    source = (tree / "mmaction/evaluation/functional/accuracy.py").read_text()
    (package / "functional.py").write_text(source)
    script = tree / "tools/analysis_tools/report_accuracy.py"
    done = subprocess.run(
        [sys.executable, "-c", f"exec(open({str(script)!r}).read())",
         "--preds", "all.pkl", "--coefficients", "1"],
        cwd=folder, check=True, capture_output=True, text=True,
    )  # fmt: skip
    names = {"Mean Class": "mean class accuracy", "Top 1": "accuracy", "Top 5": "top-5 accuracy"}
    return {
        ours: float(re.search(rf"{theirs} Accuracy: ([\d.]+)", done.stdout)[1])
        for theirs, ours in names.items()
    }


def run_activitynet(tree: Path, folder: Path, labels: np.ndarray) -> dict[str, float]:
    """Return the figures of ActivityNet's class ANETclassification."""
    for name in ("eval_classification.py", "utils.py"):
        text = (tree / "Evaluation" / name).read_text().replace("np.float)", "float)")
        (folder / name).write_text(text)
    subprocess.run(
        [sys.executable, "-m", "lib2to3", "-wn", "eval_classification.py", "utils.py"], cwd=folder,
        check=True, capture_output=True,
    )  # fmt: skip
    database = {
        str(k): {"subset": "validation", "annotations": [{"label": f"class {label}"}]}
        for k, label in enumerate(labels.tolist())
    }
    truth = {"version": "VERSION 1.3", "database": database, "taxonomy": []}
    (folder / "truth.json").write_text(json.dumps(truth))
    code = (
        "from eval_classification import ANETclassification as A\n"
        "a = A('truth.json', 'all.json', subset='validation', top_k=3, check_status=False)\n"
        "a.evaluate()\nprint('figures', a.ap.mean(), a.hit_at_k)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=folder, check=True, stdout=subprocess.PIPE, text=True
    )
    line = next(one for one in done.stdout.splitlines() if one.startswith("figures"))
    return dict(zip(("mAP", "Hit@3"), map(float, line.split()[1:]), strict=True))


def show(name: str, theirs: float, ours: float) -> None:
    print(f"{name}: theirs {theirs:.6f}, ours {ours:.6f}, difference {abs(theirs - ours):.1e}")


if __name__ == "__main__":
    main()
