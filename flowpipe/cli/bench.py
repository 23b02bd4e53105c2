"""`flowpipe bench`: this machine -> the speed of optical flow algorithms on it."""

from __future__ import annotations

import platform
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import click
import cv2
import numpy as np

from flowpipe import __version__
from flowpipe.cli import Group
from flowpipe.cli.choices import Choice
from flowpipe.cli.paths import FILE_THERE, THERE, LocalPath
from flowpipe.cli.screen import as_json, say, write_line
from flowpipe.diagnose.bench import (
    PEER,
    REFERENCES,
    FlowCandidate,
    FlowFigures,
    Meter,
    Pairs,
    Throughput,
    find_refusals,
    flow_candidates,
    measure_throughput,
    render_pairs,
    tune,
    use_one_core,
    video_pairs,
)
from flowpipe.diagnose.hardware import hardware
from flowpipe.errors import BackendError, UsageError
from flowpipe.experimental import describe_experimental
from flowpipe.flow.tvl1 import TVL1Params
from flowpipe.ops import Ops, get_ops
from flowpipe.ops.cpu import native_core
from flowpipe.ops.cuda.settings import VARIABLE
from flowpipe.sizes import width_and_height
from flowpipe.words import count_noun, unknown_name

SMALLEST_PX = 16
NOISY = 0.1
VERSUS = 5 + max(map(len, REFERENCES))  # columns


@click.group(cls=Group)
def bench() -> None:
    """Measure the speed of optical flow on this machine."""


@bench.command()
@click.argument("videos", metavar="[VIDEO]...", nargs=-1,
                type=THERE)  # fmt: skip
@click.option("--pairs", "count", type=click.IntRange(1), default=12, show_default=True,
              help="Frame pairs, spread evenly over the videos.")  # fmt: skip
@click.option("--size", default="340x256", show_default=True, metavar="WxH",
              help="Size to which frames are resized.")  # fmt: skip
@click.option("--repeat", type=click.IntRange(1), default=3, show_default=True,
              help="Maximum number of passes over the pairs; slow rows get two.")  # fmt: skip
@click.option("--only", multiple=True, metavar="NAME",
              help="Measure only this row and the reference; repeat for more rows.")  # fmt: skip
@click.option("--device", type=Choice(["cpu", "cuda"]),
              help="Measure only rows of this device; cuda: pairs per call too. "
              f"{describe_experimental('cuda')}")  # fmt: skip
@click.option("--raft-large", type=FILE_THERE, metavar="FILE",
              help="Weights of torchvision's raft_large, to measure it too.")  # fmt: skip
@click.option("--raft-small", type=FILE_THERE, metavar="FILE",
              help="Weights of torchvision's raft_small, to measure it too.")  # fmt: skip
@click.option("--tune", "tuned", is_flag=True,
              help="With --device cuda: measure settings of the GPU schedule instead.")  # fmt: skip
@click.option("--json", "json_file", metavar="FILE|-", help="Also write JSON; - for stdout.",
              type=LocalPath(dir_okay=False, writable=True, allow_dash=True))  # fmt: skip
