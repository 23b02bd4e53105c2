"""Recipe + options of a run -> Resources: its device, number of workers and rates."""

from __future__ import annotations

from dataclasses import replace

from flowpipe.errors import BackendError
from flowpipe.extraction.recipe import ExtractRecipe
from flowpipe.flow import FLOWS
from flowpipe.flow.opencv import DISParams
from flowpipe.run.options import RunOptions
from flowpipe.run.planning import rates
from flowpipe.run.planning.costs import NOTHING, Rates, Resources
from flowpipe.run.planning.plan import Plan
from flowpipe.run.planning.sample import HeaderSample
from flowpipe.run.planning.worker_count import (
    describe_mps,
    usable_cores,
    usable_memory,
    workers_for_gpus,
)
from flowpipe.words import count_noun


def choose_rates(recipe: ExtractRecipe, sample: HeaderSample, options: RunOptions) -> Resources:
    """Measure the costs of a frame on the device of a run, and return its resources.

    If `RunOptions.any_device` is set, the cores alone are measured too, and the faster choice is
    returned. No GPU memory stays allocated.

    Parameters
    ----------
    recipe : ExtractRecipe
        What is stored.
    sample : HeaderSample
        Headers of some videos.
    options : RunOptions
        Device and workers that are asked for.

    Returns
    -------
    Resources
        Device, workers and costs.

    Raises
    ------
    BackendError
        If the device is not usable.
    """
    costs = _measure_rates(recipe, sample, options)
    workers, reason = options.workers, ""
    cores = workers if options.scheduler else usable_cores()
    if not workers:
        workers, reason = workers_for_gpus(options.gpus, costs, cores, usable_memory())
    reason = "; ".join(filter(None, [reason, describe_mps(workers, options.gpus)]))
    chosen = Resources(
        rates=costs,
        device=options.device,
        gpus=options.gpus,
        workers=workers,
        cores=cores,
        reason=reason,
    )
    if not options.any_device or options.device != "cuda":
        return chosen
    alone = _on_cores(recipe, sample, options)
    if alone is None:
        return chosen
    with_gpus = f"{chosen.frames_per_s:.0f} with {count_noun(options.gpus, 'GPU')}"
    on_cores = f"{alone.frames_per_s:.0f} on the cores alone"
    if alone.frames_per_s > chosen.frames_per_s:
        decodes = f"NVDEC decodes on {count_noun(alone.gpus, 'GPU')}" if alone.gpus else ""
        reason = f"cpu: by measurement {on_cores}, {with_gpus} (frames/s)"
        return replace(alone, reason="; ".join(filter(None, [reason, decodes])))
    measured = f"by measurement {with_gpus}, {on_cores} (frames/s)"
    reason = "; ".join(filter(None, [measured, reason]))
    return replace(chosen, reason=reason, cores_alone=alone.rates)


def choose_nothing(options: RunOptions) -> Resources:
    """Return the resources of a run that has nothing to extract; nothing is measured.

    Parameters
    ----------
    options : RunOptions
        Device and workers that are asked for.

    Returns
    -------
    Resources
        Device and workers.
    """
    workers = max(1, options.workers, options.gpus)
    return Resources(
        rates=NOTHING,
        device=options.device,
        gpus=options.gpus,
        workers=workers,
        cores=workers,
    )


def cores_only_s(plan: Plan, recipe: ExtractRecipe) -> float:
    """Return the seconds of one core that a GPU plan would take on the cores alone.

    The result is 0 if the plan uses no GPU, or if the cores cannot compute it.

    Parameters
    ----------
    plan : Plan
        Plan with GPUs.
    recipe : ExtractRecipe
        What is stored.

    Returns
    -------
    float
        Seconds.
    """
    here = plan.resources
    if not (plan.shards and here.gpus) or here.device != "cuda" or plan.sample is None:
        return 0.0
    costs = here.cores_alone or _measure_cores_alone(recipe, plan.sample)
    return 0.0 if costs is None else plan.frames * costs.frame_s


def _measure_rates(recipe: ExtractRecipe, sample: HeaderSample, options: RunOptions) -> Rates:
    own_gpu = FLOWS[recipe.flow.name].own_gpu
    if options.scheduler and (own_gpu or options.device == "cuda"):
        # This machine may have no GPU; its cores replace the workers' GPUs in the estimate.
        on_cores = replace(recipe, flow=DISParams()) if own_gpu else recipe
        return rates.measure(on_cores, "cpu", sample)
    if own_gpu or options.device == "cuda":
        memory = options.device == "cuda" and not options.workers
        return rates.measure_apart(recipe, options.device, sample, memory=memory)
    return rates.measure(recipe, options.device, sample)


def _on_cores(recipe: ExtractRecipe, sample: HeaderSample, options: RunOptions) -> Resources | None:
    """Return the resources without GPUs, except for decoding; None if the cores cannot compute."""
    costs = _measure_cores_alone(recipe, sample)
    if costs is None:
        return None
    decoding = options.gpus if recipe.video.decoder != "cpu" else 0
    cores = usable_cores()
    workers = options.workers or cores
    if decoding:
        workers = max(1, workers // decoding) * decoding
    return Resources(rates=costs, device="cpu", gpus=decoding, workers=workers, cores=cores)


def _measure_cores_alone(recipe: ExtractRecipe, sample: HeaderSample) -> Rates | None:
    """Return the costs of a frame on the cores alone; None if they or this OpenCV cannot do it."""
    if FLOWS[recipe.flow.name].own_gpu or recipe.lacks("cpu"):
        return None
    try:
        return rates.measure(recipe, "cpu", sample)
    except BackendError:
        return None
