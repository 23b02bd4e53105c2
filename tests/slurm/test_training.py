"""train.sh of pipelines/slurm: its command, and a real job that requeues itself."""

from __future__ import annotations

import csv
import os
import subprocess
import sys
from pathlib import Path

import pytest
from checkout import ROOT, python_path
from slurm_jobs import has_ended, require_slurm, states, wait_until

SCRIPT = ROOT / "pipelines" / "slurm" / "train.sh"

pytestmark = pytest.mark.timeout(600)


def write_flowpipe(folder: Path, text: str) -> dict[str, str]:
    """Put a `flowpipe` into a folder; the environment that finds it."""
    folder.mkdir()
    (folder / "flowpipe").write_text(f"#!/bin/sh\n{text}\n")
    (folder / "flowpipe").chmod(0o755)
    return {**os.environ, "PATH": f"{folder}{os.pathsep}{os.environ['PATH']}"}


@pytest.mark.parametrize(
    ("gpus", "cores", "words"),
    [
        ("4", "16", "--device cuda --devices 4 --workers 3"),
        ("1", "4", "--device cuda --devices 1 --workers 3"),
        ("4", "4", "--device cuda --devices 4 --workers 1"),
        ("", "8", "--device cpu --workers 7"),
        ("", "1", "--device cpu --workers 1"),
    ],
)
def test_a_job_trains_on_its_gpus_and_cores(
    gpus: str, cores: str, words: str, tmp_path: Path
) -> None:
    given = {"SLURM_GPUS_ON_NODE": gpus, "SLURM_CPUS_PER_TASK": cores, "SLURM_JOB_ID": "7"}
    environment = write_flowpipe(tmp_path / "bin", 'echo "$@"; exit 3')
    done = subprocess.run(
        [SCRIPT, "store", "-o", "a run"], env=environment | given, capture_output=True, text=True
    )
    assert (done.returncode, done.stderr) == (3, ""), "the script ends as the command does"
    assert done.stdout == f"train {words} store -o a run\n"


def test_a_training_queues_itself_again_and_goes_on(tmp_path: Path) -> None:
    require_slurm()
    pytest.importorskip("torch", reason="needs torch")
    import tiny
    from tiny_training import PROGRAM

    recipe = tiny.write_recipe(tmp_path / "recipe.yaml", end=1500)
    store = tiny.make_store(tmp_path / "store")
    environment = write_flowpipe(tmp_path / "bin", f'exec "{sys.executable}" "{PROGRAM}" "$@"')
    environment["PYTHONPATH"] = python_path(ROOT, PROGRAM.parent)
    run, log = tmp_path / "run", tmp_path / "job.log"
    job = subprocess.run(
        ["sbatch", "--parsable", "--mem-per-cpu=1000M", "--cpus-per-task=1", "--output", log,
         SCRIPT, store, "--modality", "rgb", "--recipe", recipe, "-o", run, "--validate-every",
         "9999"],
        check=True, capture_output=True, text=True, cwd=tmp_path, env=environment,
    ).stdout.strip()  # fmt: skip
    try:
        wait_until(lambda: (run / "log.csv").exists() or has_ended(job))
        # What --signal=B:USR1@120 has Slurm do.
        subprocess.run(["scancel", "--batch", "--signal=USR1", job], check=True)
        wait_until(lambda: states(job) == {"": "PENDING"} or has_ended(job))
        assert states(job) == {"": "PENDING"}, log.read_text()
        # Slurm holds a job that queued itself again for some minutes; an operator need not wait.
        subprocess.run(["scontrol", "update", f"JobId={job}", "StartTime=now"], check=True)
        wait_until(lambda: "going on at step" in log.read_text() or has_ended(job))
        assert "time limit: the job is requeued" in log.read_text()
        assert "going on at step" in log.read_text()
    finally:
        subprocess.run(["scancel", "--quiet", job])
    wait_until(lambda: has_ended(job))
    with (run / "steps.csv").open() as file:
        steps = [int(row["step"]) for row in csv.DictReader(file)]
    assert steps == list(range(1, len(steps) + 1)), "none is twice, and none is missing"
