"""Figures of steps: correct, read without waiting for the device, and logged across resumes."""

from __future__ import annotations

import functools
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs torch")

from command import in_process  # noqa: E402
from tiny_training import assert_same_weights, curve, job, run  # noqa: E402
from torch.nn import functional  # noqa: E402
from torch.utils._python_dispatch import TorchDispatchMode  # noqa: E402

from flowpipe.errors import FlowpipeError  # noqa: E402
from flowpipe.evaluation import read_facts  # noqa: E402
from flowpipe.tsn import device  # noqa: E402
from flowpipe.tsn.data.batches import Batch  # noqa: E402
from flowpipe.tsn.distributed import Processes  # noqa: E402
from flowpipe.tsn.run_folder import LAST, read_checkpoint  # noqa: E402
from flowpipe.tsn.training.job import TrainJob  # noqa: E402
from flowpipe.tsn.training.learner import measure  # noqa: E402
from flowpipe.tsn.training.steps import COLUMNS, STEP_LOG, StepLog  # noqa: E402
from flowpipe.tsn.training.train import Trainer  # noqa: E402


def trainer_of(wanted: TrainJob, **schedule: float) -> tuple[Trainer, Batch]:
    """A run that has not begun, and its first batch."""
    for name, value in schedule.items():
        object.__setattr__(wanted.recipe.streams["rgb"].schedule, name, value)
    trainer = Trainer(wanted, Processes(), lambda line: None, lambda *step: None)
    return trainer, next(iter(trainer.loader))


def test_top_1_and_top_5_are_those_of_the_sorted_scores(rng: np.random.Generator) -> None:
    scores, labels = rng.normal(size=(40, 12)), rng.integers(12, size=40)
    ranks = (scores > scores[np.arange(40), labels][:, None]).sum(1)
    loss, right, right_in_5 = measure(
        torch.tensor(1.5), torch.tensor(scores), torch.tensor(labels)
    ).tolist()
    assert (loss, right, right_in_5) == (1.5, (ranks == 0).sum(), (ranks < 5).sum())
    few = measure(torch.tensor(0.0), torch.tensor(scores[:, :3]), torch.zeros(40, dtype=int))
    assert few[2] == 40, "of three classes each is among the first five"


@pytest.mark.parametrize("limit", [0.0, 0.01, 20.0])
@pytest.mark.parametrize("parts", [1, 3])
def test_the_gradient_norm_is_that_before_clipping(
    store: Path, tmp_path: Path, limit: float, parts: int
) -> None:
    trainer, batch = trainer_of(job(store, tmp_path, accumulate=parts), clip_gradient=limit)
    learner = trainer.learner
    images, labels = learner.inputs(batch, 0, 4)
    trained = [w for group in learner.optimiser.param_groups for w in group["params"]]
    plain = torch.autograd.grad(functional.cross_entropy(learner.model(images), labels), trained)
    norm = torch.cat([one.flatten() for one in plain]).norm()
    figures = learner.step(batch, 4)
    assert figures[3].item() == pytest.approx(norm.item(), rel=1e-5) and norm > 0.01
    clipped = torch.cat([w.grad.flatten() for w in trained]).norm().item()
    assert clipped == pytest.approx(min(norm.item(), limit or np.inf), rel=1e-3)


class NoReading(TorchDispatchMode):
    """Refuses to bring a value of a tensor to Python, for which the CPU waits for a GPU."""

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        assert function is not torch.ops.aten._local_scalar_dense.default
        return function(*args, **(kwargs or {}))


@pytest.mark.parametrize("parts", [1, 3])
@pytest.mark.parametrize("limit", [0.0, 20.0])
def test_a_step_does_not_wait_for_the_device(
    store: Path, tmp_path: Path, parts: int, limit: float
) -> None:
    trainer, batch = trainer_of(job(store, tmp_path, accumulate=parts), clip_gradient=limit)
    with pytest.raises(AssertionError), NoReading():
        float(torch.ones(()))
    with NoReading():
        trainer.learner.step(batch, 4)


