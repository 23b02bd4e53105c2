"""Run `flowpipe ...` in this process, with additions that it has no option for.

    python benchmarks/gpu/hand_over.py torch|plain COMMAND ...

``torch`` prints at the end what PyTorch held on the GPU. ``plain`` takes every array from the
driver instead of from CuPy's memory pool: inside a pool, compute-sanitizer does not notice a kernel
that leaves its array.
"""

from __future__ import annotations

import atexit
import sys


def print_held() -> None:
    """Print the peak memory of tensors."""
    import torch

    if torch.cuda.is_available():
        most = torch.cuda.max_memory_allocated() / 2**20
        print(f"torch held at most {most:.0f} MiB on {torch.cuda.get_device_name(0)}", flush=True)


def main() -> None:
    """Prepare the process and run the command."""
    what, *command = sys.argv[1:]
    if what == "torch":
        atexit.register(print_held)
    elif what == "plain":
        import cupy

        if cupy.__version__ != "stand-in":  # which has no pool
            cupy.cuda.set_allocator(cupy.cuda.memory.alloc)
    else:
        sys.exit(f"hand_over.py: {what!r} is neither torch nor plain")
    from flowpipe.cli import main as flowpipe

    sys.argv = ["flowpipe", *command]
    flowpipe(command)  # which exits


if __name__ == "__main__":
    main()
