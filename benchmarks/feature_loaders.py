"""Files of `flowpipe export` -> what the loaders of localisation codes read from them, checked.

    python benchmarks/feature_loaders.py FEATURES.h5 actionformer=PATH opentad=PATH bmn=PATH ...

Each PATH is a checkout of the code. Its own data set classes read an export of FEATURES.h5, and the
shapes, values and times that they return are compared with the file. With ``made`` instead of
FEATURES.h5 the program makes the file: random values of 200 classes for rgb and for flow,
instances, three subsets and frame rates, a window and stride of 16 frames. Two videos are shorter
than the window, of 10 frames and of 1. The loaders need pandas,
mmengine (OpenTAD), einops and omegaconf (video_features). Code in Python 2 is converted by lib2to3,
which Python has up to 3.12.
"""

from __future__ import annotations

import argparse
import ast
import importlib
import multiprocessing
import os
import runpy
import sys
import tempfile
import types
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from flowpipe.features import Extent, FeatureVideo, StreamFacts, cut_windows, open_features
from flowpipe.features.file_format import FILE_FACTS, STREAM_FACTS
from flowpipe.features.layouts import FeatureExportJob, export_features
from flowpipe.features.windows import frame_s
from flowpipe.features.writer import WindowedVideo, write_features
from flowpipe.types import Interval, VideoRecord

WINDOW = {"unit": "frames", "value": 16}


def check_actionformer(code: Path, features: Path, out: Path) -> str:
    """Read every video with ActionFormer's data set classes of THUMOS14 and ActivityNet."""
    import yaml

    export_features(FeatureExportJob(path=features, out=out, layout="actionformer"))
    settings = yaml.safe_load((out / "actionformer.yaml").read_text())
    replace_module("nms_1d_cpu")  # compiled, for results only
    datasets = importlib.import_module("libs.datasets.datasets")
    importlib.import_module("libs.datasets")
    options = settings["dataset"] | {
        "split": ("training", "validation", "testing"), "is_training": False,
        "max_seq_len": 2304, "trunc_thresh": 0.5, "crop_ratio": [0.9, 1.0],
        "force_upsampling": False,
    }  # fmt: skip
    count = 0
    for name in ("thumos", "anet"):
        dataset = datasets.datasets[name](**options)
        with open_features(features) as file:
            assert len(dataset) == len(file.videos), (len(dataset), len(file.videos))
            for sample in dataset:
                check_sample(
                    file, sample["video_id"], sample["feats"].numpy().T,
                    sample["feat_stride"] / sample["fps"],
                    0.5 * sample["feat_num_frames"] / sample["fps"],
                    sample["segments"].numpy(),
                )  # fmt: skip
                count += 1
        subsets = {"is_training": True, "split": settings["train_split"]}
        training = datasets.datasets[name](**options | subsets)
        for sample in training:
            assert sample["feats"].shape[0] == settings["dataset"]["input_dim"]
    return f"{count} samples of {tuple(sample['feats'].shape)}, the last one in training"


def check_opentad(code: Path, features: Path, out: Path) -> str:
    """Read every video with OpenTAD's padding data sets of THUMOS14 and ActivityNet."""
    export_features(FeatureExportJob(path=features, out=out, layout="actionformer"))
    settings = runpy.run_path(str(out / "opentad.py"))["feature_settings"]
    datasets = importlib.import_module("opentad.datasets")
    load = [
        {"type": "LoadFeats", "feat_format": "npy"},
        {"type": "ConvertToTensor", "keys": ["feats", "gt_segments", "gt_labels"]},
        {"type": "Collect", "inputs": "feats", "keys": ["masks", "gt_segments", "gt_labels"]},
    ]
    count = 0
    with open_features(features) as file:
        subsets = [video_subset(file, key) for key in file.videos]
        for name in ("ThumosPaddingDataset", "AnetPaddingDataset"):
            made = datasets.build_dataset(
                {"type": name, "subset_name": subsets, "pipeline": load, **settings}
            )
            for index in range(len(made)):
                sample = made[index]
                meta = sample["metas"]
                fps = meta["fps"]
                check_sample(
                    file, meta["video_name"], sample["inputs"].numpy(),
                    meta["snippet_stride"] / fps, meta["offset_frames"] / fps,
                    sample["gt_segments"].numpy(), within_s=1 / fps + 1e-3,
                )  # fmt: skip
                count += 1
    return f"{count} samples of {tuple(sample['inputs'].shape)}"


