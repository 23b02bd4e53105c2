"""Official detection evaluations and ours -> the largest difference of any figure.

    python benchmarks/detection_kits.py --activitynet ActivityNet/Evaluation \
        [--ground-truth activity_net.v1-3.min.json]
    python benchmarks/detection_kits.py --thumos14 UntrimmedNet/matlab --annotations FOLDER
    python benchmarks/detection_kits.py --thumos14-11 evalkit_2014 --annotations FOLDER

The official code is read from your copies: ActivityNet's repository (Python 2: print statements,
iteritems and the like are replaced in memory; it needs pandas and joblib), and the folder with
TH14evalDet.m of the kit of 2015 or TH14evaldet.m of the kit of 2014 (they need Octave). FOLDER has
THUMOS14's <Class>_test.txt. Detections are random: ground truth that is shifted, repeated and put
into other classes and videos, with scores of which some are equal. With --ground-truth the sample
file of ActivityNet is evaluated too.
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
import subprocess
import sys
import tempfile
import types
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from flowpipe.datasets.annotations import read_annotations
from flowpipe.evaluation.detection_protocols import DETECTION_PROTOCOLS, evaluate_detections
from flowpipe.evaluation.detections import read_detections
from flowpipe.evaluation.instances import select_instances
from flowpipe.types import VideoRecord

FloatArray = NDArray[np.float64]
TO_PYTHON_3 = (
    (r"^(\s*)print .*$", r"\1pass"),
    (r"\biteritems\b", "items"),
    (r"\burllib2\b", "urllib.request"),
    (r"\bxrange\b", "range"),
    (r"\bnp\.float\b", "float"),
)


def main() -> None:
    """Run the kits that are given."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--activitynet", type=Path, help="folder Evaluation of its repository")
    parser.add_argument("--ground-truth", type=Path, help="ActivityNet's annotations, JSON")
    parser.add_argument("--thumos14", type=Path, help="folder of TH14evalDet.m, kit of 2015")
    parser.add_argument("--thumos14-11", type=Path, help="folder of TH14evaldet.m, kit of 2014")
    parser.add_argument("--annotations", type=Path, help="THUMOS14's temporal annotations, test")
    parser.add_argument("--seeds", type=int, default=5, help="random files of detections")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        if chosen.activitynet:
            activitynet(chosen.activitynet, chosen.ground_truth, chosen.seeds, Path(folder))
        for kit, name, command in (
            (chosen.thumos14, "thumos14-detection", "TH14evalDet"),
            (chosen.thumos14_11, "thumos14-detection-11", "TH14evaldet"),
        ):
            if kit:
                thumos14(kit, chosen.annotations, chosen.seeds, Path(folder), name, command)


def activitynet(kit: Path, ground_truth: Path | None, seeds: int, folder: Path) -> None:
    """Compare with ActivityNet's code on random files, and on its sample file."""
    official = official_activitynet(kit)
    for seed in range(seeds):
        truth, detections = folder / "truth.json", folder / "detections.json"
        random_activitynet(seed, truth, detections)
        compare_activitynet(f"random {seed}", official, truth, detections)
    if ground_truth:
        sample = kit / "data" / "sample_detection_prediction.json"
        compare_activitynet(sample.name, official, ground_truth, sample)


def official_activitynet(kit: Path) -> types.ModuleType:
    """Return eval_detection.py of the kit as a module of Python 3, in one process."""
    import joblib

    for name in ("utils", "eval_detection"):
        text = (kit / f"{name}.py").read_text(encoding="utf-8")
        for pattern, new in TO_PYTHON_3:
            text = re.sub(pattern, new, text, flags=re.MULTILINE)
        module = types.ModuleType(name)
        sys.modules[name] = module
        exec(compile(text, str(kit / f"{name}.py"), "exec"), module.__dict__)
    module.Parallel = lambda n_jobs: joblib.Parallel(n_jobs=1)  # type: ignore[attr-defined]
    return module


def compare_activitynet(
    name: str, official: types.ModuleType, truth: Path, detections: Path
) -> None:
    """Print the average mAP of both and the largest difference."""
    theirs = official.ANETdetection(str(truth), str(detections), check_status=False)
    theirs.evaluate()
    dataset = read_annotations(truth)
    ours = evaluate_detections(
        DETECTION_PROTOCOLS["activitynet-detection"],
        read_detections(detections, dataset.class_names),
        select_instances(dataset.absent, "val1"),
    )
    columns = [theirs.activity_index[dataset.class_names[label]] for label in ours.labels]
    difference = np.abs(theirs.ap[:, columns] - ours.by_class).max()
    print(
        f"activitynet-detection, {name}: average mAP {theirs.average_mAP:.10f} official, "
        f"{ours.average:.10f} ours, largest difference of {ours.by_class.size} AP {difference:.1e}"
    )