def test_a_compiled_network_is_the_same_network(
    store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Without the C++ compiler, which takes a minute: what is traced is what would be compiled.
    eager = functools.partialmethod(torch.nn.Module.compile, backend="eager")
    monkeypatch.setattr(torch.nn.Module, "compile", eager)
    torch._dynamo.reset()
    before = torch._dynamo.utils.counters["stats"]["unique_graphs"]
    for name, compiled in (("plain", False), ("compiled", True)):
        run(job(store, tmp_path, name, backbone="tiny_bn", end=2, compile=compiled))
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] > before
    assert_same_weights(tmp_path / "plain", tmp_path / "compiled", rtol=1e-4, atol=1e-6)


def test_steps_are_printed_and_logged(store: Path, tmp_path: Path) -> None:
    wanted = job(store, tmp_path, end=4, log_every=5, validate_every=4)
    told = run(wanted)
    rows, epochs = curve(wanted.run, STEP_LOG), curve(wanted.run)
    lines = [line for line in told if line.startswith("step ")]
    assert [line.partition(":")[0] for line in lines] == ["step 5 of 12", "step 10 of 12"]
    assert "gradient norm" in lines[0]
    assert "top-5" not in "".join(told), "of three classes each is among the first five"
    assert "skipped" not in "".join(told) and {row["skipped_steps"] for row in epochs} == {"0"}
    assert told[0].startswith("device: cpu, ")
    assert any("peak memory" in line for line in told)
    assert [int(row["step"]) for row in rows] == list(range(1, 13))
    for k, epoch in enumerate(epochs):  # three steps of 4, 4 and 1 videos
        own = rows[3 * k : 3 * k + 3]
        assert {row["epoch"] for row in own} == {epoch["epoch"]}
        for name in ("loss", "accuracy", "top5"):
            values = [float(row[name]) for row in own]
            assert float(epoch[f"train_{name}"]) == pytest.approx(
                np.average(values, weights=[4, 4, 1])
            )
        norms = [float(row["gradient_norm"]) for row in own]
        assert float(epoch["gradient_norm"]) == pytest.approx(np.mean(norms))
        assert bool(epoch["val_top5"]) == (k == 3)
    mean = np.average([float(row["loss"]) for row in rows[5:10]], weights=[1, 4, 4, 1, 4])
    assert f"loss {mean:.4f}" in lines[1]


def test_rows_after_the_checkpoint_are_removed(tmp_path: Path) -> None:
    rows = [dict.fromkeys(COLUMNS, 0) | {"step": k} for k in range(1, 6)]
    StepLog(tmp_path, 0).add(rows)
    with (tmp_path / STEP_LOG).open("a") as file:
        file.write("2,1,0.0")  # torn
    assert [row["step"] for row in curve(tmp_path, STEP_LOG)][:5] == ["1", "2", "3", "4", "5"]
    StepLog(tmp_path, 3).add(rows[3:])
    assert [row["step"] for row in curve(tmp_path, STEP_LOG)] == ["1", "2", "3", "4", "5"]
    StepLog(tmp_path, 0)
    assert not curve(tmp_path, STEP_LOG)


def test_a_loss_that_is_not_finite_names_its_step(store: Path, tmp_path: Path) -> None:
    wanted = job(store, tmp_path, end=3, log_every=100)
    trainer, batch = trainer_of(wanted)
    plain, steps = trainer.learner.step, []

    def step(batch: Batch, size: int) -> torch.Tensor:
        figures = plain(batch, size)
        steps.append(size)
        return figures * (torch.nan if len(steps) == 2 else 1)

    trainer.learner.step = step
    with pytest.raises(Exception, match="the loss is nan at step 2; is lr 0.05 too large"):
        trainer.run()
    assert len(steps) == 3, "it is noticed when the figures of the epoch are read"
    assert not (wanted.run / LAST).exists()
    assert [row["loss"] == "nan" for row in curve(wanted.run, STEP_LOG)] == [False, True, False]


def train_with_overflows(trainer: Trainer, *numbers: int) -> list[str]:
    """Let logits overflow in some steps of a run, and train it; what it says."""
    told: list[str] = []
    plain, count = trainer.learner.step, 0
    bias = trainer.learner.model.new_fc.bias.data

    def step(batch: Batch, size: int) -> torch.Tensor:
        nonlocal count
        count += 1
        if count not in numbers:
            return plain(batch, size)
        kept = bias.clone()
        bias[0] = torch.inf
        figures = plain(batch, size)
        bias[:] = kept
        return figures

    trainer.tell, trainer.learner.step = told.append, step
    trainer.run()
    return told


