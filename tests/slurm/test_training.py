"""train.sh of pipelines/slurm: the command that it runs, by the GPUs and cores of the job."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from checkout import ROOT
from slurm_jobs import write_flowpipe

SCRIPT = ROOT / "pipelines" / "slurm" / "train.sh"


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
