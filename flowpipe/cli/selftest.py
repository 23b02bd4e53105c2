"""`flowpipe selftest`: a device -> whether it computes what the CPU does."""

from __future__ import annotations

import os
import subprocess
import sys

import click

from flowpipe.cli import EXIT_DONE, EXIT_SOME_FAILED
from flowpipe.cli.screen import say
from flowpipe.ops import DEVICES, get_ops
from flowpipe.ops.gpus import gpus
from flowpipe.selftest import checks
from flowpipe.words import counted

VERDICTS = {True: "ok     ", False: "FAILED ", None: "not run"}


@click.command()
@click.option("--device", type=click.Choice(DEVICES), default="cuda", show_default=True)
@click.option("--gpu", metavar="ID", help="This GPU only, as in CUDA_VISIBLE_DEVICES.")
def selftest(device: str, gpu: str | None) -> int:
    """Prove a device: every operation against the CPU's, same bytes twice, no memory lost.

    Tries every visible GPU. Exit code: 0 all checks passed, 1 some failed, 2 no such device here.
    """
    if device == "cuda" and gpu is None and len(gpus().ids) > 1:
        return max(_alone(each) for each in gpus().ids)
    if gpu is not None:
        os.environ["CUDA_VISIBLE_DEVICES"] = gpu
    ops = get_ops(device)
    say(f"{ops.name}" + (f" on {gpus().names[0]}" if device == "cuda" and gpus().names else ""))
    failed = 0
    for check in checks(ops):
        failed += check.passed is False
        say(f"  {VERDICTS[check.passed]} {check.name}: {check.found}",
            "bold red" if check.passed is False else "")  # fmt: skip
    say(
        f"{ops.name}: {counted(failed, 'check')} failed"
        if failed
        else f"{ops.name}: all checks passed"
    )
    return EXIT_SOME_FAILED if failed else EXIT_DONE


def _alone(gpu: str) -> int:
    """The same in a process that sees one GPU; CUDA chooses its devices once per process."""
    command = [sys.executable, "-m", "flowpipe", "selftest", "--device", "cuda", "--gpu", gpu]
    return subprocess.run(command, env={**os.environ, "CUDA_VISIBLE_DEVICES": gpu}).returncode