def flow(
    videos: tuple[Path, ...],
    count: int,
    size: str,
    repeat: int,
    only: tuple[str, ...],
    device: str | None,
    raft_large: Path | None,
    raft_small: Path | None,
    tuned: bool,
    json_file: Path | None,
) -> None:
    """Compare optical flow algorithms: milliseconds per pair, and difference to OpenCV's DualTVL1.

    \b
    flowpipe bench flow
    flowpipe bench flow clips/ --size 340x256 --json bench.json

    VIDEO is a video or a folder of videos; without any, demo clips are generated. CPU algorithms
    run in one thread on one core, measured by the CPU time of the fastest pass. GPU algorithms are
    measured by wall time. The comparison takes a few minutes. If cv2 has no DualTVL1, the reference
    is flowpipe's own TV-L1 on the CPU.

    --tune measures settings of the GPU schedule instead, and prints the best value for the
    environment variable FLOWPIPE_CUDA_SETTINGS. Settings do not change the flow.
    """
    width, height = width_and_height(size, SMALLEST_PX)
    if json_file and not json_file.resolve().parent.is_dir():
        raise UsageError(f"--json {json_file}: no folder {json_file.resolve().parent}")
    if tuned and device != "cuda":
        raise UsageError("--tune measures settings of a GPU; give --device cuda too")
    if tuned and only:
        raise UsageError("--tune measures flowpipe's TV-L1 alone; leave --only out")
    ops, lack = _device_ops(device)
    if tuned and ops is None:
        assert lack is not None
        raise lack
    weights = {"large": raft_large, "small": raft_small}
    raft = {model: str(path) for model, path in weights.items() if path is not None}
    rows = [] if tuned else _chosen(flow_candidates(raft), only, device)
    algorithms = f" and {count_noun(len(rows), 'algorithm')}" if rows else ""
    say(f"preparing {count_noun(count, 'pair')} of frames{algorithms}")
    pairs = (
        video_pairs(videos, count, height, width) if videos else render_pairs(count, height, width)
    )
    for message in pairs.left_out:
        say(f"left out: {message}", "yellow")
    # Where the JSON goes to stdout, nothing else does.
    echo = partial(write_line, err=str(json_file) == "-")
    if tuned:
        _write_json(json_file, pairs, {"settings": _tune(ops, pairs, repeat, echo)})
        return
    with use_one_core() as where:
        reasons = find_refusals(_announce("trying", rows))
        reference = next((name for name in REFERENCES if name not in reasons), "")
        # The second reference was tried in case the first cannot run.
        rows = [r for r in rows if r.name in (PEER, reference) or _is_requested(r, only, device)]
        reasons = {row.name: reasons[row.name] for row in rows if row.name in reasons}
        if lack and all(row.on_cpu or row.name in reasons for row in rows):
            opencv_s = [r for r in reasons.values() if r != str(lack)][:1]
            raise BackendError("; and ".join([str(lack), *opencv_s]))
        found = len(pairs.first)
        echo(f"{count_noun(found, 'pair')} of {width}x{height} from {pairs.source};")
        passes = count_noun(repeat, "pass", "passes")
        echo(f"{where}, fastest of up to {passes}; GPUs by wall time, transfers included")
        usable = [row for row in rows if row.name not in reasons]
        usable.sort(key=lambda row: row.name != reference)
        figures = _measure(usable, Meter(pairs, repeat, reference, _progress), reasons, echo)
        batches = _sweep(ops, pairs, repeat, echo) if ops else []
    if reference:
        says = "how many times faster; differs: mean endpoint difference to its flow"
        echo(f"vs {reference}: {says}")
    for name, reason in reasons.items():
        echo(f"not run: {name}: {reason}")
    _warn_of_noise(reference, figures.get(reference))
    report = {
        "reference": reference or None,
        "batches": [asdict(batch) for batch in batches],
        "rows": [_plain(row, figures, reasons) for row in rows],
    }
    _write_json(json_file, pairs, report)


def _write_json(json_file: Path | None, pairs: Pairs, report: dict[str, Any]) -> None:
    """Write a report as JSON, with the machine, versions and pairs measured, if a file is given."""
    if json_file is None:
        return
    count, height, width = pairs.first.shape
    measured = {
        "machine": {finding.topic: finding.found for finding in hardware()},
        "versions": _versions(),
        "size": [width, height],
        "pairs": count,
        "source": pairs.source,
    }
    with click.open_file(str(json_file), "w", encoding="utf-8") as file:
        file.write(as_json({**measured, **report}, indent=1) + "\n")


def _chosen(
    rows: list[FlowCandidate], only: tuple[str, ...], device: str | None
) -> list[FlowCandidate]:
    """Return the rows that the options select, and the reference rows."""
    names = [row.name for row in rows]
    unknown = [name for name in only if name not in names]
    if unknown:
        raise UsageError(unknown_name("--only", unknown[0], names, most=3))
    return [row for row in rows if row.name in REFERENCES or _is_requested(row, only, device)]


def _is_requested(row: FlowCandidate, only: tuple[str, ...], device: str | None) -> bool:
    there = device is None or row.on_cpu == (device == "cpu")
    return there and (not only or row.name in only)


def _progress(text: str) -> None:
    """Print a line on stderr if stdout is no terminal; a terminal shows the current row anyway."""
    if not sys.stdout.isatty():
        say(text)


def _announce(what: str, rows: list[FlowCandidate]) -> Iterator[FlowCandidate]:
    """Yield the rows; print a line of progress before each."""
    for number, row in enumerate(rows, 1):
        _progress(f"{what} {row.name}, {number} of {len(rows)}")
        yield row


def _device_ops(device: str | None) -> tuple[Ops | None, BackendError | None]:
    """Return the GPU's operations for ``cuda``, or the error; OpenCV's GPU rows may still run."""
    if device != "cuda":
        return None, None
    try:
        return get_ops(device), None
    except BackendError as error:
        return None, error


