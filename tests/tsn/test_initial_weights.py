"""Initial weights of a run: needed by a new run, and not by one that resumes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

torch = pytest.importorskip("torch", reason="needs torch")

from tiny_training import assert_same_weights, job, run  # noqa: E402

from flowpipe.errors import BackendError  # noqa: E402
from flowpipe.tsn import run_folder  # noqa: E402
from flowpipe.tsn.adopt import adopt  # noqa: E402
from flowpipe.tsn.network.backbones import build  # noqa: E402
from flowpipe.tsn.run_folder import LAST, RunFacts, read_checkpoint  # noqa: E402
from flowpipe.tsn.training.job import TrainJob  # noqa: E402
from flowpipe.tsn.weights.checkpoints import to_tsn_pytorch  # noqa: E402


def pretrain(wanted: TrainJob, **changes: object) -> TrainJob:
    """A job whose streams begin with weights of ImageNet, of which the tiny networks have none."""
    streams = {
        name: replace(stream, init="cross_modality", **changes)
        for name, stream in wanted.recipe.streams.items()
    }
    return replace(wanted, recipe=replace(wanted.recipe, streams=streams))


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    torch.manual_seed(3)
    torch.save(build("tiny_bn", "random")[0].state_dict(), tmp_path / "imagenet.pth")
    return tmp_path / "imagenet.pth"


def test_a_run_resumes_without_the_weights_that_it_began_with(
    store: Path, tmp_path: Path, weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = {"modality": "flow", "backbone": "tiny_bn", "dropout": 0.5, "end": 4}
    wanted = pretrain(job(store, tmp_path, "whole", **options))
    with pytest.raises(BackendError, match=r"--weights FILE, or .* streams\.MODALITY\.init=random"):
        run(wanted)
    run(replace(wanted, weights=weights))
    broken = pretrain(job(store, tmp_path, "broken", save_s=0.0, **options))
    save = run_folder.save

    def save_and_stop(path: Path, values: dict[str, object]) -> None:
        save(path, values)
        if values["step"] == 4:
            raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(run_folder, "save", save_and_stop)
        with pytest.raises(KeyboardInterrupt):
            run(replace(broken, weights=weights))
    weights.unlink()
    assert run(broken)[0] == "resuming at step 4 of 12"
    assert_same_weights(tmp_path / "whole", tmp_path / "broken")
    # Nor does a finished run, or one whose command still names the file that is gone.
    run(broken)
    run(replace(broken, weights=weights))
    assert_same_weights(tmp_path / "whole", tmp_path / "broken")


def test_an_adopted_run_wants_no_other_weights(store: Path, tmp_path: Path, weights: Path) -> None:
    first = pretrain(job(store, tmp_path, "first", modality="flow", backbone="tiny_bn", end=1))
    run(replace(first, weights=weights))
    theirs = to_tsn_pytorch(read_checkpoint(first.run / LAST)["model"])
    torch.save({"state_dict": theirs}, tmp_path / "theirs.pth")
    weights.unlink()
    second = replace(first, run=tmp_path / "second")
    adopt(tmp_path / "theirs.pth", second.run, RunFacts.read(first.run), given={"dropout"})
    told = run(second)
    assert told[0] == "beginning with the adopted weights" and "epoch 1/1" in told[-2]
