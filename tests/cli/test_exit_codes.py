"""Wrong use of every command ends with exit code 2 and one line that names what is wrong."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click
import numpy as np
import pytest
from command import draw_noise_clip
from store_making import RECIPE, Made, add_video, open_writer
from videofile import encode_video

from flowpipe import params
from flowpipe.cli import COMMANDS, cli, main
from flowpipe.cli.paths import LocalPath, PathOrUrlType, RecipeName, SplitFile
from flowpipe.store import create_store


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a store, an empty run, a folder of one video, a text file and a folder."""
    folder = tmp_path_factory.mktemp("place")
    create_store(
        folder / "store", recipe=params.canonical(RECIPE), recipe_digest=params.digest(RECIPE),
        dataset={"dataset": "folder", "root": "/videos"}, class_names=("a", "b", "c", "d"),
    )  # fmt: skip
    with open_writer(folder / "store" / "shards" / "shard-000000000000.h5") as writer:
        add_video(writer, Made(folder / "store"), "v", 4, np.random.default_rng(0))
        writer.publish()
    (folder / "videos").mkdir()
    encode_video(folder / "videos" / "v.mp4", draw_noise_clip(0, frames=4))
    (folder / "file").write_text("text")
    (folder / "half.yaml").write_text("extract:\n  size: {width: 224}\n")
    (folder / "outside.yaml").write_text("size: {width: 224, height: 224}\n")
    (folder / "empty").mkdir()
    (folder / "run").mkdir()
    (folder / "run/run.json").write_text("{}")
    return folder


