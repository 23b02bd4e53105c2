"""Source + recipe + options -> an ExtractJob -> its plan, or a finished store.

`flowpipe.extract`, `flowpipe.plan` and the commands of these names begin here.
"""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

from flowpipe import params
from flowpipe.datasets.source import Counting, load_dataset, source_of
from flowpipe.errors import REASONS, BackendError, FlowpipeWarning, UsageError
from flowpipe.extraction.recipe import ExtractRecipe
from flowpipe.flow import FLOWS
from flowpipe.job.arguments import (
    Lists,
    Names,
    Settings,
    check_choice,
    check_number,
    check_whole,
    lists_of,
    local_path_of,
    names_of,
    part_of,
    path_of,
    settings_of,
    size_of,
)
from flowpipe.job.recipe import check_boxes, list_shorthand, without_core
from flowpipe.modality import MODALITIES
from flowpipe.recipes import read_recipe, recipe_of
from flowpipe.remote import Cache, PathOrUrl, default_cache
from flowpipe.run import (
    AbsentVideosError,
    ExtractJob,
    Listener,
    MissingVideos,
    Plan,
    Progress,
    Quarantine,
    RunOptions,
    Summary,
    plan_run,
    run,
)
from flowpipe.run.options import ON_ERROR, PUBLISH_S, STALL_S, WorkerOptions
from flowpipe.run.planning import devices
from flowpipe.video import MAX_DAMAGED

__all__ = ["ExtractJob", "Progress", "extract", "extract_job", "plan"]


