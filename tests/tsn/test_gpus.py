"""Each process of a training uses its own GPU and no other; wrong counts are refused."""

from __future__ import annotations

import json
import warnings
from pathlib import Path

import pytest
from command import in_process

torch = pytest.importorskip("torch", reason="needs torch")

from gpus_stand_in import GpusStandIn  # noqa: E402
from tiny_training import environment, job, run  # noqa: E402

from flowpipe.cli.processes import check_gpus  # noqa: E402
from flowpipe.errors import BackendError, UsageError  # noqa: E402
from flowpipe.tsn.distributed import Processes  # noqa: E402
from flowpipe.tsn.launch import launch  # noqa: E402
from flowpipe.tsn.training.train import Trainer  # noqa: E402

TWO_GPUS = """
import json, os, sys
from dataclasses import replace
from pathlib import Path
import tiny_training as training
from gpus_stand_in import GpusStandIn
from flowpipe.tsn.training.train import train

store, folder = map(Path, sys.argv[1:])
job = training.job(store, folder, "two", backbone="tiny_bn", end=2, device="cuda", save_s=0)
gpus = GpusStandIn(2)
gpus.install()
with gpus:
    train(replace(job, workers=1))
    os.environ["FLOWPIPE_RENDEZVOUS"] += "-next"
    train(replace(job, workers=1))
(folder / f"seen-{os.environ['RANK']}.json").write_text(json.dumps(sorted(gpus.seen)))
"""


def test_each_process_touches_its_own_gpu_only(
    store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in environment().items():
        monkeypatch.setenv(name, value)
    program = tmp_path / "two_gpus.py"
    program.write_text(TWO_GPUS)
    assert launch(2, [str(program), str(store), str(tmp_path)]) == 0
    for rank in range(2):
        seen = [tuple(one) for one in json.loads((tmp_path / f"seen-{rank}.json").read_text())]
        assert {number for _, number in seen} == {rank}, seen
        assert {what for what, _ in seen} >= {
            f"join bound to cuda:{rank}", "tensor", "asked", "all_reduce", "all_gather",
            "pin memory in another thread", "broadcast",
        }  # fmt: skip


@pytest.mark.parametrize("modality", ["rgb", "flow", "rgb_diff"])
def test_a_step_waits_for_no_copy_to_the_gpu(store: Path, tmp_path: Path, modality: str) -> None:
    wanted, here = job(store, tmp_path, modality=modality), Processes(device="cuda:0")
    with GpusStandIn(1) as gpus, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # nothing pins memory here
        trainer = Trainer(wanted, here, lambda line: None, lambda *step: None)
        batches = iter(trainer.loader)
        trainer.learner.step(next(batches), 4)  # constants are copied once
        gpus.waits.clear()
        trainer.learner.step(next(batches), 4)
        assert not gpus.waits
        torch.tensor([1.0], device="cuda:0")
        assert gpus.waits, "the stand-in notices one"
    assert trainer.learner.optimiser.defaults["fused"], "as a GPU has it"


def test_a_process_without_a_gpu_is_refused(
    store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setenv("LOCAL_RANK", "2")
    with pytest.raises(BackendError, match=r"process 2 of .* torch sees 2 GPUs; start as many"):
        run(job(store, tmp_path, device="cuda"))


@pytest.mark.parametrize(
    ("devices", "device", "visible", "wrong"),
    [
        (8, "auto", 2, r"--devices 8: this process sees 2 GPUs .* give --devices 2"),
        (2, "cuda", 1, r"--devices 2: this process sees 1 GPU .* with --device cpu"),
        (2, "cuda", 0, r"--devices 2: the NVIDIA driver shows .* no GPU .* leave out --device"),
        (2, "auto", 0, ""),
        (2, "cuda", 2, ""),
        (2, "auto", 8, ""),
    ],
)
def test_processes_are_not_started_without_gpus(
    devices: int, device: str, visible: int, wrong: str
) -> None:
    if wrong:
        with pytest.raises((UsageError, BackendError), match=wrong):
            check_gpus(devices, device, visible)
    else:
        check_gpus(devices, device, visible)


def test_the_driver_is_asked_before_anything_starts(
    store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    done = in_process(
        "train", store, "--modality", "rgb", "-o", tmp_path / "run", "--devices", 3,
        "--device", "cuda",
    )  # fmt: skip
    assert done.returncode == 2 and "--devices 3: the NVIDIA driver shows" in done.stderr
    assert "CUDA_VISIBLE_DEVICES is ''" in done.stderr and not (tmp_path / "run").exists()


def test_torchrun_and_devices_contradict_each_other(
    store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RANK", "0")
    done = in_process("train", store, "--modality", "rgb", "-o", tmp_path / "run", "--devices", 3)
    assert done.returncode == 2 and "torchrun has started this process already" in done.stderr