WRONG = [
    # command line, in which {p} is the folder above; words of the message
    ("", "Usage: "),
    ("extrct", "command 'extrct' is unknown; did you mean extract?"),
    ("extract", "--out"),
    ("extract --videos {p}/videos", "--out"),
    ("extract --out {p}/s", "give either --dataset NAME"),
    ("extract --videos {p}/nowhere --out {p}/s", "no such folder"),
    ("extract --videos {p}/videos --out {p}/file", "is a file"),
    ("extract --videos {p}/videos --out {p}/file/s", "is a file, not a folder"),
    ("extract --videos {p}/videos --out s3://bucket/s", "is a URL"),
    ("extract --videos {p}/videos --out {p}/s --modalities=", "--modalities is empty"),
    ("extract --videos {p}/videos --out {p}/s --modalities rbg", "did you mean rgb?"),
    ("extract --videos {p}/videos --out {p}/s --only train1", "these videos have none"),
    ("extract --videos {p}/videos --out {p}/s --retry corupt", "did you mean corrupt?"),
    ("extract --videos {p}/videos --out {p}/s --size 3", "WIDTHxHEIGHT"),
    ("extract --videos {p}/videos --out {p}/s --set size.width=", "must be int"),
    ("extract --videos {p}/videos --out {p}/s --set bond=3", "did you mean bound?"),
    ("extract --videos {p}/videos --out {p}/s --recipe=", "the path is empty"),
    ("extract --videos {p}/videos --out {p}/s --recipe s3://b/r.yaml", "is a URL"),
    ("extract --videos {p}/videos --out {p}/s --recipe {p}/file/r.yaml", "is a file, not a folder"),
    ("extract --videos {p}/videos --out {p}/s --recipe {p}/half.yaml", "width without height"),
    ("extract --videos {p}/videos --out {p}/s --recipe ucf11", "did you mean ucf101?"),
    ("extract --videos {p}/videos --out {p}/s --modalities warped_flow --set warp.boxes={p}/no",
     "no such folder or .jsonl file"),
    ("plan --videos {p}/videos --out {p}/s --modalities warped_flow --set warp.boxes=s3://b/c",
     "is a URL"),
    ("extract --dataset ucf11 --root {p} --out {p}/s", "did you mean ucf101?"),
    ("extract --videos {p}/empty --out {p}/s", "no videos below"),
    ("plan --videos {p}/file --out {p}/s --cache http://x/y", "is a URL"),
    ("plan --videos {p}/videos --out {p}/s --part 3/2", "--part wants i/n"),
    ("plan --videos {p}/videos --out {p}/store", "recipe"),
    ("verify {p}/nowhere", "does not exist"),
    ("verify {p}/empty", "store.json"),
    ("info {p}/store w", "video 'w' is unknown; known: v"),
    ("info s3://b/store", "is a URL"),
    ("show {p}/store v -o {p}/x.bmp", ".png"),
    ("show {p}/store v -o {p}/nowhere/x.png", "no folder"),
    ("show {p}/store v -o {p}/empty", "is a folder"),
    ("train {p}/store --modality flow -o {p}/file", "is a file"),
    ("train {p}/store --modality flow -o {p}/run --recipe s3://b/r.yaml", "is a URL"),
    ("test {p}/store {p}/run -o {p}/x.txt", "ends in .h5"),
    ("features {p}/store {p}/run -o {p}/x.txt", "ends in .h5"),
    ("localise {p}/file -o {p}/x.txt", "ends in .json"),
    ("draw {p}/run --class a -o {p}/x.bmp", "ends in .png or .gif"),
    ("adopt {p}/store {p}/empty --modality rgb -o {p}/run-new", "is a folder"),
    ("weights {p}/empty --names mmaction2 -o {p}/x.pth", "has no run.json; a run is"),
    ("fuse {p}/file", "scores"),
    ("predict {p}/videos/v.mp4 {p}/nowhere", "does not exist"),
    ("evaluate {p}/store {p}/nowhere", "does not exist"),
    ("evaluate {p}/store {p}/file --split all", "file"),
    ("export {p}/store {p}/file --layout mmaction2", "is a file"),
    ("export {p}/store {p}/e", "--layout"),
    ("export {p}/store {p}/e --layout mmaction2 --only train9", "did you mean train1? known"),
    ("import {p}/nowhere {p}/s", "does not exist"),
    ("import {p}/empty {p}/s", "no folders of numbered images"),
    ("import {p}/empty {p}/s --list train1=s3://b/l.txt", "is a URL"),
    ("import {p}/empty {p}/s --list train1=", "the path is empty"),
    ("import {p}/empty {p}/s --list {p}/nowhere", "does not exist"),
    ("import {p}/empty {p}/s --list {p}/empty", "is a folder"),
    ("recipe check {p}/outside.yaml", "did you mean extract.size?"),
    ("recipe check {p}/nowhere.yaml", "No such file"),
    ("recipe show file:///r.yaml", "is a URL"),
    ("recipe chek", "did you mean check?"),
    ("flow {p}/file -o {p}/x.flo", "give two images"),
    ("flow {p}/file {p}/file -o {p}/x.jpg", "wanted a name that ends in"),
    ("cluster config {p}/file", "is a file"),
    ("doctor --out s3://b", "is a URL"),
    ("selftest --device cuba", "cuda"),
    ("bench flow --size 3", "WIDTHxHEIGHT"),
    ("bench flow {p}/nowhere", "does not exist"),
    ("bench flow --only tvl2", "--only 'tvl2' is unknown"),
]  # fmt: skip


def run(line: str, place: Path) -> int:
    with pytest.raises(SystemExit) as ended:
        main([word.replace("{p}", str(place)) for word in line.split()])
    assert isinstance(ended.value.code, int)
    return ended.value.code