def extract_job(
    out: str | Path,
    *,
    videos: str | PathOrUrl | None = None,
    dataset: str | None = None,
    root: str | PathOrUrl | None = None,
    annotations: str | PathOrUrl | None = None,
    class_names: str | PathOrUrl | None = None,
    val_fraction: float | None = None,
    lists: Lists = (),
    only: Names | None = None,
    allow_missing: bool = False,
    recipe: str | Path | None = None,
    settings: Settings = (),
    modalities: Names | None = None,
    size: str | tuple[int, int] | None = None,
    short_side: int | None = None,
    fps: float | None = None,
    decoder: str | None = None,
    stream: int | None = None,
    device: str = "auto",
    workers: int | None = None,
    gpus: int | None = None,
    scheduler: Any = "",
    part: str | tuple[int, int] = "1/1",
    on_error: str = "skip",
    max_damaged: float = MAX_DAMAGED,
    retry: str = "",
    stall_s: float = STALL_S,
    publish_s: float = PUBLISH_S,
    split_s: float = 300.0,
    cache: str | Path | None = None,
    cache_gb: float = 20.0,
    counting: Counting | None = None,
) -> ExtractJob:
    """Describe an extraction, as the options of `flowpipe extract` do.

    The job lists the videos and checks the recipe, the device and every argument. It writes no
    store; a generated data set, ``demo``, is made beside the store.

    Parameters
    ----------
    out : path
        Folder of the store; an existing store of the same recipe is continued.
    videos : path or URL, optional
        Your own videos: a folder, a list file or one video. Give either this or `dataset`.
    dataset : str, optional
        Name of a data set, a key of `flowpipe.datasets.DATASETS`.
    root : path or URL, optional
        Folder of the data set's download; for a list file, the folder of its relative paths.
    annotations : path or URL, optional
        Official lists of the data set. Default: found below `root`.
    class_names : path or URL, optional
        File with the class names of your own videos in the order of their labels.
    val_fraction : float, optional
        Share of your own videos of each class that is kept for validation, above 0 and below 1.
    lists : mapping of str to path
        List files of your own videos by split, such as
        ``{"train": "train.txt", "val": "val.txt"}``.
    only : sequence of str or str, optional
        Subsets or splits to extract, such as ``["train1", "test1"]``.
    allow_missing : bool
        True to continue if videos of the data set are absent.
    recipe : str or path, optional
        Name of a recipe or a YAML file. Default: the data set's own.
    settings : mapping, str or sequence of str
        Changes of the recipe, such as ``{"bound": 15, "flow.warps": 3}`` or ``"bound=15"``.
    modalities : sequence of str or str, optional
        Modalities to store, such as ``["rgb", "flow"]`` or ``"rgb,flow"``.
    size : (int, int) or str, optional
        Width and height of the stored images, such as ``(340, 256)`` or ``"340x256"``.
    short_side : int, optional
        Size of the short side of the stored images, pixels; the aspect ratio is kept.
    fps : float, optional
        Frame rate to resample to, frames per second.
    decoder : {"cpu", "nvdec"}, optional
        Video decoder.
    stream : int, optional
        Index of the video stream to decode, as ffprobe counts.
    device : {"auto", "cuda", "cpu"}
        Device that computes flow; ``auto`` measures the GPUs and the cores.
    workers : int, optional
        Number of worker processes. Default: one for each usable core.
    gpus : int, optional
        Number of GPUs, shared evenly by the workers.
    scheduler : str or distributed.Client
        A running Dask cluster: its address, its scheduler file, or a client of it. Its workers are
        processes of one thread that see the store and the videos. Default: workers of this machine.
    part : (int, int) or str
        ``(i, n)`` or ``"i/n"``: extract the i-th of n shares of the videos, counted from 1.
    on_error : {"skip", "partial", "conceal", "fail"}
        What is kept of damaged videos: nothing, the frames before the damage, those behind it too,
        or nothing and the run ends.
    max_damaged : float
        Largest share of damaged frames in a video that still counts as good, 0 to 1.
    retry : str
        Reason code of the quarantined videos to extract again, or ``all``.
    stall_s : float
        Time without a finished frame after which a worker is killed, seconds.
    publish_s : float
        Interval at which workers publish finished videos, seconds.
    split_s : float
        Length above which a video is split between workers, seconds; 0 for never.
    cache : path, optional
        Folder on each machine that caches videos from URLs.
    cache_gb : float
        Largest size of the cache, GB.
    counting : callable, optional
        Context manager that shows the progress of making a generated data set.

    Returns
    -------
    ExtractJob
        Job for `plan` and `extract`.

    Raises
    ------
    UsageError, RecipeError, DatasetError, BackendError
        If an argument, the recipe, the data set or a device is wrong.

    Examples
    --------
    >>> job = flowpipe.extract_job("store", videos="clips", modalities="rgb,flow")  # doctest: +SKIP
    >>> summary = flowpipe.extract(job)  # doctest: +SKIP
    """
    out, cache = local_path_of("out", out), local_path_of("cache", cache) if cache else None
    check_choice("device", device, devices.CHOICES)
    check_choice("--retry", retry, ("", "all", *REASONS))
    check_choice("on_error", on_error, ON_ERROR)
    for name, value, least in (
        ("workers", workers, 1), ("gpus", gpus, 1), ("stream", stream, 0),
        ("short_side", short_side, 16),
    ):  # fmt: skip
        check_whole(name, value, least)
    check_number("val_fraction", val_fraction, 0, 1, inside=True)
    check_number("max_damaged", max_damaged, 0, 1)
    check_number("fps", fps, 0, inside=True)
    check_number("stall_s", stall_s, 1)
    check_number("publish_s", publish_s, 0)
    check_number("split_s", split_s, 0)
    check_number("cache_gb", cache_gb, 0, inside=True)
    modalities, size = names_of("modalities", modalities), size_of(size)
    if modalities is not None and not modalities.strip(" ,"):
        raise UsageError(f"--modalities is empty; name some of {', '.join(MODALITIES)}")
    if size and short_side:
        raise UsageError("--size and --short-side exclude each other")
    source = source_of(
        dataset=dataset, root=path_of("root", root), videos=path_of("videos", videos),
        annotations=path_of("annotations", annotations),
        class_names=path_of("class_names", class_names), only=names_of("only", only), out=out,
        lists=lists_of(lists), val_fraction=val_fraction,
    )  # fmt: skip
    file = read_recipe(str(recipe)) if recipe else recipe_of(source["dataset"])
    file.build()  # reports every mistake of the file, in the train section too
    values = dict(file.values.get("extract") or {})
    shorthand = list_shorthand(
        modalities=modalities, size=size, short_side=short_side, fps=fps, decoder=decoder,
        stream=stream,
    )  # fmt: skip
    values = params.override(values, [*shorthand, *settings_of(settings)])
    chosen = devices.choose(device, gpus, workers, scheduler)
    warning = ""
    if chosen.device == "cpu":
        values, warning = without_core(values)
    made = params.build(ExtractRecipe, values, where="extract")
    check_boxes(made, there=not scheduler)
    if not scheduler:  # workers of a scheduler check their own devices
        if lacks := made.lacks(chosen.device):
            raise BackendError("; ".join([warning] * bool(warning) + lacks))
        chosen = devices.for_decoder(chosen, made.video.decoder)
    options = RunOptions(
        store=out,
        workers=chosen.workers,
        gpus=chosen.gpus,
        any_device=chosen.any_device,
        scheduler=scheduler,
        device=chosen.device,
        part=part_of(part),
        retry=retry,
        split_s=split_s,
        worker=WorkerOptions(
            on_error=on_error,
            max_damaged=max_damaged,
            stall_s=stall_s,
            publish_s=publish_s,
            cache=Cache((cache or default_cache().folder).absolute(), round(cache_gb * 1e9)),
        ),
    )
    if warning:
        warnings.warn(warning, FlowpipeWarning, stacklevel=2)
    # Listing the videos can take long, so everything else is checked before.
    return ExtractJob(
        dataset=load_dataset(source, counting),
        source=source,
        recipe=made,
        options=options,
        allow_missing=allow_missing,
        warning=warning,
        why_device=_why_device(chosen, made),
    )


