"""`flowpipe flow`: two images, two frames of a video, or a .flo -> flow as .flo, .npy or .png."""

from __future__ import annotations

import io
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
from flowpipe.cli.store_options import check_output
from flowpipe.errors import UsageError
from flowpipe.experimental import describe_experimental
from flowpipe.flow import FLOWS
from flowpipe.flow.flo import read_flo, write_flo
from flowpipe.flow.pair import pair_flow, pair_params
from flowpipe.flow.tvl1 import VARIANTS, TVL1Params
from flowpipe.ops import DEVICES, Ops, get_ops
from flowpipe.params import override
from flowpipe.report import flow_colours, save_png
from flowpipe.report.colours import UNKNOWN_PX
from flowpipe.sizes import LARGEST_SIDE_PX, width_and_height
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
              show_default=True,
              help=f"Flow algorithm. {describe_experimental('opencv_cuda_*')}")  # fmt: skip
@click.option("--variant", type=Choice(list(VARIANTS)),
              help=f"Published TV-L1 code to follow.  [default: {TVL1Params.variant}]")  # fmt: skip
@click.option("--set", "settings", multiple=True, metavar="KEY=VALUE",
              help="Change one parameter of the algorithm, such as --set warps=3.")  # fmt: skip
@click.option("--device", type=Choice(DEVICES), default="cpu", show_default=True,
              help=f"Device that computes. {describe_experimental('cuda')}")  # fmt: skip
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

    If FIRST is a .flo file, its flow is drawn or converted.

    \b
    flowpipe flow a.png b.png -o flow.flo
    flowpipe flow clip.mp4 --frame 10 -o flow.png
    flowpipe flow flow.flo -o flow.png

    A .flo has Middlebury's format; a .npy holds float32 (H, W, 2). Both are in pixels, u right and
    v down. A .png shows direction as hue and speed as saturation.
    """
    _check_output(output, (first, second), bound)
    if first.suffix.lower() == ".flo":
        if second or frame is not None or variant or settings or size:
            raise UsageError(f"{first} is a flow already; give it and -o alone, or --bound")
        uv = read_flo(first)
        write_line(f"{_describe(uv)}; wrote {output}{_write(output, uv, bound)}")
        return
    shorthand = (f"variant={variant}",) if variant else ()
    try:
        params = pair_params(algorithm, override({}, [*shorthand, *settings]))
    except ValueError as error:
        raise UsageError(str(error)) from None
    ops = get_ops(device)
    i0, i1 = _resize(_pair(first, second, frame), size, ops)
    began = time.process_time()
    uv = pair_flow(i0, i1, params, ops)
    cpu_ms = 1000 * (time.process_time() - began)
    shown = _write(output, uv, bound)
    name = " ".join(filter(None, (params.name, getattr(params, "variant", ""))))
    where = FLOWS[algorithm].ran_on(ops)
    write_line(
        f"{_describe(uv, f', {name} on {where}')}, {cpu_ms:.1f} ms of CPU; wrote {output}{shown}"
    )


def _speed(uv: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the lengths of the known displacements, pixels; one zero if there are none."""
    speed = np.hypot(uv[..., 0], uv[..., 1])
    known = speed[np.abs(uv).max(axis=-1) < UNKNOWN_PX]
    return known if known.size else np.zeros(1, np.float32)


def _describe(uv: NDArray[np.float32], by: str = "") -> str:
    height, width = uv.shape[:2]
    speed = _speed(uv)
    return f"{width}x{height}{by}: median {np.median(speed):.3f} px, largest {speed.max():.3f} px"


def _check_output(output: Path, inputs: tuple[Path | None, ...], bound: float | None) -> None:
    check_output(output, *SUFFIXES, inputs=[path for path in inputs if path])
    if bound and output.suffix.lower() != ".png":
        raise UsageError(f"--bound belongs to a .png; leave it out for {output.name}")


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


def _resize(images: list[NDArray[np.uint8]], size: str | None, ops: Ops) -> list[NDArray[np.uint8]]:
    if size:
        width, height = width_and_height(size, 1, LARGEST_SIDE_PX)
        return [ops.resize(image[None], height, width)[0] for image in images]
    sizes = [f"{image.shape[1]}x{image.shape[0]}" for image in images]
    if sizes[0] != sizes[1]:
        raise UsageError(
            f"wanted two images of one size, got {' and '.join(sizes)}; --size WxH resizes both"
        )
    return images


def _write(output: Path, uv: NDArray[np.float32], bound: float | None) -> str:
    """Write the flow in the format of the suffix; return text to append to the report."""
    suffix = output.suffix.lower()
    if suffix == ".png":
        largest = float(_speed(uv).max())
        bound = bound or largest or 1.0
        save_png(output, flow_colours(uv.transpose(2, 0, 1), bound))
        faster = ", darker beyond" if largest > bound else ""
        return f", full colour at {bound:.3f} px{faster}"
    if suffix == ".flo":
        write_flo(output, uv)
    else:
        content = io.BytesIO()
        np.save(content, uv)
        write_atomic(output, content.getvalue(), "flow")
    return ""
