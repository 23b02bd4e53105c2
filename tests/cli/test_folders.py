"""A missing or wrong store or run is answered with what one is, and with those that are near."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import click
import pytest
from command import in_process

from flowpipe.cli import cli
from flowpipe.cli.folders import RUN, RUN_FOLDER, STORE, STORE_OR_FILE, STORE_OR_RUN, MadeFolder

A_RUN = "a run is a folder with run.json, made by `flowpipe train` or `flowpipe adopt`"
A_STORE = "a store is a folder with store.json, made by `flowpipe extract` or `flowpipe import`"


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a store, runs/rgb and runs/flow, an empty folder and a file."""
    place = tmp_path_factory.mktemp("place")
    for path in ("store/store.json", "runs/rgb/run.json", "runs/flow/run.json"):
        (place / path).parent.mkdir(parents=True, exist_ok=True)
        (place / path).write_text("{}")
    (place / "empty").mkdir()
    (place / "file").touch()
    return place


def said(kind: MadeFolder, path: Path) -> str:
    with pytest.raises(click.BadParameter) as refused:
        kind.convert(str(path), None, None)
    return refused.value.message


@pytest.mark.parametrize(
    "kind, path, words",
    [
        (RUN, "runs/rbg", f"{{}} does not exist; did you mean {{p}}/runs/rgb? A{A_RUN[1:]}"),
        (RUN, "runs/RGB", f"{{}} does not exist; did you mean {{p}}/runs/rgb? A{A_RUN[1:]}"),
        (RUN, "runs/x", f"{{}} does not exist; {{p}}/runs contains flow, rgb; {A_RUN}"),
        (RUN, "nowhere", f"{{}} does not exist; {A_RUN}"),
        (RUN, "a/b/c", f"{{}} does not exist; {A_RUN}"),
        (RUN, "runs", f"{{}} has no run.json, but it contains {{}}/flow, {{}}/rgb; {A_RUN}"),
        (RUN, "empty", f"{{}} has no run.json; {A_RUN}"),
        (RUN, "store", f"{{}} is a store; {A_RUN}"),
        (RUN, "file", "{} is a file; wanted a folder"),
        (STORE, "sotre", f"{{}} does not exist; did you mean {{p}}/store? A{A_STORE[1:]}"),
        (STORE, "runs/rgb", f"{{}} is a run; {A_STORE}"),
        (STORE_OR_FILE, "runs/flow", f"{{}} is a run; {A_STORE}"),
        (STORE_OR_RUN, "empty", f"{{}} has no store.json or run.json; {A_STORE}; {A_RUN}"),
    ],
)
def test_a_wrong_folder_is_answered_with_what_is_there_and_what_is_wanted(
    place: Path, kind: MadeFolder, path: str, words: str
) -> None:
    assert said(kind, place / path) == words.replace("{p}", str(place)).replace(
        "{}", str(place / path)
    )


def test_right_folders_and_files_are_taken(place: Path) -> None:
    for kind, path in ((STORE, "store"), (RUN, "runs/rgb"), (STORE_OR_FILE, "file")):
        assert kind.convert(str(place / path), None, None) == place / path


def test_a_folder_that_cannot_be_read_is_left_to_its_reader(tmp_path: Path) -> None:
    loop = tmp_path / "loop"
    loop.symlink_to(loop)
    assert RUN_FOLDER.is_at(loop) and not RUN_FOLDER.is_at(tmp_path)


def read_folders() -> list[tuple[str, str]]:
    """Return (command, metavar) of all arguments and options that name a store or run to read."""
    found: list[tuple[str, str]] = []
    pending: list[tuple[str, Any]] = [("", cli)]
    while pending:
        name, command = pending.pop()
        if isinstance(command, click.Group):
            names = command.list_commands(click.Context(command))
            context = click.Context(command)
            pending += [(f"{name} {n}".strip(), command.get_command(context, n)) for n in names]
            continue
        for option in command.params:
            metavar = option.metavar or (option.name or "").upper()
            writes = isinstance(option, click.Option) and option.name in ("out", "run")
            writes |= name == "import"
            if re.search(r"\b(STORE|RUN)S?\b", metavar) and not writes and metavar != "RUN|FILE":
                found.append((name, metavar))
                kind = getattr(option.type, "name", "")
                assert isinstance(option.type, MadeFolder) or kind == "run", (name, metavar)
    return found


def test_every_command_that_reads_a_store_or_run_answers_so() -> None:
    pytest.importorskip("torch")
    names = {name for name, _ in read_folders()}
    assert names >= {
        "verify", "info", "show", "train", "test", "predict", "draw", "features", "weights",
        "evaluate", "export", "adopt",
    }  # fmt: skip


@pytest.mark.parametrize(
    "words",
    ["test {p}/store {p}/runs/rbg -o {p}/x.h5", "predict v.mp4 {p}/runs/rbg",
     "draw {p}/runs/rbg --class a -o {p}/x.png", "features {p}/store {p}/runs/rbg -o {p}/x.h5",
     "weights {p}/runs/rbg --names mmaction2 -o {p}/x.pth", "info {p}/runs/rbg"],
)  # fmt: skip
def test_commands_suggest_the_run_beside(place: Path, words: str) -> None:
    pytest.importorskip("torch")
    done = in_process(*words.replace("{p}", str(place)).split())
    assert done.returncode == 2, done.stderr
    assert "did you mean" in done.stderr and "runs/rgb?" in done.stderr, done.stderr
