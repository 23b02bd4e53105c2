"""figures.json of on-gpu -> benchmarks/gpu/measured/GPU.json and docs/gpu-measured.md.

    python benchmarks/gpu/page.py [gpu-results/figures.json ...]

A step that was measured before on the same model of GPU is replaced, the others are kept. Without
arguments only the page is written again. Rehearsals are refused.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from folders import ROOT, commit, sources_digest

MEASURED = Path(__file__).resolve().parent / "measured"
PAGE = ROOT / "docs" / "gpu-measured.md"
HEAD = """\
# Measured on GPUs

This page has what was measured on GPUs. `python benchmarks/gpu/page.py` writes it from
`benchmarks/gpu/measured`, the results of `benchmarks/gpu/on-gpu`.
[benchmarks/gpu](../benchmarks/gpu/README.md) says how to run it and what each step proves.
[gpu-roofline.md](gpu-roofline.md) has predictions.
"""
NOTHING = "\nNothing has been measured on a GPU yet.\n"
ABSOLUTE = re.compile(r"(?<![\w.])(?:/[\w.+@~-]+){2,}")

Steps = dict[str, dict[str, Any]]


def keep(figures: dict[str, Any], folder: Path = MEASURED) -> Path:
    """Add the steps of a run to the file of its GPU; ValueError if it was not run on one."""
    if figures.get("rehearsal"):
        raise ValueError("it is a rehearsal; nothing was measured")
    gpus = figures["steps"].get("machine", {}).get("figures", {}).get("gpus")
    if not gpus:
        raise ValueError("it does not name its GPU; run on-gpu with step machine too")
    path = folder / f"{re.sub(r'[^a-z0-9]+', '-', gpus[0]['name'].lower()).strip('-')}.json"
    kept: dict[str, Any] = {"gpu": gpus[0]["name"], "steps": {}}
    if path.exists():
        kept = json.loads(path.read_text(encoding="utf-8"))
    # A machine that got the files alone knows no commit; the sources that it measured tell.
    ran = figures["commit"] or (commit() if figures["sources"] == sources_digest() else "")
    for name, step in figures["steps"].items():
        if step["verdict"] != "SKIP":
            run = {"made": figures["made"], "commit": ran}
            kept["steps"][name] = {**run, **shorten_paths(step)}
    folder.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(kept, indent=1) + "\n", encoding="utf-8")
    return path


def shorten_paths(value: Any) -> Any:
    """Shorten absolute paths in all strings to their last name."""
    if isinstance(value, dict):
        return {key: shorten_paths(each) for key, each in value.items()}
    if isinstance(value, list):
        return [shorten_paths(each) for each in value]
    if isinstance(value, str):
        return ABSOLUTE.sub(lambda found: found[0].rpartition("/")[2], value)
    return value


def page(folder: Path = MEASURED) -> str:
    """Return the page of all GPUs that were measured."""
    found = [json.loads(path.read_text("utf-8")) for path in sorted(folder.glob("*.json"))]
    return HEAD + ("".join("".join(section(kept)) for kept in found) or NOTHING)


def section(kept: dict[str, Any]) -> Iterator[str]:
    """Yield the parts of the page about one model of GPU."""
    steps: Steps = kept["steps"]
    yield f"\n## {kept['gpu']}\n"
    machine = steps.get("machine", {}).get("figures", {})
    if machine:
        gpu, versions = machine["gpus"][0], machine["versions"]
        named = ", ".join(f"{name} {version}" for name, version in versions.items())
        yield (
            f"\n{gpu['memory.total']}, driver {gpu['driver_version']}, {machine['cores']} cores, "
            f"Python {machine['python']}; {named}.\n"
        )
    for title, header, rows in (
        ("Steps", ("step", "result", "commit", "found"), steps_rows(steps)),
        ("Ceilings", ("what", "reached"), ceiling_rows(steps)),
        ("Flow by the pairs in a call", ("pairs", "pairs/s", "share of peak"), batch_rows(steps)),
        ("Flow by algorithm", ("algorithm", "pairs/s", "reference / this",
                                                   "px from the reference"), flow_rows(steps)),
        ("Settings of the schedule", ("settings", "pairs together", "pairs/s"), tune_rows(steps)),
        ("Kernels of a call", ("kernel", "launches", "us a launch", "us a pair"),
         kernel_rows(steps)),
        ("Operations, ms a frame", ("operation", "GPU", "core", "times faster"),
         operation_rows(steps)),
        ("Extraction", ("step", "workers", "frames/s", "plan's frames/s",
                        *(f"{stage} busy" for stage in stages(steps)), "nvidia-smi: busy", "MiB"),
         extraction_rows(steps)),
        ("Training", ("step", "snippets/s", "waits for data", "loss", "GPU busy"),
         training_rows(steps)),
        ("Nsight Compute", ("kernel", "duration", "SM", "DRAM", "occupancy", "registers"),
         profile_rows(steps)),
    ):  # fmt: skip
        yield from table(title, header, rows)


def table(title: str, header: Iterable[str], rows: Iterable[Iterable[Any]]) -> Iterator[str]:
    """Yield a heading and a Markdown table; nothing where there are no rows."""
    lines = [[cell(value) for value in row] for row in rows]
    if not lines:
        return
    names = list(header)
    yield f"\n### {title}\n\n"
    for line in (names, ["---"] * len(names), *lines):
        yield f"| {' | '.join(line)} |\n"


def cell(value: Any) -> str:
    """Return a value as a cell: three significant digits; a dash if it is missing."""
    if value is None:
        return "-"
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"
    return str(value).replace("|", "\\|").replace("\n", " ")


def percent(share: float | None) -> str | None:
    """Return a share in percent."""
    return None if share is None else f"{100 * share:.3g} %"


def figures_of(steps: Steps, name: str) -> dict[str, Any]:
    """Return the figures of a step; empty where it has not run."""
    found: dict[str, Any] = steps.get(name, {}).get("figures", {})
    return found


def stages(steps: Steps) -> list[str]:
    """Return the stages of a worker, in their order, that any extraction has measured."""
    found = (stage for step in steps.values() for stage in step["figures"].get("busy", ()))
    return list(dict.fromkeys(found))


def steps_rows(steps: Steps) -> Iterator[tuple[Any, ...]]:
    for name, step in steps.items():
        yield name, step["verdict"], step["commit"] or None, step["words"]


def ceiling_rows(steps: Steps) -> Iterator[tuple[Any, ...]]:
    for name, value in figures_of(steps, "ceilings").items():
        what, _, unit = name.rpartition("_")
        yield what.replace("_", " "), f"{value:.4g} {unit}"


def batch_rows(steps: Steps) -> Iterator[tuple[Any, ...]]:
    for batch in figures_of(steps, "flow").get("batches", ()):
        yield batch["pairs"], batch["pairs_per_s"], percent(batch["share"])


def flow_rows(steps: Steps) -> Iterator[tuple[Any, ...]]:
    for row in figures_of(steps, "flow").get("rows", ()):
        if "pairs_per_s" in row:
            yield row["name"], row["pairs_per_s"], row["ratio"], row["difference_px"]


def tune_rows(steps: Steps) -> Iterator[tuple[Any, ...]]:
    for row in figures_of(steps, "tune").get("settings", ()):
        chosen = ", ".join(f"{name} {value}" for name, value in row["settings"].items())
        yield chosen, row.get("pairs_together"), row["pairs_per_s"]


def kernel_rows(steps: Steps) -> Iterator[tuple[Any, ...]]:
    for row in figures_of(steps, "kernels").get("kernels", ()):
        yield row["name"][:60], row["launches"], row["us_a_launch"], row["us_a_pair"]


def operation_rows(steps: Steps) -> Iterator[tuple[Any, ...]]:
    for name, ms in figures_of(steps, "operations").get("ms", {}).items():
        if len(ms) == 2:
            yield name, ms["cuda"], ms["cpu"], ms["cpu"] / ms["cuda"]


def extraction_rows(steps: Steps) -> Iterator[tuple[Any, ...]]:
    for name, step in steps.items():
        found = step["figures"]
        if found.get("frames_per_s") and "busy" in found:
            gpu = found.get("gpu", {})
            busy = (percent(found["busy"].get(stage)) for stage in stages(steps))
            yield (
                name, found["workers"], found["frames_per_s"], found.get("planned_frames_per_s"),
                *busy, percent(gpu["busy_%"] / 100) if "busy_%" in gpu else None,
                gpu.get("memory_MiB"),
            )  # fmt: skip


def training_rows(steps: Steps) -> Iterator[tuple[Any, ...]]:
    for name, step in steps.items():
        found = step["figures"]
        if "snippets_per_s" in found:
            busy = found.get("gpu", {}).get("busy_%")
            losses = f"{found['first_loss']:.3f} to {found['last_loss']:.3f}"
            yield (
                name, found["snippets_per_s"], percent(found["stall_share"]),
                f"{losses} in {found['epochs']} epochs",
                percent(busy / 100) if busy is not None else None,
            )  # fmt: skip


def profile_rows(steps: Steps) -> Iterator[tuple[Any, ...]]:
    for kernel, m in figures_of(steps, "profile").items():
        yield (
            kernel, f"{m['duration']:g} {m['duration_unit']}" if "duration" in m else None,
            m.get("sm_%"), m.get("dram_%"), m.get("occupancy_%"), m.get("registers"),
        )  # fmt: skip


def main() -> int:
    """Keep the named runs and write the page; return the exit code."""
    parser = argparse.ArgumentParser(prog="page.py", description=__doc__.partition("\n")[0])
    parser.add_argument("figures", nargs="*", type=Path, metavar="FIGURES.JSON")
    for path in parser.parse_args().figures:
        try:
            print(f"kept in {keep(json.loads(path.read_text(encoding='utf-8')))}")
        except ValueError as error:
            print(f"page: {path} is not kept: {error}", file=sys.stderr)
            return 2
    PAGE.write_text(page(), encoding="utf-8")
    print(f"written: {PAGE}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