def plan(job: ExtractJob) -> Plan:
    """Plan an extraction: read the store if there is one, and write nothing.

    Parameters
    ----------
    job : ExtractJob
        From `extract_job`.

    Returns
    -------
    Plan
        Videos to extract, finished and unusable ones, and estimates of frames, seconds and bytes.

    Raises
    ------
    FormatError
        If the store was made with another recipe.

    Examples
    --------
    >>> found = flowpipe.plan(job)  # doctest: +SKIP
    >>> found.videos, found.frames, found.bytes  # doctest: +SKIP
    """
    return plan_run(job)


def extract(job: ExtractJob | Plan, progress: Listener | None = None) -> Summary:
    """Extract videos into a store, as `flowpipe extract` does, without a console.

    A broken video never stops the others: it is in the summary, in the ledger and in the store's
    quarantine, with its reason. Running the job again extracts what is missing.

    Parameters
    ----------
    job : ExtractJob or Plan
        From `extract_job`, or the job's `plan`, which then need not be made again.
    progress : callable, optional
        Function of a `Progress`, called in this thread whenever a video or some frames are done.

    Returns
    -------
    Summary
        ``counts`` of videos by status, ``failures`` with reasons and messages, ``store``, and
        ``missing``: the videos that have no file, or are not listed, or cannot be read.
        ``STORE/missing.txt`` lists them too.

    Raises
    ------
    AbsentVideosError
        If videos of the data set are absent and `allow_missing` is false.
    UsageError
        If another run extracts the same videos.
    DiskFullError, UnwritableError
        If the store does not fit or cannot be written.
    InterruptedRunError
        On Ctrl-C. Finished videos are kept.

    Notes
    -----
    Local workers are spawned. A script must call this below ``if __name__ == "__main__":``.

    Examples
    --------
    >>> def show(now):
    ...     print(f"{now.done} of {now.total} videos, {now.frames_per_s:.0f} frames/s")
    >>> summary = flowpipe.extract(job, progress=show)  # doctest: +SKIP
    >>> for outcome in summary.failures:  # doctest: +SKIP
    ...     print(outcome.video_id, outcome.reason, outcome.message)
    """
    found = job if isinstance(job, Plan) else plan(job)
    job = found.planned_job
    store = job.options.store
    missing = MissingVideos.from_plan(found)
    if missing.absent and not job.allow_missing:
        missing.write(store)
        raise AbsentVideosError.from_missing(missing)
    summary = run(found.without_absent(), progress)
    failed = (entry.outcome for entry in Quarantine(store).read())
    summary.missing = missing.add_failed(failed)
    summary.missing.write(store)
    return summary


def _why_device(chosen: devices.Devices, recipe: ExtractRecipe) -> str:
    """Return the device and why it was chosen; empty if the user chose it and flow runs there."""
    wanted = recipe.flows > 0
    if not (wanted and FLOWS[recipe.flow.name].own_gpu and chosen.device == "cpu"):
        return chosen.why
    return f"{chosen.why or 'cpu'}; but flow {recipe.flow.name} on the GPU, by OpenCV"


def why_device(plan: Plan) -> str:
    """Return the device of a plan and why, in one line; empty if the user chose everything.

    Parameters
    ----------
    plan : Plan
        From `plan`.

    Returns
    -------
    str
        Device and reason.
    """
    chosen, job = plan.resources, plan.planned_job
    if chosen.device != job.options.device:  # the plan found the other device faster
        return chosen.reason
    return "; ".join(filter(None, [job.why_device, chosen.reason]))