@pytest.mark.parametrize(("line", "words"), WRONG, ids=[line or "no command" for line, _ in WRONG])
def test_wrong_use_ends_with_2_and_names_what_is_wrong(
    line: str, words: str, place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    if line.split(" ")[0] in (
        "train",
        "test",
        "adopt",
        "weights",
        "predict",
        "fuse",
        "features",
        "draw",
    ):
        pytest.importorskip("torch")
    before = sorted(place.rglob("*"))
    code = run(line, place)
    printed = capsys.readouterr()
    assert code == 2, printed.err
    assert words in printed.err
    assert "Traceback" not in printed.err and "[Errno" not in printed.err
    if line:
        assert any(one.startswith("flowpipe: ") for one in printed.err.splitlines())
    new = [path for path in place.rglob("*") if path not in before and path.name != "index.h5"]
    assert not new


def test_every_command_is_among_the_wrong_uses() -> None:
    assert {line.split(" ")[0] for line, _ in WRONG} >= set(COMMANDS)


@pytest.mark.parametrize(
    "line", ["--help", "--version", "info {p}/store", "info {p}/store v", "verify {p}/store",
             "recipe list", "recipe check default", "cluster scripts"],
)  # fmt: skip
def test_right_use_ends_with_0(line: str, place: Path) -> None:
    assert run(line, place) == 0


def test_a_damaged_store_ends_with_1(
    place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "shards").mkdir()
    for name in ("store.json", "shards/shard-000000000000.h5"):
        content = bytearray((place / "store" / name).read_bytes())
        if name != "store.json":
            content[len(content) // 2 :] = b""
        (tmp_path / name).write_bytes(content)
    assert run("verify {p}", tmp_path) == 1
    assert "1 problem" in capsys.readouterr().out


def leaves(command: click.Command, name: str) -> list[tuple[str, click.Command]]:
    if not isinstance(command, click.Group):
        return [(name, command)]
    context = click.Context(command)
    found = []
    for one in command.list_commands(context):
        below = command.get_command(context, one)
        assert below is not None
        found += leaves(below, f"{name} {one}".strip())
    return found


NO_PATHS = {"scheduler", "settings"}
"""Options whose metavar names a file and that take something else too: their reader checks it."""


def test_every_option_that_takes_a_path_has_a_path_type() -> None:
    """URLs and odd paths are refused alike, so no option reads a path from plain text."""
    pytest.importorskip("torch")
    plain: list[Any] = []
    for name, command in leaves(cli, ""):
        for option in command.params:
            about = f"{option.metavar} {getattr(option, 'help', '')}"
            names_a_path = any(
                word in about for word in ("FILE", "DIR", "STORE", "OUT", "older of ")
            )
            typed = isinstance(option.type, (LocalPath, PathOrUrlType, RecipeName, SplitFile))
            if names_a_path and option.type is click.STRING and not typed:
                plain.append((name, option.name))
    assert {option for _, option in plain} <= NO_PATHS, plain


def test_info_of_a_store_prints_no_python_values(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for line in ("info {p}/store", "info {p}/store v"):
        run(line, place)
        printed = capsys.readouterr().out
        for ugly in ("None", "[]", "mtime_ns", "{'"):
            assert ugly not in printed
    run("info {p}/store --json", place)
    facts = json.loads(capsys.readouterr().out)
    assert set(facts["videos_by_class"]) == {"a", "b", "c", "d"}


def test_info_of_a_split_video_covers_all_its_parts(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    create_store(
        tmp_path, recipe=params.canonical(RECIPE), recipe_digest=params.digest(RECIPE),
        dataset={}, class_names=(),
    )  # fmt: skip
    made, rng = Made(tmp_path), np.random.default_rng(0)
    lost = {"what": "lost", "frame": 3, "time_s": 0.1, "frames": 2}
    for part in range(3):
        path = tmp_path / "shards" / f"shard-{part:012x}.h5"
        facts = {
            "frames_decoded": 9 + part, "frames_dropped": part,
            "sizes": [[64, 48], [64 + part, 48]], "interlaced": part == 1,
            "notes": [f"lost_frames:{part + 1}", "interlaced"],
        }  # fmt: skip
        with open_writer(path) as writer:
            meta = {"facts": facts, "damage": [lost] * (part == 2)}
            add_video(writer, made, "v", 5, rng, part=part, parts=3, meta=meta)
            writer.publish()
    run("info {p} v --json", tmp_path)
    shown = json.loads(capsys.readouterr().out)
    assert shown["facts"]["frames_decoded"] == 30 and shown["facts"]["frames_dropped"] == 3
    assert shown["facts"]["notes"] == ["lost_frames:6", "interlaced"]
    assert shown["facts"]["sizes"] == [[64, 48], [65, 48], [66, 48]]
    assert shown["facts"]["interlaced"] and shown["damage"] == [lost]
    assert [part["frames_decoded"] for part in shown["parts"]] == [9, 10, 11]
