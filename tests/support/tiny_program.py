"""A `flowpipe` that knows the tiny networks, run as a program with tests/support on its path."""

from __future__ import annotations

import os
import sys

from flowpipe.cli import main

if "RANK" in os.environ or "--devices" not in sys.argv:  # else it starts others and needs no torch
    import tiny

    tiny.register()
sys.exit(main(sys.argv[1:]))
