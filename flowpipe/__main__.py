"""`python -m flowpipe`: the same as the `flowpipe` command."""

from flowpipe.cli import main

if __name__ == "__main__":
    main()
