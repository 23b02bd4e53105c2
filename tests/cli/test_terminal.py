"""Names and messages from files reach a terminal without control characters."""

from __future__ import annotations

import ast
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest
from checkout import ROOT
from command import FAST, draw_noise_clip, in_process
from store_making import RECIPE, Made, add_video, open_writer
from videofile import encode_video

from flowpipe import params
from flowpipe.store import create_store

TITLE, CSI = "\x1b]0;owned\x07", "\x9b31m"
IDS = (f"one{TITLE}\x1b[31m", f"two{CSI}\x7f\u202e\u2028")
SHOWN = (r"one\x1b]0;owned\x07\x1b[31m", r"two\x9b31m\x7f\u202e\u2028")
RAW = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


def run(*arguments: object) -> tuple[int, str]:
    """Exit code and all that a command prints, which must hold no control character."""
    done = in_process(*arguments)
    printed = done.stdout + done.stderr
    assert not RAW.search(printed), repr(printed)
    return done.returncode, printed


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A good and a bad video of each name: with ESC and BEL, DEL and C1, and a byte 0x9b."""
    folder = tmp_path_factory.mktemp("hostile")
    good, bad = folder / "good.mp4", folder / f"bad{TITLE}.mp4"
    encode_video(good, draw_noise_clip(0, frames=6))
    bad.write_bytes(good.read_bytes()[:300])
    shutil.copy(good, folder / f"good{TITLE}\x1b[31m.mp4")
    shutil.copy(good, folder / f"good{CSI}\x7f.mp4")
    shutil.copy(bad, folder / f"bad{CSI}\x7f.mp4")
    for name in (b"good\x9b31m.mp4", b"bad\x9b31m.mp4"):
        source = good if name.startswith(b"good") else bad
        Path(os.fsdecode(os.fsencode(folder) + b"/" + name)).write_bytes(source.read_bytes())
    return folder


@pytest.fixture(scope="module")
def extracted(hostile: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    store = tmp_path_factory.mktemp("out") / "store"
    code, printed = run("extract", "--videos", hostile, "--out", store, *FAST)
    assert code == 1, printed
    return store, printed


def test_extract_shows_failed_videos_with_escapes(extracted: tuple[Path, str]) -> None:
    store, printed = extracted
    assert r"bad\x1b]0;owned\x07.mp4" in printed
    assert r"bad\x9b31m\x7f.mp4" in printed
    told = (store / "missing.txt").read_bytes().decode()
    assert not RAW.search(told)
    assert r"bad\x1b]0;owned\x07.mp4" in told


@pytest.fixture(scope="module")
def foreign(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store that another program wrote, whose ids hold control characters as they are."""
    store = tmp_path_factory.mktemp("foreign") / "store"
    create_store(
        store,
        recipe=params.canonical(RECIPE),
        recipe_digest=params.digest(RECIPE),
        dataset={"name": f"test{CSI}"},
        class_names=("a", f"b{TITLE}", "c", f"d{CSI}\x7f"),
    )
    with open_writer(store / "shards" / "shard-000000000000.h5") as writer:
        for name in IDS:
            add_video(writer, Made(store), name, 4, np.random.default_rng(0))
        writer.publish()
    return store


def test_every_command_shows_ids_with_escapes(foreign: Path, hostile: Path, tmp_path: Path) -> None:
    run("verify", foreign)
    assert run("info", foreign)[0] == 0
    for name, shown in zip(IDS, SHOWN, strict=True):
        code, printed = run("info", foreign, name)
        assert code == 0
        assert shown in printed
        assert run("show", foreign, name, "-o", tmp_path / f"{CSI}.png")[0] == 0
        code, printed = run("info", foreign, f"{name}none")
        assert code == 2
        assert shown in printed
    for out in (tmp_path / "store", tmp_path / f"s{TITLE}"):
        run("plan", "--videos", hostile, "--out", out, *FAST)
    run("verify", tmp_path / f"s{TITLE}")
    run("extract", f"--{TITLE}")
    run(f"extract{TITLE}")
    run("recipe", "check", tmp_path / f"r{CSI}.yaml")
    run("flow", hostile / f"bad{TITLE}.mp4", "-o", tmp_path / "x.flo")
    run("export", foreign, tmp_path / f"e{CSI}", "--layout", "webdataset")


def test_a_damaged_store_with_such_ids_is_described_with_escapes(
    foreign: Path, tmp_path: Path
) -> None:
    store = tmp_path / "store"
    shutil.copytree(foreign, store)
    (shard,) = (store / "shards").glob("*.h5")
    content = bytearray(shard.read_bytes())
    with h5py.File(shard) as file:
        found: list[h5py.Dataset] = []
        file.visititems(lambda _, item: found.append(item) if hasattr(item, "nbytes") else None)
        largest = max(found, key=lambda item: item.nbytes)
        at, size = largest.id.get_offset(), largest.nbytes
    content[at : at + size] = bytes(byte ^ 0xFF for byte in content[at : at + size])
    shard.write_bytes(content)
    code, printed = run("verify", store)
    assert code == 1
    assert SHOWN[0] in printed
    code, printed = run("verify", store, "--json")
    assert IDS[0] in str(json.loads(printed)).replace(r"\x1b", "\x1b").replace(r"\x07", "\x07")


def test_json_gives_the_ids_back(foreign: Path) -> None:
    for name in IDS:
        code, printed = run("info", foreign, name, "--json")
        assert code == 0, printed
        assert name in json.loads(printed).values()


def test_a_python_traceback_and_a_warning_are_escaped(tmp_path: Path) -> None:
    code = (
        "import sys, warnings, flowpipe.cli as c\n"
        "def broken(*a, **k):\n"
        "    warnings.warn('w\\x1b[31m\\x9b')\n"
        "    raise ValueError('t\\x1b]0;x\\x07\\x9b')\n"
        "c.cli.main = broken\n"
        "c.main([])\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, timeout=100, check=False
    )
    printed = done.stderr.decode()
    assert done.returncode == 70
    assert not RAW.search(printed)
    assert r"w\x1b[31m\x9b" in printed
    assert r"ValueError: t\x1b]0;x\x07\x9b" in printed


def test_only_the_screen_prints() -> None:
    """No other file of the command line calls click.echo, print or a console of its own."""
    found = []
    for path in sorted((ROOT / "flowpipe").rglob("*.py")):
        if path.name == "screen.py":
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            called = ast.unparse(node.func) if isinstance(node, ast.Call) else ""
            if called in ("print", "click.echo", "click.secho", "Console", "traceback.print_exc"):
                found.append(f"{path.name}:{node.lineno}: {called}")
    assert not found
