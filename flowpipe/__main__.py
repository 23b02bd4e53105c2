"""`python -m flowpipe`: the same as the `flowpipe` command."""

if __name__ == "__main__":  # workers load this file too, and need no command line
    from flowpipe.cli import main

    main()
