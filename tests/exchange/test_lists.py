"""List files of an export: counts, labels and instances, read by the loaders of other systems."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from originals import tsn_pytorch
from store_making import Made

from flowpipe import open_store
from flowpipe.exchange import WEBDATASET, ExportJob, export_store


def export(made: Made, out: Path, layout: str) -> Path:
    export_store(ExportJob(made.path, out, layout), lambda done, total: None)
    return out


@pytest.mark.parametrize("layout", ["dense_flow", "denseflow", "mmaction2"])
def test_every_count_is_the_number_of_files_in_the_folder(
    layout: str, jpeg_store: Made, tmp_path: Path
) -> None:
    out = export(jpeg_store, tmp_path, layout)
    lists = sorted(path.name for path in out.glob("*.txt"))
    assert "label_map.txt" in lists
    assert ("ucf101_flow_train_split_1.txt" in lists) == (layout != "denseflow")
    for which, name in (("", "img_"), ("_flow", "flow_x_"), ("_warped_flow", "warp_x_")):
        lines = (out / f"ucf101_train_split_1{which}_rawframes.txt").read_text().splitlines()
        assert lines
        for line in lines:
            folder, count, *labels = line.split(" ")
            assert labels == ["3", "1"]
            assert len(list((out / folder).glob(f"{name}*"))) == int(count)
    # The single frame has no flow, and in dense_flow not even itself.
    rgb = (out / "ucf101_train_split_1_rawframes.txt").read_text()
    assert ("-dash 1 3 1" in rgb) == (layout != "dense_flow")
    assert "-dash" not in (out / "ucf101_train_split_1_flow_rawframes.txt").read_text()


def test_tsn_lists_have_a_line_for_each_label(jpeg_store: Made, tmp_path: Path) -> None:
    out = export(jpeg_store, tmp_path, "dense_flow")
    lines = (out / "ucf101_rgb_train_split_1.txt").read_text().splitlines()
    assert f"{out}/plain 10 3" in lines and f"{out}/plain 10 1" in lines
    assert all(len(line.split(" ")) == 3 for line in lines)


@pytest.mark.parametrize(("layout", "first"), [("dense_flow", 9), ("denseflow", 10)])
def test_an_instance_has_the_frames_of_its_time(
    layout: str, first: int, tmp_path: Path, jpeg_store: Made
) -> None:
    # Timestamps are 0.1 + k / 25; the instance of `record` lasts from 0.5 to 1.5 s. Frame 10 is the
    # first at or after 0.5 s, and dense_flow has no file of frame 0.
    out = export(jpeg_store, tmp_path, layout)
    lines = (out / "ucf101_train_split_1_instances_rawframes.txt").read_text().splitlines()
    assert lines == [f"plain {first} 1 3"]  # eleven frames in all


@pytest.mark.parametrize("layout", ["dense_flow", "mmaction2"])
def test_tsn_pytorch_reads_an_export(layout: str, jpeg_store: Made, tmp_path: Path) -> None:
    originals = tsn_pytorch("dataset")
    out, store = export(jpeg_store, tmp_path, layout), open_store(jpeg_store.path)
    frames = store.snippet("plain", "rgb", 0, 11).transpose(0, 2, 3, 1)
    for modality, which, template, length in (
        ("RGB", "rgb", "img_{:05d}.jpg", 1), ("Flow", "flow", "flow_{}_{:05d}.jpg", 5),
        ("RGBDiff", "rgb", "img_{:05d}.jpg", 5), ("Flow", "warped_flow", "warp_{}_{:05d}.jpg", 5),
    ):  # fmt: skip
        data = originals.TSNDataSet(
            "", str(out / f"ucf101_{which}_train_split_1.txt"), 1, length, modality, template,
            lambda images: [np.asarray(image) for image in images], random_shift=False,
        )  # fmt: skip
        for k in range(len(data)):
            images, label = data[k]
            assert label in (1, 3) and images[0].shape[:2] == (32, 40)
            if modality == "RGB" and data.video_list[k].path.endswith("/plain"):
                number = int(data._get_val_indices(data.video_list[k])[0])
                frame = number if layout == "dense_flow" else number - 1
                assert np.abs(images[0].astype(int) - frames[frame]).mean() < 2


@pytest.mark.parametrize(
    ("layout", "start"), [("dense_flow", 1), ("denseflow", 0), ("mmaction2", 1)]
)
def test_mmaction2_reads_an_export(
    layout: str, start: int, jpeg_store: Made, tmp_path: Path
) -> None:
    pytest.importorskip("mmaction", reason="mmaction2 is not installed")
    from mmaction.datasets.rawframe_dataset import RawframeDataset
    from mmaction.datasets.transforms.loading import RawFrameDecode, SampleFrames

    out = export(jpeg_store, tmp_path, layout)
    for modality, which, template, length in (
        ("RGB", "", "img_{:05}.jpg", 1), ("Flow", "_flow", "flow_{}_{:05d}.jpg", 5),
    ):  # fmt: skip
        data = RawframeDataset(
            ann_file=str(out / f"ucf101_train_split_1{which}_rawframes.txt"),
            pipeline=[], data_prefix={"img": str(out)}, filename_tmpl=template,
            start_index=start, modality=modality, multi_class=True, num_classes=4,
        )  # fmt: skip
        assert len(data) == 6 - (modality == "Flow") - (
            layout == "dense_flow" and modality == "RGB"
        )
        for k in range(len(data)):
            sample: Any = data.get_data_info(k)
            for step in (SampleFrames(length, num_clips=3), RawFrameDecode()):
                sample = step(sample)
            assert np.asarray(sample["imgs"]).shape[:3] == (3 * length, 32, 40)


def test_webdataset_reads_an_export(jpeg_store: Made, tmp_path: Path) -> None:
    wds = pytest.importorskip("webdataset", reason="webdataset is not installed")
    out, store = export(jpeg_store, tmp_path, WEBDATASET), open_store(jpeg_store.path)
    tars = sorted(str(path) for path in out.glob("*.tar"))
    samples = list(wds.WebDataset(tars, shardshuffle=False).decode())
    assert len(samples) == 6
    for sample, (video_id, video) in zip(samples, store.videos.items(), strict=True):
        assert sample["json"]["record"]["video_id"] == video_id
        assert sample["json"]["images"] == video.images
        images = [name for name in sample if name.endswith(".jpg")]
        assert len(images) == sum(video.images.values())
        assert sample["rgb.000000.jpg"] == store.read_payloads(video_id, "rgb", 0, 1)[0]
