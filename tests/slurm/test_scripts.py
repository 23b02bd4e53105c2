"""Job scripts of pipelines/slurm: their place and their contents."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
from command import command
from slurm_jobs import SCRIPTS


def test_scripts_are_where_the_command_says():
    done = subprocess.run(command("cluster", "scripts"), capture_output=True, text=True, check=True)
    assert {path.name for path in Path(done.stdout.strip()).iterdir()} == {
        "array.sh", "dask.sh", "train.sh",
    }  # fmt: skip


@pytest.mark.parametrize("name", ["array.sh", "dask.sh", "train.sh"])
def test_scripts_hold_no_python(name):
    assert "python" not in (SCRIPTS / name).read_text()


@pytest.mark.parametrize("name", ["array.sh", "dask.sh", "train.sh"])
def test_scripts_are_bash_and_say_what_they_need(name):
    subprocess.run(["bash", "-n", SCRIPTS / name], check=True)
    text = (SCRIPTS / name).read_text()
    for word in ("# Needs ", "# Submit ", "# GPUs ", "# Again ", "#SBATCH --requeue"):
        assert word in text
    assert os.access(SCRIPTS / name, os.X_OK)
