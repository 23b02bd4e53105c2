"""Command line -> library calls: one file per command, listed in the order of the work."""

from __future__ import annotations

import importlib
import keyword
import sys
import traceback
import warnings
from typing import Any

import click

from flowpipe.distribution import ROOT, replace_command

try:
    from flowpipe import __version__
    from flowpipe.cli.logs import CommandLog, add_log_options, log_command
    from flowpipe.cli.screen import say, show_warning, write_line
    from flowpipe.diagnose.libraries import find_broken_libraries
    from flowpipe.errors import (
        BackendError,
        DecodeError,
        FlowpipeError,
        RemoteError,
        is_storage_failure,
    )
    from flowpipe.words import unknown_name
except ImportError as error:  # another distribution has overwritten these files
    sys.exit(
        f"flowpipe: files of another project's package lie in {ROOT / 'flowpipe'} ({error}): "
        f"{replace_command('flowpipe')}"
    )

COMMANDS = {
    "extract": "Extract frames and flow of a data set or of your own videos.",
    "plan": "Estimate time and disk space of `extract` with the same options.",
    "verify": "Check every checksum, count and offset of a store; repair it.",
    "info": "Describe a store, one video of it, or a run.",
    "show": "Draw a contact sheet of one video of a store.",
    "train": "Train a temporal segment network on a store.",
    "adopt": "Turn weights of tsn-pytorch, mmaction2 or Caffe-TSN into a run.",
    "weights": "Write the weights of a run for tsn-pytorch or mmaction2.",
    "test": "Score the test videos of a store with a trained network.",
    "fuse": "Fuse the scores of several streams; print the accuracy table.",
    "predict": "Classify a video file with trained networks.",
    "draw": "Draw what a trained network looks for in a class.",
    "features": "Compute features and scores along videos, for temporal localisation.",
    "localise": "Find the time intervals of actions in the videos of a features file.",
    "evaluate": "Compare scores or detections of any model with the labels in a store.",
    "export": "Export a store, or features, to the files of other tools.",
    "import": "Make a store from frame folders or tars.",
    "recipe": "List, show and check recipes.",
    "flow": "Compute the flow of two images, or of two frames of a video.",
    "cluster": "Print Slurm job scripts; write settings and TLS keys of a Dask cluster.",
    "doctor": "Report what this machine has and what each missing part costs.",
    "selftest": "Compare every operation of a device with the CPU's.",
    "bench": "Measure the speed of optical flow on this machine.",
}
"""Summary of each command in `--help`, in the order of the work."""

EXIT_DONE, EXIT_SOME_FAILED, EXIT_WRONG_USE, EXIT_BUG, EXIT_INTERRUPTED = 0, 1, 2, 70, 130
_OF_THE_RUN = {
    "recipe", "usage", "backend", "format", "dataset", "disk_full", "unwritable", "unreachable",
}  # fmt: skip
"""Reason codes of errors that concern the whole run, not one video."""


class Group(click.Group):
    """A group of commands that suggests the nearest name for an unknown one."""

    def resolve_command(
        self, context: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        name = args[0]
        if not name.startswith("-") and self.get_command(context, name) is None:
            context.fail(unknown_name("command", name, self.list_commands(context)))
        return super().resolve_command(context, args)

    def get_command(self, context: click.Context, name: str) -> click.Command | None:
        command = super().get_command(context, name)
        return command and add_log_options(command)


class Commands(Group):
    """A group that imports a command's module on first use: `--help` needs neither cv2 nor Dask."""

    def list_commands(self, context: click.Context) -> list[str]:
        return list(COMMANDS)

    def format_commands(self, context: click.Context, formatter: click.HelpFormatter) -> None:
        # click's own would load every command to ask it for its help
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))

    def get_command(self, context: click.Context, name: str) -> click.Command | None:
        if name not in COMMANDS:
            return None
        own = f"{name}_" if keyword.iskeyword(name) else name  # as import
        try:
            module = importlib.import_module(f"flowpipe.cli.{own}")
        except Exception as error:  # a broken library can raise anything
            if not (words := _broken()):
                raise
            raise BackendError(words) from error
        command: click.Command = getattr(module, own)
        return add_log_options(command)