def check_bmn(code: Path, features: Path, out: Path) -> str:
    """Read every video with BMN's data set, and compare its rows with BSN's own resizing."""
    export_features(FeatureExportJob(path=features, out=out, layout="bmn"))
    loader = importlib.import_module("dataset")
    options = {
        "temporal_scale": 100, "mode": "train", "feature_path": f"{out}/",
        "video_info": str(out / "video_info_new.csv"),
        "video_anno": str(out / "anet_anno_action.json"),
    }  # fmt: skip
    count = 0
    for subset in ("training", "validation", "testing"):
        made = loader.VideoDataSet(options, subset=subset)
        for video, confidence, starts, ends in made:
            assert video.shape[1] == 100 and np.isfinite(video.numpy()).all()
            assert confidence.shape == (100, 100) and starts.shape == ends.shape == (100,)
            assert float(confidence.max()) > 0.5 and float(starts.max()) > 0
            count += 1
    original = code / "data/activitynet_feature_cuhk/data_process.py"
    compared = compare_with_bsn(original, features, made)
    with open_features(features) as file:
        assert count == len(file.videos), count
    return f"{count} samples of {tuple(video.shape)}; {compared}"


def compare_with_bsn(code: Path, features: Path, made: Any) -> str:
    """Compare exported rows with those of BSN's poolData, whose stride is 16 frames."""
    import pandas
    import scipy.interpolate

    pool = python3_function(code, "poolData", {"np": np, "scipy": scipy})
    worst, bins, bound = 0.0, 0, 0.0
    with open_features(features) as file:
        if (file.facts["window"], file.facts["stride"]) != (WINDOW, WINDOW):
            return "BSN's poolData: only for a window and stride of 16 frames"
        for video_id, video in file.videos.items():
            rows = np.hstack([file.scores(stream, video_id) for stream in file.streams])
            wide = np.zeros((len(rows), 400))  # the original has 400 columns
            wide[:, : rows.shape[1]] = rows
            facts = {
                "duration_frame": video.frames,
                "duration_second": video.end_s - video.start_s or 1 / 30,
            }  # fmt: skip
            own = pandas.read_csv(Path(made.feature_path) / "csv_mean_100" / f"{video_id}.csv")
            theirs = pool(wide, facts)[:, : rows.shape[1]]
            there = theirs.any(1)  # zeros in bins outside the centres of the rows
            worst = max(worst, float(abs(own.values - theirs)[there].max()))
            bins += int(there.sum())
            # BSN shortens the range of the rows by 0.0001 s at either end.
            bound = max(bound, 1e-4 * abs(np.diff(rows, axis=0)).max(initial=0) * video.fps / 16)
    assert worst <= bound + 1e-5, (worst, bound)
    return f"largest difference to BSN's poolData {worst:.1e} in {bins} bins"


def check_bsn(code: Path, features: Path, out: Path) -> str:
    """Read all training and validation videos with BSN's loader of its first stage."""
    data = out / "data"
    export_features(
        FeatureExportJob(path=features, out=data / "activitynet_annotations", layout="bmn")
    )
    (data / "activitynet_feature_cuhk").symlink_to(data / "activitynet_annotations")
    os.chdir(out)
    names = python3_module(code / "TEM_load_data.py")
    parts, count = dict(zip(("train", "val", "test"), names["getDatasetDict"](), strict=True)), 0
    for part in ("train", "val"):
        if parts[part]:
            read = names["getFullData"](part)
            assert np.shape(read["feature"])[1] == 100, np.shape(read["feature"])
            assert np.shape(read["gt_action"])[:2] == (len(parts[part]), 100)
            count += len(parts[part])
    return f"{count} videos of {np.shape(read['feature'])[1:]}"


