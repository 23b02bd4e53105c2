"""`flowpipe doctor`: this machine -> what flowpipe can use, and what each missing part costs."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import click

from flowpipe.cli import EXIT_DONE, EXIT_SOME_FAILED
from flowpipe.cli.paths import FOLDER
from flowpipe.cli.screen import print_table, write_json
from flowpipe.diagnose.libraries import find_broken_libraries, find_owner


@click.command()
@click.option("--out", type=FOLDER, default=Path(), help="Folder to report the free disk of.")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON list.")
def doctor(out: Path, as_json: bool) -> int:
    """Report what this machine has and what each missing part costs.

    \b
    flowpipe doctor --out /scratch

    Exit code: 0 if the required parts work, 1 if one is broken.
    """
    findings = find_broken_libraries()
    if findings:  # the rest of flowpipe cannot be imported then
        findings.insert(0, find_owner())
    else:
        from flowpipe.diagnose.machine import examine

        findings = examine(out)
    if as_json:
        write_json([asdict(finding) for finding in findings])
    else:
        print_table(
            ((f.state, f.topic, f.found, f.cost) for f in findings),
            header=("", "what", "found", "what it costs, what to do"),
        )
    faults = any(finding.state == "fault" for finding in findings)
    return EXIT_SOME_FAILED if faults else EXIT_DONE