def _sweep(ops: Ops, pairs: Pairs, repeat: int, echo: Callable[..., None]) -> list[Throughput]:
    """Print and return pairs per second by number of pairs per call."""
    echo(f"flowpipe-{TVL1Params.variant} on {ops.name}, transfers included:")
    echo(f"{'pairs per call':>14}{'pairs/s':>10}{'of peak':>9}")
    batches = []
    for batch in measure_throughput(ops, pairs, TVL1Params(), repeat, _progress):
        share = "-" if batch.share is None else f"{batch.share:.1%}"
        echo(f"{batch.pairs:14}{batch.pairs_per_s:10.1f}{share:>9}")
        batches.append(batch)
    echo("")
    return batches


def _tune(ops: Any, pairs: Pairs, repeat: int, echo: Callable[..., None]) -> list[dict[str, Any]]:
    """Print pairs per second by settings of the schedule, and the best settings; return all."""
    echo(f"flowpipe-{TVL1Params.variant} on {ops.name}, by the settings of its schedule:")
    echo(f"{'steps':>5}{'cache share':>13}{'least tiles':>13}{'blocks':>8}"
         f"{'pairs together':>16}{'pairs/s':>10}")  # fmt: skip
    found = []
    for choice in tune(ops, pairs, TVL1Params(), repeat, _progress):
        s = choice.settings
        echo(f"{s.steps:5}{s.cache_share:13g}{s.least_tiles:13}{s.blocks:8}"
             f"{choice.pairs_together:16}{choice.pairs_per_s:10.1f}")  # fmt: skip
        found.append(choice)
    best = max(found, key=lambda choice: choice.pairs_per_s)
    ratio = best.pairs_per_s / found[0].pairs_per_s
    echo(f"best: {VARIABLE}={best.settings}, {ratio:.2f} times as fast as the current settings")
    return [asdict(choice) for choice in found]


def _measure(
    rows: list[FlowCandidate], meter: Meter, reasons: dict[str, str], echo: Callable[..., None]
) -> dict[str, FlowFigures]:
    """Measure and print the rows; add the message of a row that fails to `reasons`."""
    figures: dict[str, FlowFigures] = {}
    widest = max((len(row.name) for row in rows), default=0)
    versus = f"vs {meter.reference or '-'}"
    echo(f"\n{'':{widest}}  {'backend':13}{'ms/pair':>9}  {'clock':5}{'pairs/s':>9}"
         f"{versus:>{VERSUS}}{'spread':>8}{'differs':>11}")  # fmt: skip
    for row in _announce("measuring", rows):
        echo(f"{row.name:{widest}}  {row.backend:13}", nl=False)
        try:
            found = figures[row.name] = meter.measure(row)
        except Exception as error:  # such as out of memory; the other rows are still measured
            reasons[row.name] = str(error) or type(error).__name__
            echo("failed, see below")
            continue
        echo(_line(found))
    echo("")
    return figures


def _line(found: FlowFigures) -> str:
    ms = found.ms_cpu if found.clock == "cpu" else found.ms_wall
    ratio = "-" if found.ratio is None else f"{found.ratio:.2f}x"
    spread = "-" if found.spread is None else f"{found.spread:.0%}"
    differs = "-" if found.difference_px is None else f"{found.difference_px:.3f} px"
    cost = f"{ms:9.2f}  {found.clock:5}{found.pairs_per_s:9.1f}"
    return f"{cost}{ratio:>{VERSUS}}{spread:>8}{differs:>11}"


def _warn_of_noise(reference: str, found: FlowFigures | None) -> None:
    if found and found.spread is not None and found.spread > NOISY:
        say(
            f"passes of {reference} differ by {found.spread:.0%}, so the ratios are as uncertain: "
            "other programs use this machine; run again when it is idle, or with a larger --repeat",
            "yellow",
        )


def _versions() -> dict[str, str]:
    versions = {
        "flowpipe": __version__,
        "core": f"{native_core().chosen} ({native_core().compiler})",
        "python": platform.python_version(),
        "numpy": np.__version__,
        "cv2": cv2.__version__,
    }
    try:
        versions["scikit-image"] = version("scikit-image")
    except PackageNotFoundError:
        pass
    return versions


def _plain(
    row: FlowCandidate, figures: dict[str, FlowFigures], reasons: dict[str, str]
) -> dict[str, Any]:
    """Return a row of the JSON report: its figures, or the reason why it did not run."""
    plain = {"name": row.name, "backend": row.backend, "parameters": row.parameters}
    if row.name in reasons:
        return {**plain, "reason": reasons[row.name]}
    return {**plain, **asdict(figures[row.name])}
