"""`flowpipe draw`: trained runs + classes -> images that the networks take for the classes."""

from __future__ import annotations

from pathlib import Path

import click

from flowpipe.cli.choices import Choice
from flowpipe.cli.folders import RUN
from flowpipe.cli.paths import FILE
from flowpipe.cli.screen import count_progress, print_table, say
from flowpipe.cli.store_options import check_output
from flowpipe.cli.test_options import CHECKPOINT_OPTION
from flowpipe.cli.torch_needed import torch_or_why
from flowpipe.errors import UsageError
from flowpipe.report import Drawing, drawings_page, save_gif, save_png, strips_of
from flowpipe.words import unknown_name

_BOUND = 20.0
"""Flow bound of imported stores, which do not record theirs, pixels."""


@click.command()
@click.argument("runs", nargs=-1, required=True, metavar="RUN...", type=RUN)
@click.option("--class", "names", multiple=True, required=True, metavar="NAME",
              help="Class to draw; repeat it for more.")  # fmt: skip
@click.option("-o", "--output", required=True, type=FILE,
              help="File to write: .png, or .gif for an animation of flow or differences.",
              )  # fmt: skip
@click.option("--seed", type=int, default=0, show_default=True,
              help="Seed of the noise that the drawing begins with.")  # fmt: skip
@click.option("--start", type=click.IntRange(0, 255), metavar="LEVEL",
              help="Mean byte of that noise; 128 is no motion.  [default: 200, as DeepDraw; "
                   "128 for rgb_diff]")  # fmt: skip
@CHECKPOINT_OPTION
@click.option("--device", type=Choice(["auto", "cpu", "cuda"]), default="auto",
              show_default=True, help="Device that computes; auto uses a GPU if there is one.",
              )  # fmt: skip
def draw(
    runs: tuple[Path, ...],
    names: tuple[str, ...],
    output: Path,
    seed: int,
    start: int | None,
    checkpoint: str,
    device: str,
) -> None:
    """Draw what the networks of one or more RUNs look for in a class (DeepDraw).

    \b
    flowpipe draw runs/rgb --class PoleVault -o pole-vault.png
    flowpipe draw runs/flow --class Fencing --class Archery -o flow.gif

    Noise is changed by gradient ascent until the network gives the class a high score. Flow is
    drawn in colours (hue is direction) and as gray images of x and y. The page has a row for each
    class and a column for each run.
    """
    torch_or_why()
    check_output(output, ".png", ".gif")
    from flowpipe.tsn.device import choose_device
    from flowpipe.tsn.testing.class_images import OCTAVES, draw_class
    from flowpipe.tsn.testing.scorer import SnippetScorer

    chosen = choose_device(device)
    networks = [SnippetScorer(run, checkpoint, chosen) for run in runs]
    is_gif = output.suffix.lower() == ".gif"
    if is_gif and all(network.input.length == 1 for network in networks):
        raise UsageError(
            f"-o {output}: an animation needs snippets of several images, and those of "
            f"{', '.join(map(str, runs))} have one; choose a name that ends in .png"
        )
    for run, network in zip(runs, networks, strict=True):
        for name in names:
            if name not in network.facts.class_names:
                known = unknown_name("class", name, network.facts.class_names)
                raise UsageError(f"{run}: {known}")
    rows: list[list[Drawing]] = []
    said = []
    steps, done = sum(octave.steps for octave in OCTAVES), 0
    with count_progress("steps of gradient ascent") as progress:

        def count() -> None:
            nonlocal done
            done += 1
            progress(done, steps * len(names) * len(networks))

        for name in names:
            rows.append([])
            for run, network in zip(runs, networks, strict=True):
                facts = network.facts
                label = facts.class_names.index(name)
                image = draw_class(network, label, seed=seed, start=start, progress=count)
                is_wrong = image.predicted != label
                note = f"{facts.modality}, probability {image.probability:.3f}"
                if is_wrong:
                    note += f", taken for {facts.class_names[image.predicted]}"
                bound = float(facts.extraction.get("bound", _BOUND))
                strips = strips_of(facts.modality, image.planes, bound)
                rows[-1].append(Drawing(name, run.name, note, is_wrong, strips))
                said.append((name, str(run), facts.modality, f"{image.probability:.3f}",
                             facts.class_names[image.predicted]))  # fmt: skip
    if is_gif:
        save_gif(output, rows)
    else:
        save_png(output, drawings_page(rows))
    print_table(said, header=("class", "run", "modality", "probability", "predicted"))
    say(f"wrote {output}")
