"""`flowpipe flow`: two images, or two frames of a video -> their flow as .flo, .npy or .png."""

from __future__ import annotations

import io
import math
import time
from pathlib import Path

import click
import numpy as np
from numpy.typing import NDArray

from flowpipe.atomic import write_atomic
from flowpipe.cli.choices import Choice
from flowpipe.cli.numbers import Number
from flowpipe.cli.paths import FILE, FILE_THERE
from flowpipe.cli.screen import write_line
from flowpipe.cli.sizes import LARGEST_SIDE_PX, width_and_height
from flowpipe.cli.store_options import check_output
from flowpipe.errors import UsageError
from flowpipe.flow import FLOWS
from flowpipe.flow.flo import write_flo
from flowpipe.flow.pair import pair_flow, pair_params
from flowpipe.flow.tvl1 import VARIANTS, TVL1Params
from flowpipe.ops import DEVICES, Ops, get_ops
from flowpipe.params import override
from flowpipe.report import flow_colours, save_png
from flowpipe.video.stills import read_image, read_pair

SUFFIXES = (".flo", ".npy", ".png")

IMAGE = FILE_THERE


@click.command()
@click.argument("first", type=IMAGE)
@click.argument("second", type=IMAGE, required=False)
@click.option("-o", "--output", required=True, metavar="OUT",
              type=FILE,
              help="File to write: .flo, .npy or .png.")  # fmt: skip
@click.option("--frame", type=click.IntRange(0), metavar="K",
              help="Use frames K and K + 1 of the video FIRST, counted from 0.")  # fmt: skip
@click.option("--flow", "algorithm", type=Choice(list(FLOWS)), default=TVL1Params.name,
              show_default=True, help="Flow algorithm.")  # fmt: skip
@click.option("--variant", type=Choice(list(VARIANTS)),
              help=f"Published TV-L1 code to follow.  [default: {TVL1Params.variant}]")  # fmt: skip
@click.option("--set", "settings", multiple=True, metavar="KEY=VALUE",
              help="Change one parameter of the algorithm, such as --set warps=3.")  # fmt: skip
@click.option("--device", type=Choice(DEVICES), default="cpu", show_default=True,
              help="Device that computes.")  # fmt: skip
@click.option("--size", metavar="WxH", help="Resize the images first.  [default: keep sizes]")
@click.option("--bound", type=Number(0, min_open=True), metavar="PIXELS",
              help="Flow shown in full colour in a .png.  [default: the largest]")  # fmt: skip
def flow(
    first: Path,
    second: Path | None,
    output: Path,
    frame: int | None,
    algorithm: str,
    variant: str | None,
    settings: tuple[str, ...],
    device: str,
    size: str | None,
    bound: float | None,
) -> None:
    """Compute the flow from image FIRST to image SECOND, or between two frames of video FIRST.

    \b
    flowpipe flow a.png b.png -o flow.flo
    flowpipe flow clip.mp4 --frame 10 -o flow.png

    A .flo has Middlebury's format; a .npy holds float32 (H, W, 2). Both are in pixels, u right and
    v down. A .png shows direction as hue and speed as saturation.
    """
    _check_output(output, (first, second), bound)
    shorthand = (f"variant={variant}",) if variant else ()
    try:
        params = pair_params(algorithm, override({}, [*shorthand, *settings]))
    except ValueError as error:
        raise UsageError(str(error)) from None
    ops = get_ops(device)
    i0, i1 = _resized(_pair(first, second, frame), size, ops)
    began = time.process_time()
    uv = pair_flow(i0, i1, params, ops)
    cpu_ms = 1000 * (time.process_time() - began)
    speed = np.hypot(uv[..., 0], uv[..., 1])
    shown = _write(output, uv, bound or float(speed.max()) or 1.0)
    height, width = speed.shape
    name = " ".join(filter(None, (params.name, getattr(params, "variant", ""))))
    where = FLOWS[algorithm].ran_on(ops)
    write_line(
        f"{width}x{height}, {name} on {where}: median {np.median(speed):.3f} px, largest "
        f"{speed.max():.3f} px, {cpu_ms:.1f} ms of CPU; wrote {output}{shown}"
    )


def _check_output(output: Path, inputs: tuple[Path | None, ...], bound: float | None) -> None:
    check_output(output, *SUFFIXES)
    if any(path and output.resolve() == path.resolve() for path in inputs):
        raise UsageError(f"-o {output}: this is an input file; choose another name")
    if bound and output.suffix.lower() != ".png":
        raise UsageError(f"--bound belongs to a .png; leave it out for {output.name}")
    if bound and not math.isfinite(bound):
        raise UsageError(f"--bound must be a finite number of pixels, got {bound}")


def _pair(first: Path, second: Path | None, frame: int | None) -> list[NDArray[np.uint8]]:
    """Read the two RGB images, (H, W, 3), at their own sizes."""
    if frame is None:
        if second is None:
            raise UsageError(
                f"give two images, FIRST and SECOND, or one video with --frame K; got only {first}"
            )
        return [read_image(first), read_image(second)]
    if second is not None:
        raise UsageError(f"--frame takes both frames from the video {first}; leave {second} out")
    return read_pair(first, frame)


def _resized(
    images: list[NDArray[np.uint8]], size: str | None, ops: Ops
) -> list[NDArray[np.uint8]]:
    if size:
        width, height = width_and_height(size, 1, LARGEST_SIDE_PX)
        return [ops.resize(image[None], height, width)[0] for image in images]
    sizes = [f"{image.shape[1]}x{image.shape[0]}" for image in images]
    if sizes[0] != sizes[1]:
        raise UsageError(
            f"wanted two images of one size, got {' and '.join(sizes)}; --size WxH resizes both"
        )
    return images


def _write(output: Path, uv: NDArray[np.float32], bound: float) -> str:
    """Write the flow in the format of the suffix; return text to append to the report."""
    suffix = output.suffix.lower()
    if suffix == ".png":
        save_png(output, flow_colours(uv.transpose(2, 0, 1), bound))
        faster = ", darker beyond" if np.hypot(uv[..., 0], uv[..., 1]).max() > bound else ""
        return f", full colour at {bound:.3f} px{faster}"
    if suffix == ".flo":
        write_flo(output, uv)
    else:
        content = io.BytesIO()
        np.save(content, uv)
        write_atomic(output, content.getvalue(), "flow")
    return ""