def check_gtad(code: Path, features: Path, out: Path) -> str:
    """Read every video with G-TAD's data set of THUMOS14, which takes every fifth row."""
    export_features(FeatureExportJob(path=features, out=out, layout="gtad"))
    loader = importlib.import_module("gtad_lib.dataset")
    with open_features(features) as file:
        dims = sum(file.width(stream, "features") for stream in file.streams)
    options = {
        "temporal_scale": 256, "feature_path": str(out), "video_info": f"{out}/", "feat_dim": dims,
        "video_anno": f"{out}/", "skip_videoframes": 5, "max_duration": 64, "min_duration": 0,
        "override": True,
    }  # fmt: skip
    count = 0
    with open_features(features) as file:
        for subset, part in (("train", "val"), ("validation", "test")):
            if len((out / f"{part}_Annotation.csv").read_text().splitlines()) < 2:
                continue  # the export has no video of this part
            for mode in ("train", "infer"):
                made = loader.VideoDataSet(options, subset=subset, mode=mode)
                for index in range(len(made)):
                    sample = made[index][0 if mode == "train" else 1].numpy()
                    assert sample.shape == (dims, 256), sample.shape
                    video_id = made.data["video_names"][index].removeprefix(f"{part}_")
                    frames = np.asarray(made.data["indices"][index])
                    centres = file.windows(video_id).centre_frame
                    frames = frames[frames < file.videos[video_id].frames]
                    nearest = abs(centres - frames[:, None]).min(1)
                    rows = file.features("flow", video_id)
                    width = rows.shape[1]
                    found = sample[:width, : len(frames)].T
                    distance = abs(found[:, None] - rows).max(2)
                    chosen = centres[distance.argmin(1)]
                    assert (distance.min(1) == 0).all()
                    np.testing.assert_allclose(abs(chosen - frames), nearest)
                    count += 1
    return f"{count} samples of {sample.shape}"


def check_gtad_anet(code: Path, features: Path, out: Path) -> str:
    """Read every video with the data set of ActivityNet in G-TAD's branch ``anet``."""
    export_features(FeatureExportJob(path=features, out=out, layout="bmn"))
    loader = importlib.import_module("gtad_lib.dataset")
    options = {
        "temporal_scale": 100, "feature_path": str(out / "csv_mean_100.hdf5"),
        "video_info": str(out / "video_info_new.csv"),
        "video_anno": str(out / "anet_anno_action.json"),
    }  # fmt: skip
    count = 0
    for subset in ("training", "validation", "testing"):
        for video, confidence, starts, ends in loader.VideoDataSet(options, subset=subset):
            # The loader compares the number of columns with 100, and interpolates 100 rows to 100.
            assert video.shape[1] == 100 and np.isfinite(video.numpy()).all()
            assert confidence.shape == (100, 100) and starts.shape == ends.shape == (100,)
            count += 1
    with open_features(features) as file:
        assert count == len(file.videos), count
    return f"{count} samples of {tuple(video.shape)}"


def check_video_features(code: Path, features: Path, out: Path) -> str:
    """Let video_features find and open the files of every video, as those it made itself."""
    export_features(FeatureExportJob(path=features, out=out, layout="video_features"))
    base = importlib.import_module("models._base.base_extractor")
    extractor = base.BaseExtractor("i3d", "save_numpy", str(out / "tmp"), str(out), False, "cpu")
    with open_features(features) as file:
        extractor.output_feat_keys = [*file.streams, "fps", "timestamps_ms"]  # as ExtractI3D's
        for video_id, video in file.videos.items():
            assert extractor.is_already_exist(video.record.path), video.record.path
            for stream in file.streams:
                path = base.make_path(str(out), video.record.path, stream, ".npy")
                np.testing.assert_array_equal(
                    base.load_numpy(path), file.features(stream, video_id)
                )
            path = base.make_path(str(out), video.record.path, "timestamps_ms", ".npy")
            assert len(base.load_numpy(path)) == len(file.windows(video_id))
        return f"{len(file.videos)} videos found by name, {len(file.streams) + 2} files each"


def check_sample(
    file: Any, video_id: str, rows: Any, stride_s: float, offset_s: float, segments: Any,
    within_s: float = 1e-3,
) -> None:  # fmt: skip
    """Compare rows, their times, and the instances in the grid of rows with the file."""
    wanted = np.hstack([file.features(stream, video_id) for stream in file.streams])
    np.testing.assert_array_equal(rows, wanted)
    windows, video = file.windows(video_id), file.videos[video_id]
    times = np.arange(len(rows)) * stride_s + offset_s
    # The only frame of a video has no duration of its own: the export says 1/30 s.
    centre_s = windows.centre_s - video.start_s if video.frames > 1 else np.array([0.5 / 30])
    assert abs(times - centre_s).max() < within_s
    instances = [[one.start_s, one.end_s] for one in video.record.segments]
    instances = instances or [[0.0, video.end_s - video.start_s]] * len(video.record.labels)
    found = segments * stride_s + offset_s
    assert abs(found - np.array(instances)).max() < within_s, (video_id, found, instances)


def video_subset(file: Any, video_id: str) -> str:
    """Return the subset that an export gives a video."""
    from flowpipe.features.layouts.selection import Selection

    return Selection(file, tuple(file.streams), (video_id,), "features", "bmn").subset(video_id)


