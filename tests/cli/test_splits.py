"""Your own videos, divided into splits by `extract`, at once or later."""

from __future__ import annotations

from pathlib import Path

import pytest
from command import FAST, Run, draw_noise_clip, images
from videofile import encode_video

from flowpipe import open_store

pytestmark = pytest.mark.usefixtures("lasting_workers")


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("own") / "clips"
    for k, name in enumerate(("walk/a", "walk/b", "run/c", "run/d")):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        encode_video(folder / f"{name}.mp4", draw_noise_clip(k, frames=4))
    return folder


def splits(store: Path) -> dict[str, tuple[str, ...]]:
    return {video_id: video.splits for video_id, video in open_store(store).videos.items()}


def test_splits_given_later_are_stored_without_decoding_and_outlive_a_repair(
    clips: Path, tmp_path: Path, flowpipe: Run
) -> None:
    store, train, val = tmp_path / "store", tmp_path / "train.txt", tmp_path / "val.txt"
    options = ("extract", "--videos", clips, "--out", store, "--workers", 1, *FAST)
    assert flowpipe(*options).returncode == 0
    before = images(store)
    assert set(splits(store).values()) == {()}

    done = flowpipe(*options, "--val-fraction", 0.5)
    assert (
        "4 done before have other splits now: the store is updated without decoding" in done.stderr
    )
    by_share = splits(store)
    assert sorted(by_share.values()) == [("train1",)] * 2 + [("val1",)] * 2
    assert {video_id.split("/")[0] for video_id, own in by_share.items() if own == ("val1",)} == {
        "walk", "run",
    }  # fmt: skip

    train.write_text("walk/a.mp4\nrun/c.mp4\n")
    val.write_text("walk/b.mp4\nrun/d.mp4\n")
    done = flowpipe(*options, "--list", f"train={train}", "--list", f"val={val}")
    assert done.returncode == 0, done.stderr
    wanted = {
        "run/c.mp4": ("train1",), "run/d.mp4": ("val1",), "walk/a.mp4": ("train1",),
        "walk/b.mp4": ("val1",),
    }  # fmt: skip
    assert splits(store) == wanted
    assert images(store) == before

    for shard in (store / "shards").iterdir():
        shard.unlink()
    repaired = flowpipe("verify", store, "--repair")
    assert repaired.returncode == 0, repaired.stderr
    assert splits(store) == wanted
    assert images(store) == before


def test_parts_of_a_store_add_up_for_a_repair(clips: Path, tmp_path: Path, flowpipe: Run) -> None:
    store, listed = tmp_path / "store", tmp_path / "list.csv"
    rows = [f"{clips}/walk/a.mp4,walk,train", f"{clips}/run/c.mp4,run,test"]
    listed.write_text("\n".join(["path,label,split", *rows]) + "\n")
    options = ("extract", "--videos", listed, "--out", store, "--workers", 1, *FAST)
    for part in ("train1", "test1"):
        assert flowpipe(*options, "--only", part).returncode == 0
    assert open_store(store).header.dataset["only"] == ["train1", "test1"]
    wanted = splits(store)
    for shard in (store / "shards").iterdir():
        shard.unlink()
    assert flowpipe("verify", store, "--repair").returncode == 0
    assert splits(store) == wanted
    assert len(wanted) == 2


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (("--val-fraction", "0.2", "--list", "val={list}"), "exclude each other"),
        (("--val-fraction", "1"), "not in the range 0<x<1"),
        (("--list", "{list}"), "wanted SPLIT=FILE with the split train, val or test"),
        (("--list", "fold={list}"), "wanted SPLIT=FILE with the split train, val or test"),
        (("--list", "val={list}.gone"), "no such file"),
        (("--list", "val={list}"), "names no video that is there; its first is strange.mp4"),
    ],
)
def test_wrong_options_are_refused(
    more: tuple[str, ...], said: str, clips: Path, tmp_path: Path, flowpipe: Run
) -> None:
    listed = tmp_path / "list.txt"
    listed.write_text("strange.mp4\n")
    arguments = [word.format(list=listed) for word in more]
    done = flowpipe("extract", "--videos", clips, "--out", tmp_path / "store", *arguments)
    assert done.returncode == 2
    assert said in done.stderr
    assert not (tmp_path / "store").exists()


def test_official_data_sets_have_their_splits(tmp_path: Path, flowpipe: Run) -> None:
    done = flowpipe(
        "extract", "--dataset", "demo", "--out", tmp_path / "s", "--val-fraction", "0.2"
    )
    assert done.returncode == 2
    assert "--val-fraction divides videos of your own" in done.stderr
    assert "this is demo: 36 generated clips" in done.stderr
