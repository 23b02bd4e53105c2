"""A `flowpipe` that knows the tiny networks, run as a program with tests/support on its path."""

from __future__ import annotations

import os
import sys
from unittest.mock import MagicMock

from flowpipe.cli import main

if "RANK" in os.environ or "--devices" not in sys.argv:  # else it starts others and needs no torch
    import tiny

    tiny.register()
    # The first step of an optimiser loads torch's compiler even where nothing is compiled: two
    # seconds of a core in each process. Trainings in pytest's process and those of programs in
    # test_resume.py and test_gpus.py load it.
    sys.modules["torch._dynamo"] = MagicMock(disable=lambda function, *rest, **options: function)
sys.exit(main(sys.argv[1:]))