def replace_module(name: str) -> None:
    """Put an empty module in the place of one that the loaders import and do not use."""
    sys.modules[name] = types.ModuleType(name)


def python3_text(path: Path) -> str:
    """Return the text of a program in Python 2 as Python 3."""
    from lib2to3.refactor import RefactoringTool, get_fixers_from_package

    tool = RefactoringTool(get_fixers_from_package("lib2to3.fixes"))
    return str(tool.refactor_string(path.read_text() + "\n", str(path)))


def python3_module(path: Path) -> dict[str, Any]:
    """Return the names of a program in Python 2, run as Python 3."""
    names: dict[str, Any] = {}
    exec(compile(python3_text(path), str(path), "exec"), names)
    return names


def python3_function(path: Path, name: str, names: dict[str, Any]) -> Callable[..., Any]:
    """Return one function of a program in Python 2, without running the program."""
    tree = ast.parse(python3_text(path))
    tree.body = [node for node in tree.body if getattr(node, "name", "") == name]
    exec(compile(tree, str(path), "exec"), names)
    function: Callable[..., Any] = names[name]
    return function


CHECKS = {
    "actionformer": check_actionformer, "opentad": check_opentad, "bmn": check_bmn,
    "bsn": check_bsn, "gtad": check_gtad, "gtad_anet": check_gtad_anet,
    "video_features": check_video_features,
}  # fmt: skip


def make_example(path: Path) -> None:
    """Write a file of features with random values, see the head of this file."""
    rng = np.random.default_rng(19)
    names = tuple(f"class {k}" for k in range(200))
    videos = []
    for k in range(11):
        fps, frames = (25.0, 30.0, 29.97)[k % 3], {9: 10, 10: 1}.get(k, 300 + 217 * k)
        times = np.sort(rng.uniform(0, frames / fps, (3, 2)), axis=1).tolist()
        if k > 8:
            times = [[0.0, frames / fps]]
        instances = tuple(Interval(7 * k % 20, *pair) for pair in times)
        subset = ("training", "validation", "testing")[k // 3 % 3]
        record = VideoRecord(
            f"v_{k:011d}",
            f"/v_{k}.mp4",
            labels=(7 * k % 20,),
            subset=subset,
            splits=(),
            segments=instances,
        )
        pts_s = np.arange(frames) / fps
        end_s = frames * frame_s(pts_s)  # 0 for a single frame
        windows = cut_windows(pts_s, Extent(16), Extent(16))
        videos.append(
            WindowedVideo(
                FeatureVideo(
                    record, frames=frames, fps=fps, start_s=0.0, end_s=end_s, status="done"
                ),
                windows,
            )
        )
    facts = {
        **dict.fromkeys(FILE_FACTS),
        "window": WINDOW,
        "stride": WINDOW,
        "class_names": names,
        "left_out": {},
    }
    streams = [
        StreamFacts(
            name, names, {**dict.fromkeys(STREAM_FACTS), "loss": "cross_entropy", "left_out": {}}
        )
        for name in ("rgb", "flow")
    ]
    rows = {video.video_id: len(video.windows) for video in videos}
    write_features(
        path, facts, videos, streams,
        lambda stream, key: (
            rng.normal(size=(rows[key], 64)).astype("f4"),
            rng.normal(size=(rows[key], 200)).astype("f4"),
        ),
    )  # fmt: skip


def run_check(name: str, code: Path, features: Path) -> None:
    """Run one check in a process of its own, because modules of the codes have equal names."""
    sys.path.insert(0, str(code))
    warnings.simplefilter("ignore")
    with tempfile.TemporaryDirectory() as out:
        print(f"{name}: {CHECKS[name](code, features, Path(out))}", flush=True)


def main() -> None:
    """Check the loaders that are given; the exit code is 1 if one of them failed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("features", type=Path)
    parser.add_argument("codes", nargs="+", metavar="NAME=PATH", help=", ".join(CHECKS))
    given = parser.parse_args()
    failed = []
    folder = tempfile.TemporaryDirectory()
    if str(given.features) == "made":
        given.features = Path(folder.name) / "features.h5"
        make_example(given.features)
    for text in given.codes:
        name, _, path = text.partition("=")
        process = multiprocessing.get_context("fork").Process(
            target=run_check, args=(name, Path(path).resolve(), given.features.resolve())
        )
        process.start()
        process.join()
        failed += [name] if process.exitcode else []
    sys.exit(f"failed: {', '.join(failed)}" if failed else 0)


if __name__ == "__main__":
    main()
