"""The help of every command: an example that its own options allow, and sentences that end."""

from __future__ import annotations

import re
import shlex

import click
import pytest

from flowpipe.cli import cli


def leaves(command: click.Command, name: str = "") -> list[tuple[str, click.Command]]:
    if not isinstance(command, click.Group):
        return [(name, command)]
    context = click.Context(command)
    found = []
    for each in command.list_commands(context):
        below = command.get_command(context, each)
        assert below is not None
        found += leaves(below, f"{name} {each}".strip())
    return found


@pytest.fixture(scope="module")
def commands() -> dict[str, click.Command]:
    return dict(leaves(cli))


def examples(text: str) -> list[str]:
    """Lines of a help text, which its \\b keeps apart, that run flowpipe."""
    lines = [line.strip() for line in text.splitlines()]
    return [
        line for line in lines if re.match(r"(torchrun .* -m )?flowpipe |cp \$\(flowpipe ", line)
    ]


def test_every_command_has_an_example(commands: dict[str, click.Command]) -> None:
    assert len(commands) > 20
    for name, command in commands.items():
        shown = examples(command.help or "")
        own = [line for line in shown if f"flowpipe {name}" in line]
        assert own, name


def test_examples_use_options_that_exist(commands: dict[str, click.Command]) -> None:
    for name, command in commands.items():
        for line in examples(command.help or ""):
            words = shlex.split(re.sub(r"[()$]", " ", line))
            words = words[words.index("flowpipe") + 1 :]
            shown = next(path for path in (" ".join(words[:2]), words[0]) if path in commands)
            known = {opt for one in commands[shown].params for opt in one.opts}
            given = {word.partition("=")[0] for word in words if re.match(r"--?[a-z]", word)}
            assert given <= known, f"{name}: {line}: {given - known}"


def test_sentences_of_help_end(commands: dict[str, click.Command]) -> None:
    """Each summary and the help of each option is a sentence that begins with a capital."""
    for name, command in commands.items():
        first = (command.help or "").strip().splitlines()[0]
        assert first[0].isupper(), name
        for option in command.params:
            if isinstance(option, click.Option):
                text = (option.help or "").partition("  [default")[0].strip()
                assert text, (name, option.name)
                assert text.endswith("."), (name, option.name, text)
                assert text[0].isupper() or re.match(r"[a-z_]+:|tIoU ", text), (
                    name,
                    option.name,
                    text,
                )
