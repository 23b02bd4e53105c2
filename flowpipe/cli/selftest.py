"""`flowpipe selftest`: a device -> the result of comparing it with the CPU."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import asdict
from typing import Any

import click

from flowpipe.cli import EXIT_DONE, EXIT_SOME_FAILED
from flowpipe.cli.choices import Choice
from flowpipe.cli.screen import say, write_json
from flowpipe.diagnose.selftest import CHECKS, SIZE, checks
from flowpipe.errors import UsageError
from flowpipe.ops import DEVICES, get_ops
from flowpipe.ops.cuda.devices import gpus
from flowpipe.sizes import width_and_height
from flowpipe.words import count_noun, unknown_name

VERDICTS = {True: "ok     ", False: "FAILED ", None: "not run"}
SMALLEST_PX, LARGEST_PX = 16, 4096
Report = dict[str, Any]


@click.command()
@click.option("--device", type=Choice(DEVICES), default="cuda", show_default=True,
              help="Device to test.")  # fmt: skip
@click.option("--gpu", metavar="ID", help="Test only this GPU, an id as in CUDA_VISIBLE_DEVICES.")
@click.option("--size", default=f"{SIZE[1]}x{SIZE[0]}", show_default=True, metavar="WxH",
              help="Size of the frames; the limits are set for the default.")  # fmt: skip
@click.option("--only", multiple=True, metavar="NAME",
              help="Run only this check; repeat for more.")  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="Print a JSON list, one entry per device.")
def selftest(device: str, gpu: str | None, size: str, only: tuple[str, ...], as_json: bool) -> int:
    """Compare every operation of a device with the CPU's; check repeatability and memory leaks.

    \b
    flowpipe selftest
    flowpipe selftest --gpu 0 --only quantise

    Every visible GPU is tested. Exit code: 0 all checks passed, 1 some failed or none could run, 2
    wrong use or no such device here.
    """
    pixels = width_and_height(size, SMALLEST_PX, LARGEST_PX)
    if gpu is not None and device != "cuda":
        raise UsageError(f"--gpu {gpu} needs --device cuda, got --device {device}")
    for name in only:
        if name not in CHECKS:
            raise UsageError(unknown_name("--only", name, CHECKS, most=3))
    if device == "cuda" and gpu is None and len(gpus().ids) > 1:
        more = ["--size", size, *(word for name in only for word in ("--only", name))]
        ends = [_test_in_process(each, more, as_json) for each in gpus().ids]
        code, reports = max(end[0] for end in ends), [end[1] for end in ends]
    else:
        if gpu is not None:
            os.environ["CUDA_VISIBLE_DEVICES"] = gpu
        report = _run_checks(device, pixels, only)
        code, reports = EXIT_DONE if report["passed"] else EXIT_SOME_FAILED, [report]
    if as_json:
        write_json(reports)
    return code


def _run_checks(device: str, pixels: tuple[int, int], only: tuple[str, ...]) -> Report:
    """Run the checks, print a line for each and return the device's entry of the JSON."""
    ops = get_ops(device)
    name = gpus().names[0] if device == "cuda" and gpus().names else ""
    say(f"{ops.name} on {name}" if name else ops.name)
    found = []
    for check in checks(ops, pixels[::-1], only):
        found.append(check)
        say(f"  {VERDICTS[check.passed]} {check.name}: {check.found}",
            "bold red" if check.passed is False else "")  # fmt: skip
    failed = sum(check.passed is False for check in found)
    ran = sum(check.passed is not None for check in found)
    verdict = "all checks passed" if ran else "no check could run"
    say(f"{ops.name}: {count_noun(failed, 'check')} failed" if failed else f"{ops.name}: {verdict}")
    return {
        "device": ops.name,
        "gpu": name,
        "size": list(pixels),
        "passed": ran > 0 and not failed,
        "checks": [asdict(check) for check in found],
    }


def _test_in_process(gpu: str, more: list[str], as_json: bool) -> tuple[int, Report]:
    """Test one GPU in a process of its own; return its exit code and report.

    CUDA reads CUDA_VISIBLE_DEVICES only once per process.
    """
    command = [sys.executable, "-m", "flowpipe", "selftest", "--device", "cuda", "--gpu", gpu]
    ended = subprocess.run(
        [*command, *more, *["--json"] * as_json],
        env={**os.environ, "CUDA_VISIBLE_DEVICES": gpu},
        stdout=subprocess.PIPE if as_json else None,
        text=True,
    )
    if ended.returncode in (EXIT_DONE, EXIT_SOME_FAILED):
        return ended.returncode, json.loads(ended.stdout)[0] if as_json else {}
    say(f"GPU {gpu}: the self test ended with exit code {ended.returncode}", "bold red")
    # The exit code of a process that a signal ended is negative.
    code = ended.returncode if ended.returncode > 0 else EXIT_SOME_FAILED
    return code, {"device": "cuda", "gpu": gpu, "passed": False, "checks": []}
