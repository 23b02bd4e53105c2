"""pipelines/reproduce.py: a data set in its official layout, from real files to the fused table."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType, SimpleNamespace

import click
import pytest
from checkout import ROOT
from command import draw_noise_clip, in_process
from videofile import encode_video

pytest.importorskip("torch", reason="needs torch")

import tiny  # noqa: E402

from flowpipe.cli import cli  # noqa: E402
from flowpipe.evaluation import read_facts  # noqa: E402

tiny.register()

RECIPE = """
extract:
  modalities: [rgb]
  size: {width: 64, height: 48}
  flow: dis
train:
  splits: [1, 2]
  streams:
    rgb: &stream
      backbone: tiny
      init: random
      segments: 1
      schedule: {unit: iterations, lr: 0.001, lr_steps: [], end: 1, batch_size: 2}
    flow: {<<: *stream, snippet_length: 2}
  test: {snippets: 1, crops: 1}
  fusion: {rgb: 1, flow: 1.5}
"""


def make_ucf101(root: Path) -> None:
    """Two classes, a video each for training and testing; the split's halves change places in 2."""
    lists = root / "ucfTrainTestlist"
    lists.mkdir(parents=True)
    (lists / "classInd.txt").write_bytes(b"1 Archery\r\n2 Biking\r\n")
    names = [f"{c}/v_{c}_g0{g}_c01.avi" for g in (1, 2) for c in ("Archery", "Biking")]
    for k, name in enumerate(names):
        path = root / "UCF-101" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        encode_video(path, draw_noise_clip(k, frames=6))
    for split, (train, test) in enumerate(((2, 0), (0, 2), (2, 0)), 1):
        rows = [f"{names[train + k]} {k + 1}\r\n" for k in (0, 1)]
        (lists / f"trainlist0{split}.txt").write_text("".join(rows))
        rows = [f"{names[test + k]}\r\n" for k in (0, 1)]
        (lists / f"testlist0{split}.txt").write_text("".join(rows))


def load_script() -> ModuleType:
    """Return the script as a module."""
    spec = spec_from_file_location("reproduce", ROOT / "pipelines" / "reproduce.py")
    assert spec is not None and spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_script_goes_from_videos_to_the_fused_table(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Run every command in this process: one of its own would load torch again."""

    def run(arguments: list[str], **options: bool) -> subprocess.CompletedProcess[str]:
        assert arguments[:3] == [sys.executable, "-m", "flowpipe"]
        assert options == {"text": True, "capture_output": "--json" in arguments, "check": False}
        done = in_process(*arguments[3:])
        assert done.returncode == 0, done.stderr
        return done

    make_ucf101(tmp_path / "ucf101")
    (tmp_path / "recipe.yaml").write_text(RECIPE)
    module = load_script()
    monkeypatch.setattr(module, "subprocess", SimpleNamespace(run=run))
    words = [
        "ucf101", "--root", tmp_path / "ucf101", "--work", tmp_path / "work", "--recipe",
        tmp_path / "recipe.yaml", "--workers", "1", "--set", "train.streams.rgb.dropout=0.2",
    ]  # fmt: skip
    module.reproduce.main(list(map(str, words)), standalone_mode=False)
    lines = capsys.readouterr().out.splitlines()
    figures = json.loads((tmp_path / "work" / "table.json").read_text())
    assert list(figures) == ["rgb", "flow", "fused"]
    assert list(figures["fused"]) == ["test1", "test2", "mean"]
    accuracy = [figures["fused"][c]["accuracy"] for c in ("test1", "test2", "mean")]
    assert accuracy[2] == pytest.approx(sum(accuracy[:2]) / 2)
    assert "fused" in lines[-1]
    steps = [line.split()[2] for line in lines if line.startswith("+ ")]
    assert steps.count("train") == steps.count("test") == 4 and steps.count("fuse") == 2
    run = json.loads((tmp_path / "work" / "rgb-1" / "run.json").read_text())
    assert run["stream"]["dropout"] == 0.2
    assert read_facts(tmp_path / "work" / "rgb-1.h5")["amp"] == "off"


def record_commands(monkeypatch: pytest.MonkeyPatch, work: Path, *options: str) -> list[list[str]]:
    """The words of each command of a run that goes well, without the time that it would take."""
    module = load_script()
    ran: list[list[str]] = []

    def record(*words: object, **options: bool) -> subprocess.CompletedProcess[str]:
        said = list(map(str, words))
        ran.append(said)
        if said[0] == "train":
            run = Path(said[said.index("-o") + 1])
            run.mkdir(parents=True, exist_ok=True)
            (run / "run.json").touch()
            if not (run / "last.pt").exists():
                (run / "last.pt").touch()
                os.utime(run / "last.pt", (1, 1))
        elif said[0] == "test":
            Path(said[said.index("-o") + 1]).touch()
        figures = {"splits": {"test1": {"accuracy": 1.0}}}
        return subprocess.CompletedProcess(said, 0, json.dumps(figures))

    monkeypatch.setattr(module, "flowpipe", record)
    words = ["kinetics400", "--root", "/data", "--work", str(work), *options]
    module.reproduce.main(words, standalone_mode=False)
    return ran


def test_several_gpus_train_and_test(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Proves the options of the commands, which their own parsers read; it runs none of them."""
    (tmp_path / "store").mkdir()
    (tmp_path / "store" / "store.json").touch()
    ran = record_commands(monkeypatch, tmp_path, "--gpus", "8", "--amp", "bf16")
    assert {words[0] for words in ran} == {"extract", "train", "test", "fuse", "evaluate"}
    for words in ran:
        if words[0] in ("train", "test"):
            command = cli.get_command(click.Context(cli), words[0])
            assert command is not None
            given = command.make_context(words[0], words[1:]).params
            assert (given["devices"], given["device"], given["amp"]) == (8, "cuda", "bf16")
    (extraction,) = (words for words in ran if words[0] == "extract")
    assert extraction[extraction.index("--gpus") + 1] == "8"


def test_a_finished_test_is_not_repeated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = [words[0] for words in record_commands(monkeypatch, tmp_path)]
    again = [words[0] for words in record_commands(monkeypatch, tmp_path)]
    assert first.count("test") == first.count("train") == again.count("train") > 0
    assert again.count("test") == 0
    trained = tmp_path / "rgb-1" / "last.pt"
    later = (tmp_path / "rgb-1.h5").stat().st_mtime + 1
    os.utime(trained, (later, later))
    once_more = record_commands(monkeypatch, tmp_path)
    assert [words[2] for words in once_more if words[0] == "test"] == [str(tmp_path / "rgb-1")]


def test_runs_that_cannot_work_are_refused(tmp_path: Path) -> None:
    (tmp_path / "bare.yaml").write_text("extract: {}\n")
    command = [sys.executable, ROOT / "pipelines" / "reproduce.py", "ucf101", "--work", tmp_path]
    done = subprocess.run(
        [*command, "--recipe", tmp_path / "bare.yaml"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 2 and "has no train section" in done.stderr
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode != 0 and "needs --root" in done.stderr
    assert "flowpipe extract ended with 2" in done.stderr
