"""`flowpipe predict --live`: frames of a camera, stream or file -> classes as they happen."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import cv2
import numpy as np
from numpy.typing import NDArray

from flowpipe.cli.choices import Choice
from flowpipe.cli.numbers import Number
from flowpipe.cli.paths import FILE
from flowpipe.cli.screen import say, write_json, write_line
from flowpipe.cli.store_options import chain, check_output
from flowpipe.cli.test_options import test_params
from flowpipe.errors import UsageError
from flowpipe.extraction.recipe import ExtractRecipe
from flowpipe.ops import get_ops
from flowpipe.prefetch import prefetch
from flowpipe.report import draw_caption
from flowpipe.video.live import LiveFrame, is_stream, live_frames
from flowpipe.video.writer import VideoWriter
from flowpipe.words import count_noun

if TYPE_CHECKING:
    from flowpipe.tsn.testing.live import LiveClassifier, LivePrediction

_RATE_HZ, _WINDOW_S = 2.0, 4.0
_SUFFIXES = (".mp4", ".mkv", ".mov")
_MOST_WINDOW_S = 86400
"""Longest window, seconds."""
_AHEAD = 8
"""Frames that are decoded ahead."""

live_options = chain(
    click.option("--live", is_flag=True,
                 help="Classify while frames come, without a store. VIDEO is a camera (0), the "
                      "address of a stream, or a file."),
    click.option("--window", "window_s", type=Number(0, _MOST_WINDOW_S, min_open=True),
                 metavar="SECONDS",
                 help=f"Seconds that a prediction of --live covers.  [default: {_WINDOW_S:g}]"),
    click.option("--show", is_flag=True,
                 help="Show the frames of --live with their classes in a window; q ends."),
    click.option("--amp", type=Choice(["off", "bf16", "fp16"]), default="off", show_default=True,
                 help="Automatic mixed precision of --live."),
    click.option("--compile", "compiled", is_flag=True,
                 help="Compile the networks of --live with torch.compile, which needs a C++ "
                      "compiler; the first snippets take a minute."),
    click.option("-o", "--output", type=FILE,
                 help="Video file (.mp4, .mkv, .mov) for the frames of --live with their classes."),
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class LiveOptions:
    """Options of `flowpipe predict --live`."""

    window_s: float | None
    show: bool
    output: Path | None
    amp: str
    compiled: bool
    top: int
    least: float
    as_json: bool

    def check_unused(self) -> None:
        """Raise UsageError if an option of --live is given without it."""
        given = {
            "--window": self.window_s, "--show": self.show, "-o": self.output,
            "--amp": self.amp != "off", "--compile": self.compiled,
        }  # fmt: skip
        unused = [name for name, value in given.items() if value]
        if unused:
            raise UsageError(f"{', '.join(unused)}: only with --live")


def predict_live(
    source: str,
    recipe: ExtractRecipe,
    runs: tuple[Path, ...],
    weights: list[float],
    *,
    checkpoint: str,
    device: str,
    options: LiveOptions,
    changed: dict[str, Any],
) -> None:
    """Classify a source until it ends, or Ctrl-C or q is pressed."""
    from flowpipe.tsn.device import choose_device, keep_freed_memory
    from flowpipe.tsn.testing.live import LiveClassifier
    from flowpipe.tsn.testing.scorer import SnippetScorer

    for name in ("protocol", "snippets"):
        if changed.get(name) is not None:
            raise UsageError(f"--{name} has no effect on --live; choose --window and --rate")
    rate_hz = changed.pop("rate_hz", None) or _RATE_HZ
    if options.output is not None:
        check_output(options.output, *_SUFFIXES, inputs=[Path(source)])
    chosen = choose_device(device)
    if chosen == "cpu":
        keep_freed_memory()
    networks = [SnippetScorer(run, checkpoint, chosen, options.amp) for run in runs]
    if options.compiled:
        for network in networks:
            network.compile()
    changed["crops"] = changed.get("crops") or "1"
    params = test_params(networks[0].facts.test, **changed)
    classifier = LiveClassifier(
        networks, weights, rate_hz=rate_hz, window_s=options.window_s or _WINDOW_S, params=params
    )
    session = _Session(classifier, recipe, options)
    try:
        session.run(source)
    except KeyboardInterrupt:
        say("stopped")
    session.summarise(not is_stream(source))


class _Session:
    """One source, from its first frame to its last."""

    def __init__(
        self, classifier: LiveClassifier, recipe: ExtractRecipe, options: LiveOptions
    ) -> None:
        self._classifier, self._recipe, self._options = classifier, recipe, options
        self._ops = get_ops()
        self._frames = self._dropped = 0
        self._began = time.perf_counter()
        self._times_s: list[float] = []  # of the first and the last frame
        self._seconds = {"decode": 0.0, "resize": 0.0}
        self._now: LivePrediction | None = None
        self._said = ""

    def run(self, source: str) -> None:
        with ExitStack() as stack:
            writer = None
            if self._options.output is not None:
                writer = stack.enter_context(VideoWriter(self._options.output))
            if self._options.show:
                stack.enter_context(_Window(source))
            for frame in prefetch(self._measure(live_frames(source, self._recipe.video)), _AHEAD):
                self._add(frame)
                if writer is not None or self._options.show:
                    began = time.perf_counter()
                    picture = draw_caption(frame.pixels, self._lines())
                    if writer is not None:
                        writer.add(picture, frame.time_s - self._times_s[0])
                    if self._options.show and not _show(source, picture):
                        return
                    self._count("draw", began)
        for prediction in self._classifier.end():
            self._tell(prediction)
        if self._frames and self._now is None:
            frames = count_noun(self._frames, "frame")
            raise UsageError(
                f"{source}: too few frames for a snippet ({frames}); nothing to classify"
            )

    def summarise(self, is_file: bool) -> None:
        """Print the speed by stage."""
        took = time.perf_counter() - self._began
        if not self._frames:
            raise UsageError("the source has no frame")
        rate = self._frames / took
        lasted = self._times_s[-1] - self._times_s[0]
        speed = f", {lasted / took:.1f} times real time" if is_file and lasted else ""
        seconds = self._seconds | self._classifier.seconds
        if not is_file:
            del seconds["decode"]  # it includes waiting for the next frame
        stages = ", ".join(f"{k} {1e3 * v / self._frames:.1f}" for k, v in seconds.items())
        dropped = f"; {count_noun(self._dropped, 'frame')} dropped" if self._dropped else ""
        say(
            f"{count_noun(self._frames, 'frame')} in {took:.1f} s: {rate:.1f} frames/s{speed}; "
            f"ms per frame: {stages}{dropped}"
        )

    def _add(self, frame: LiveFrame) -> None:
        began = time.perf_counter()
        if frame.dropped:
            self._dropped += frame.dropped
            self._classifier.restart()
        size = self._recipe.size.target(*frame.pixels.shape[:2])
        resized = self._ops.resize(frame.pixels[None], *size)[0]
        self._count("resize", began)
        self._frames += 1
        self._times_s[1:] = [frame.time_s]
        if len(self._times_s) < 2:
            self._times_s = [frame.time_s] * 2
        prediction = self._classifier.add(resized, frame.time_s)
        if prediction is not None:
            self._tell(prediction)

    def _tell(self, prediction: LivePrediction) -> None:
        """Print a prediction: each as JSON, or those whose class differs from the last one."""
        self._now, options = prediction, self._options
        names = self._classifier.class_names
        if options.as_json:
            write_json({
                "time_s": prediction.time_s, "end_s": prediction.end_s,
                "top": [{"class": names[k], "probability": float(prediction.probabilities[k])}
                        for k in _best(prediction.probabilities, options.top)],
                "snippet": [{"class": names[k], "probability": float(prediction.snippet[k])}
                            for k in _best(prediction.snippet, options.top)],
                "dropped": self._dropped,
            })  # fmt: skip
            return
        best = _best(prediction.probabilities, 1)[0]
        probability = float(prediction.probabilities[best])
        said = names[best] if probability >= options.least else "-"
        if said != self._said:
            self._said = said
            write_line(f"{prediction.end_s:8.2f} s  {said}  {probability:.3f}")

    def _lines(self) -> list[str]:
        if self._now is None:
            return []
        likely = self._now.probabilities
        return [f"{self._classifier.class_names[k]} {likely[k]:.2f}" for k in _best(likely, 3)]

    def _measure(self, frames: Iterator[LiveFrame]) -> Iterator[LiveFrame]:
        while True:
            began = time.perf_counter()
            frame = next(frames, None)
            self._count("decode", began)
            if frame is None:
                return
            yield frame

    def _count(self, stage: str, began: float) -> None:
        self._seconds[stage] = self._seconds.get(stage, 0.0) + time.perf_counter() - began


class _Window:
    """A window of OpenCV; a context manager."""

    def __init__(self, title: str) -> None:
        try:
            cv2.namedWindow(title, cv2.WINDOW_NORMAL)
        except cv2.error as error:
            raise UsageError(
                "--show: this OpenCV cannot open a window (opencv-contrib-python-headless has no "
                "windows, and a machine needs a screen); use -o FILE.mp4 or --json"
            ) from error
        self._title = title

    def __enter__(self) -> _Window:
        return self

    def __exit__(self, *error: object) -> None:
        cv2.destroyWindow(self._title)


def _show(title: str, picture: NDArray[np.uint8]) -> bool:
    """Show a picture; return False if q was pressed or the window was closed."""
    cv2.imshow(title, picture[:, :, ::-1])
    is_open = cv2.getWindowProperty(title, cv2.WND_PROP_VISIBLE) >= 1
    return cv2.waitKey(1) & 0xFF != ord("q") and is_open


def _best(values: NDArray[np.float64], count: int) -> list[int]:
    """Return the classes of the highest values, the highest first."""
    order: list[int] = np.argsort(-values, kind="stable")[:count].tolist()
    return order