def _broken(needed: str | None = None) -> str:
    """Describe what is wrong with the required libraries, or with the one that is `needed`.

    The text is empty if nothing is wrong.
    """
    faults = find_broken_libraries()
    faults = [fault for fault in faults if fault.topic == needed] or faults
    return "; ".join(f"{fault.topic} {fault.found}: {fault.cost}" for fault in faults)


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="flowpipe")
def cli() -> None:
    """Extract RGB, TV-L1 flow and warped flow of videos into an HDF5 store, and train on it."""


add_log_options(cli)


def main(arguments: list[str] | None = None) -> Any:
    """Run the ``flowpipe`` command.

    Exit codes: 0 all done, 130 interrupted, 70 a bug of flowpipe; see `exit_code` for the others.
    """
    warnings.showwarning = show_warning
    with log_command(sys.argv[1:] if arguments is None else arguments) as log:
        code = _run(arguments, log)
    sys.exit(code or EXIT_DONE)


def _run(arguments: list[str] | None, log: CommandLog) -> Any:
    """Run a command and say what ended it; return its exit code."""
    try:
        code = cli.main(arguments, standalone_mode=False, obj=log)
    except click.exceptions.Abort:
        say("flowpipe: interrupted")
        code = EXIT_INTERRUPTED
    except click.exceptions.NoArgsIsHelpError as error:
        write_line(error.format_message(), err=True)
        code = EXIT_WRONG_USE
    except click.ClickException as error:
        say(f"flowpipe: {_describe(error)}", "bold red")
        if isinstance(error, click.UsageError) and error.ctx is not None:
            say(f"see {error.ctx.command_path} --help")
        code = EXIT_WRONG_USE
    except FlowpipeError as error:
        say(f"flowpipe: {error}", "bold red")
        code = exit_code(error)
    except KeyboardInterrupt:
        say("flowpipe: interrupted")
        code = EXIT_INTERRUPTED
    except Exception as error:
        if isinstance(error, ImportError) and (words := _broken(error.name)):  # loaded late
            say(f"flowpipe: {words}", "bold red")
            code = EXIT_WRONG_USE
        elif isinstance(error, PermissionError) and error.filename:
            say(
                f"flowpipe: {error.filename}: {error.strerror}; choose another place, or change "
                "its permissions",
                "bold red",
            )
            code = EXIT_WRONG_USE
        elif is_storage_failure(error):
            say(f"flowpipe: the storage failed: {error}; run the same command again", "bold red")
            code = EXIT_WRONG_USE
        else:
            say(traceback.format_exc().rstrip())
            say("flowpipe: unexpected error, a bug of flowpipe; finished work is kept", "bold red")
            code = EXIT_BUG
    return code


def _describe(error: click.ClickException) -> str:
    """Return a message of click in the style of flowpipe's own: lower case, no full stop."""
    if isinstance(error, click.NoSuchOption) and error.ctx is not None:
        known = [name for option in error.ctx.command.get_params(error.ctx) for name in option.opts]
        return unknown_name("option", error.option_name, [k for k in known if k[:2] == "--"])
    text = error.format_message()
    return f"{text[:1].lower()}{text[1:].removesuffix('.')}"


def exit_code(error: FlowpipeError) -> int:
    """Return the exit code of a command that an error ends.

    The code is 1 if one video or image is at fault: it cannot be decoded, or ``--on-error fail``
    stopped the run. The code is 2 for errors that would stop every video: wrong options, recipes,
    lists or data sets, an unreachable address, a missing backend, a damaged or incompatible store,
    a disk that is full or not writable.
    """
    of_a_video = isinstance(error, DecodeError) and not isinstance(error, RemoteError)
    plain = type(error) is FlowpipeError and error.reason not in _OF_THE_RUN
    return EXIT_SOME_FAILED if of_a_video or plain else EXIT_WRONG_USE
