"""`flowpipe localise`: a file of features -> time intervals with classes, ActivityNet's JSON."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import click

from flowpipe.cli.choices import Choice
from flowpipe.cli.networks import WEIGHTS_OPTION, weights_of
from flowpipe.cli.numbers import Number
from flowpipe.cli.paths import FILE, FILE_THERE
from flowpipe.cli.screen import say
from flowpipe.cli.store_options import check_output
from flowpipe.cli.test_options import MOST_RATE_HZ
from flowpipe.errors import UsageError
from flowpipe.evaluation.detections import write_detections
from flowpipe.features import FeatureFile, open_features
from flowpipe.localisation import FusedScores, LocalisationParams, fuse_streams, localise_file
from flowpipe.localisation.localise import PROPOSAL_SCORES
from flowpipe.splits import split_name, split_names
from flowpipe.words import count_noun, unknown_name

_DEFAULT = LocalisationParams()


@click.command()
@click.argument("features", type=FILE_THERE)
@click.option("-o", "--out", required=True, type=FILE, help="File for the intervals, .json.")
@click.option("--streams", metavar="LIST",
              help="Streams of the file to average, such as rgb,flow.  [default: all]",
              )  # fmt: skip
@WEIGHTS_OPTION
@click.option("--split", default="all", show_default=True, metavar="NAME",
              help="Split to localise, such as test1.")  # fmt: skip
@click.option("--thresholds", metavar="LIST",
              help="Thresholds, shares of the range of a class's scores in a video, in [0, 1).  "
                   f"[default: {','.join(f'{one:g}' for one in _DEFAULT.thresholds)}]",
              )  # fmt: skip
@click.option("--smooth", "smooth_s", type=Number(0), default=_DEFAULT.smooth_s,
              show_default=True, metavar="SECONDS",
              help="Length of the moving average of the scores; 0 for none.")  # fmt: skip
@click.option("--temperature", type=Number(0, min_open=True),
              default=_DEFAULT.temperature, show_default=True,
              help="Divisor of the scores before the softmax.")  # fmt: skip
@click.option("--proposal-score", type=Choice(list(PROPOSAL_SCORES)),
              default=_DEFAULT.proposal_score,
              show_default=True,
              help="Score of a proposal: its mean minus the mean beside it, its mean, or its peak.",
              )  # fmt: skip
@click.option("--classes", type=click.IntRange(1), default=_DEFAULT.classes, show_default=True,
              help="Classes of a video that are localised, the best by M-TWI.")  # fmt: skip
@click.option("--sigma", type=Number(0, min_open=True), default=_DEFAULT.sigma,
              show_default=True, help="Width of soft-NMS; a smaller one suppresses more overlaps.",
              )  # fmt: skip
@click.option("--most", type=click.IntRange(1), default=_DEFAULT.most, show_default=True,
              help="Largest number of intervals of a video.")  # fmt: skip
@click.option("--rate", "rate_hz", type=Number(0, MOST_RATE_HZ, min_open=True),
              default=_DEFAULT.rate_hz, show_default=True,
              help="Rows per second of M-TWI, which scores the video.")  # fmt: skip
def localise(
    features: Path,
    out: Path,
    streams: str | None,
    weights: str | None,
    split: str,
    thresholds: str | None,
    smooth_s: float,
    temperature: float,
    proposal_score: str,
    classes: int,
    sigma: float,
    most: int,
    rate_hz: float,
) -> None:
    """Find the time intervals of actions in the videos of FEATURES.

    \b
    flowpipe features store runs/rgb runs/flow -o features.h5 --stride 4
    flowpipe localise features.h5 -o detections.json --weights 1,1.5
    flowpipe evaluate store detections.json

    FEATURES is a file of `flowpipe features`. For the best classes of each video, proposals become
    intervals: consecutive rows above one of several thresholds. The confidence of an interval is
    the score of the video, by M-TWI, times that of the proposal. Soft-NMS lowers it if a better
    interval overlaps. The file has the form of ActivityNet's challenge.
    """
    check_output(out, ".json", inputs=[features])
    params = LocalisationParams(
        thresholds=_numbers(thresholds) if thresholds is not None else _DEFAULT.thresholds,
        smooth_s=smooth_s,
        temperature=temperature,
        proposal_score=proposal_score,  # type: ignore[arg-type]  # a key of PROPOSAL_SCORES
        classes=classes,
        sigma=sigma,
        most=most,
        rate_hz=rate_hz,
    )
    with open_features(features) as file:
        chosen = _streams(file, streams)
        facts = [file.streams[name].facts for name in chosen]
        added, origin = weights_of(weights, [one.get("run", one) for one in facts])
        fused = fuse_streams(file, chosen, added)
        videos = _videos(file, split)
        _say_left_out(fused, videos)
        found = localise_file(fused, [key for key in videos if fused.has_rows(key)], params)
        described = {
            "features": str(features),
            "streams": {
                name: {"weight": weight, "network": one.get("network"), "digest": one.get("digest")}
                for name, weight, one in zip(chosen, added, facts, strict=True)
            },
            "localisation": asdict(params),
        }
        truth = "ANNOTATIONS.json"  # the store has no time intervals
        if any(video.record.segments for video in file.videos.values()):
            truth = file.facts.get("store") or "STORE"
    if len(chosen) > 1:
        pairs = zip(chosen, added, strict=True)
        say(f"weights {', '.join(f'{name} {w:g}' for name, w in pairs)} ({origin})")
    write_detections(out, found, fused.class_names, described)
    say(f"{out}: {count_noun(len(found), 'interval')} in {count_noun(len(videos), 'video')}")
    say(f"next: flowpipe evaluate {truth} {out}")


def _say_left_out(fused: FusedScores, videos: list[str]) -> None:
    """Say which streams have no rows of some videos; UsageError if none has rows of any."""
    for name in fused.streams:
        left_out = fused.file.streams[name].left_out
        if lacking := [video_id for video_id in videos if video_id in left_out]:
            say(
                f"{name} has no rows of {len(lacking)} of {count_noun(len(videos), 'video')}, such "
                f"as {lacking[0]}: {left_out[lacking[0]]}"
            )
    alone = [video_id for video_id in videos if not fused.has_rows(video_id)]
    if len(alone) == len(videos):
        raise UsageError(
            f"{fused.file.path} has no rows of these videos in {', '.join(fused.streams)}; choose "
            "other streams with --streams"
        )
    if alone:
        say(
            f"{count_noun(len(alone), 'video')} without intervals, such as {alone[0]}: no chosen "
            "stream has rows"
        )


def _streams(file: FeatureFile, text: str | None) -> list[str]:
    """Return the streams that --streams names; all of the file, in its order, by default."""
    if text is None:
        return list(file.streams)
    names = [name.strip() for name in text.split(",")]
    for name in names:
        if name not in file.streams:
            raise UsageError(f"{file.path}: {unknown_name('stream', name, list(file.streams))}")
    if len(set(names)) < len(names):
        raise UsageError(f"--streams names a stream twice: {text}")
    return names


def _videos(file: FeatureFile, split: str) -> list[str]:
    """Return the videos of a split; UsageError if there is none."""
    wanted = split_name(split)
    found = [
        video_id
        for video_id, video in file.videos.items()
        if split == "all" or wanted in video.record.splits
    ]
    if not found:
        known = [*split_names(video.record for video in file.videos.values()), "all"]
        raise UsageError(f"{file.path}: {unknown_name('split', split, known)}")
    return found


def _numbers(text: str) -> tuple[float, ...]:
    """Return the values of --thresholds."""
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError:
        raise UsageError(f"--thresholds must be numbers, such as 0.2,0.5, got {text}") from None