def test_steps_that_fp16_skips_are_counted_and_in_no_mean(store: Path, tmp_path: Path) -> None:
    wanted = job(store, tmp_path, end=3, log_every=3, amp="fp16")
    told = train_with_overflows(trainer_of(wanted)[0], 2, 7, 8, 9)
    rows, epochs = curve(wanted.run, STEP_LOG), curve(wanted.run)
    assert [row["loss"] for row in rows].count("nan") == 4
    assert [row["skipped_steps"] for row in epochs] == ["1", "0", "3"]
    mean = np.average([float(rows[k]["loss"]) for k in (0, 2)], weights=[4, 1])
    assert float(epochs[0]["train_loss"]) == pytest.approx(mean)
    assert epochs[2]["train_loss"] == "nan", "no step is left to take the mean of"
    said = [line.partition(";")[0] for line in told if "skipped" in line]
    assert [line.partition(":")[0] for line in said] == [
        "step 3 of 9", "epoch 1/3", "step 9 of 9", "epoch 3/3",
    ]  # fmt: skip
    assert f"loss {mean:.4f}" in said[1] and said[1].endswith(", 1 step skipped (fp16 overflow)")
    assert said[3].endswith(", 3 steps skipped (fp16 overflow)")


def test_fp16_does_not_skip_for_ever(store: Path, tmp_path: Path) -> None:
    trainer, _ = trainer_of(job(store, tmp_path, end=20, amp="fp16"))
    with pytest.raises(FlowpipeError, match=r"the loss is nan at step \d+; is lr"):
        train_with_overflows(trainer, *range(3, 61))


def test_checkpoints_of_epochs_are_kept(store: Path, tmp_path: Path) -> None:
    wanted = job(store, tmp_path, end=5, keep_every=2)
    run(wanted)
    kept = sorted(path.name for path in wanted.run.glob("epoch-*.pt"))
    assert kept == ["epoch-002.pt", "epoch-004.pt"]
    assert read_checkpoint(wanted.run / kept[0])["step"] == 6
    test = ["test", store, wanted.run, "-o", tmp_path / "scores.h5", "--checkpoint"]
    done = in_process(*test, "epoch-002")
    assert done.returncode == 0, done.stderr
    assert read_facts(tmp_path / "scores.h5")["modality"] == "rgb"
    assert read_checkpoint(wanted.run / kept[1])["step"] == 12
    there = "epoch-003.pt; the run has best, epoch-002, epoch-004, last"
    assert there in in_process(*test, "epoch-003").stderr
    (wanted.run / LAST).unlink()
    lost = ["train", store, "--modality", "rgb", "-o", tmp_path / "b", "--weights", wanted.run]
    recipe = ("--recipe", tmp_path / "recipe.yaml")
    done = in_process(*lost, *recipe)
    assert "last.pt; the run has best, epoch-002, epoch-004" in done.stderr
    assert "'../x' is unknown; known: best, last, ema" in in_process(*test, "../x").stderr


def test_gpus_take_the_fastest_kernels_unless_results_must_repeat(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(torch.backends.cudnn, "benchmark", False)
    device.choose_kernels("cpu", False)
    assert not torch.backends.cudnn.benchmark
    device.choose_kernels("cuda", False)
    assert torch.backends.cudnn.benchmark
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", "")
    try:
        device.choose_kernels("cuda", True)
        assert not torch.backends.cudnn.benchmark
        assert torch.are_deterministic_algorithms_enabled()
    finally:
        torch.use_deterministic_algorithms(False)


def test_frozen_statistics_of_random_weights_are_warned_of(store: Path, tmp_path: Path) -> None:
    def warnings_of(folder: str, partial_bn: bool, backbone: str = "resnet18") -> list[str]:
        wanted = job(store, tmp_path, folder)
        for name, value in (("backbone", backbone), ("partial_bn", partial_bn)):
            object.__setattr__(wanted.recipe.streams["rgb"], name, value)
        lines: list[str] = []
        Trainer(wanted, Processes(), lines.append, lambda *step: None)
        return lines

    assert "partial_bn freezes batch normalisation" in "".join(warnings_of("a", True))
    assert not warnings_of("b", False) and not warnings_of("c", True, "tiny_bn"), (
        "nothing is frozen"
    )
