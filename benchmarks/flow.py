"""Real clips -> CPU milliseconds per 340x256 pair, for every flow this machine can run.

    python benchmarks/flow.py [--clips FOLDER] [--pairs 12] [--repeat 5]

`flowpipe bench flow` on the shared clips; see there for the method.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from flowpipe.cli import main as flowpipe

SHARED = Path(os.environ.get("FLOWPIPE_SHARED_DATA", "../shared/data"))


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--clips", type=Path, default=SHARED / "clips" / "ucf101")
    parser.add_argument("--pairs", type=int, default=12)
    parser.add_argument("--repeat", type=int, default=5)
    options = parser.parse_args()
    flowpipe(
        ["bench", "flow", str(options.clips), "--pairs", str(options.pairs),
         "--repeat", str(options.repeat)]
    )  # fmt: skip


if __name__ == "__main__":
    main()