def random_activitynet(seed: int, truth: Path, detections: Path) -> None:
    """Write random ground truth and detections in the form of ActivityNet."""
    rng = np.random.default_rng(seed)
    names, database = [f"class {k}" for k in range(6)], {}
    results: dict[str, list[dict[str, object]]] = {f"unknown{k:04}": [] for k in range(3)}
    for number in range(60):
        segments = [sorted(rng.uniform(0, 60, 2).round(1).tolist()) for _ in range(rng.integers(5))]
        segments += [segments[0]] if segments and rng.random() < 0.2 else []
        own = [{"label": names[rng.integers(6)], "segment": segment} for segment in segments]
        subset = "validation" if number % 4 else "training"
        database[f"video{number:06}"] = {"subset": subset, "annotations": own}
        results[f"video{number:06}"] = [
            {
                "label": names[rng.integers(6)] if rng.random() < 0.2 else one["label"],
                "score": float(rng.integers(0, 40) / 40 if seed % 2 else rng.random()),
                "segment": sorted(
                    np.maximum(0, one["segment"] + rng.normal(0, rng.choice([0, 2, 8]), 2)).tolist()
                ),
            }
            for one in own
            for _ in range(rng.integers(4))
        ]
    for found in results.values():
        found.append({"label": names[0], "score": 0.5, "segment": [0.0, 30.0]})
    taxonomy = [{"nodeName": name, "parentName": "root"} for name in names]
    truth.write_text(json.dumps({"database": database, "taxonomy": taxonomy, "version": "x"}))
    detections.write_text(json.dumps({"results": results, "version": "x", "external_data": {}}))


def thumos14(
    kit: Path, annotations: Path, seeds: int, folder: Path, name: str, command: str
) -> None:
    """Compare with a kit of THUMOS14 on random files."""
    if shutil.which("octave-cli") is None:
        sys.exit("wanted octave-cli, which runs the kits of THUMOS14: apt install octave")
    truth = select_instances(read_annotations(annotations).absent, "test1")
    protocol = DETECTION_PROTOCOLS[name]
    class_list = next(iter((*annotations.rglob("detclasslist.txt"),
                            *annotations.parent.glob("detclasslist.txt"))))  # fmt: skip
    copies = folder / name
    shutil.copytree(annotations, copies, dirs_exist_ok=True)
    shutil.copy(class_list, copies / "detclasslist.txt")
    for seed in range(seeds):
        detections = folder / "detections.txt"
        detections.write_text("".join(random_thumos14(seed, read_annotations(annotations).absent)))
        class_names = read_annotations(annotations).class_names
        ours = evaluate_detections(protocol, read_detections(detections, class_names), truth)
        theirs = official_thumos14(kit, command, copies, detections, protocol.tiou)
        shared = min(len(theirs), len(ours.by_class))  # the kit of 2014 ends at 0.5
        difference = np.abs(theirs[:shared] - ours.by_class[:shared]).max()
        print(
            f"{name}, random {seed}: mAP at 0.5 {theirs[4].mean():.10f} official, "
            f"{ours.mean_average_precision[4]:.10f} ours, largest difference of "
            f"{ours.by_class[:shared].size} AP {difference:.1e}"
        )


def official_thumos14(
    kit: Path, command: str, annotations: Path, detections: Path, tiou: tuple[float, ...]
) -> FloatArray:
    """Return the kit's average precisions by threshold and class, (len(tiou), 20)."""
    call = f"[~,ap]={command}('{detections}','{annotations}','test'"
    one_call = command == "TH14evaldet"
    calls = f"{call});all=ap';" if one_call else "all=[];" + "".join(
        f"{call},{value!r});all=[all;ap(:)'];" for value in tiou
    )  # fmt: skip
    code = f"addpath('{kit}');warning('off');{calls}printf('\\nRESULT');printf(' %.17g',all');"
    done = subprocess.run(
        ["octave-cli", "--quiet", "--eval", code], capture_output=True, text=True, check=True
    )
    values = np.array(done.stdout.rpartition("RESULT")[2].split(), np.float64)
    return values.reshape(-1, 20)


def random_thumos14(seed: int, records: object) -> Iterator[str]:
    """Yield lines of random detections, near the segments of the annotations and elsewhere."""
    rng = np.random.default_rng(seed)
    numbers = (7, 9, 12, 21, 22, 23, 24, 26, 31, 33, 36, 40, 45, 51, 68, 79, 85, 92, 93, 97)
    for record in records:  # type: ignore[attr-defined]
        assert isinstance(record, VideoRecord)
        spans = [(s.label + 1, s.start_s, s.end_s) for s in record.segments]
        spans += [(int(rng.choice(numbers)), start, end) for start, end in record.ambiguous]
        for number, start, end in spans:
            for _ in range(rng.integers(3)):
                shift = rng.normal(0, rng.choice([0, 0.2, 1.0]) * (end - start), 2)
                first, last = sorted(np.maximum(0, np.array([start, end]) + shift).round(1))
                chosen = int(rng.choice(numbers)) if rng.random() < 0.2 else number
                score = rng.integers(0, 40) / 40 if seed % 2 else rng.random()
                video = "video_test_0000001" if rng.random() < 0.02 else record.video_id
                yield f"{video}\t{first}\t{last}\t{chosen}\t{score}\n"


if __name__ == "__main__":
    main()
