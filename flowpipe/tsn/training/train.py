"""Store + recipe -> a trained network in a run folder: one stream of one split.

A run can be resumed at any step with the same results: samples depend only on (seed, epoch,
position), and the checkpoint has the weights, the optimiser, the random state and the step.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

import torch

from flowpipe.errors import BackendError, FlowpipeError, UsageError
from flowpipe.evaluation.ground_truth import ALL
from flowpipe.store import open_store
from flowpipe.tsn import run_folder
from flowpipe.tsn.data.batches import BatchSampler
from flowpipe.tsn.data.clips import Clip, Clips, clips_of, splits_of
from flowpipe.tsn.data.inputs import input_spec
from flowpipe.tsn.data.lacking import find_lacking_classes, find_without_images
from flowpipe.tsn.data.limits import worker_failures
from flowpipe.tsn.data.loading import Loader
from flowpipe.tsn.device import (
    choose_kernels,
    describe,
    keep_freed_memory,
    peak_memory_mb,
)
from flowpipe.tsn.distributed import Processes, join_processes
from flowpipe.tsn.network.backbones import build
from flowpipe.tsn.network.model import freezes_random_statistics, make_model
from flowpipe.tsn.network.transfer import initialise_backbone, run_beside
from flowpipe.tsn.run_folder import BEST, EMA, LAST, OF_EPOCH, RunFacts
from flowpipe.tsn.training.curves import TensorBoardWriter, draw
from flowpipe.tsn.training.epoch import (
    EpochSums,
    TrainingProgress,
    describe_epoch,
    describe_steps,
    row_of,
)
from flowpipe.tsn.training.job import TrainJob, check_same_recipe
from flowpipe.tsn.training.learner import Learner
from flowpipe.tsn.training.schedule import Schedule
from flowpipe.tsn.training.steps import Step, StepLog, UnreadSteps, row_of_step
from flowpipe.words import count_noun

Told = Callable[[str], None]
Stepped = Callable[[int, int, float], None]
_AGREED_EVERY = 20
"""Steps between the points at which several processes agree whether to save a checkpoint."""


def train(
    job: TrainJob, tell: Told = print, stepped: Stepped = lambda done, total, per_s: None
) -> RunFacts:
    """Train one network; resume the run if it was interrupted.

    Under ``torchrun`` every process calls this; together they process the recipe's batch.

    Parameters
    ----------
    job : TrainJob
        Data, run folder and options.
    tell : callable
        Called with each log line.
    stepped : callable
        Called after each step: steps done, steps in total, snippets per second in this epoch.

    Returns
    -------
    RunFacts
        Facts of the run.

    Raises
    ------
    UsageError
        If the store or the recipe lacks the modality, classes or videos, or the folder has another
        run.
    BackendError, FormatError
        If weights are not available or cannot be read.
    FlowpipeError
        If the loss is not finite.
    """
    if job.modality not in job.recipe.streams:
        raise UsageError(
            f"the recipe trains {', '.join(job.recipe.streams)}, not {job.modality}; add it to "
            "train.streams"
        )
    if job.device == "cpu":
        keep_freed_memory()
    choose_kernels(job.device, job.deterministic)
    with join_processes(job.device) as processes, worker_failures():
        return Trainer(job, processes, tell, stepped).run()


class Trainer:
    """Training run: data, network, logs and checkpoints.

    Parameters
    ----------
    job : TrainJob
        Data, run folder and options.
    processes : Processes
        Processes that share a batch.
    tell : callable
        Called with each log line, in the first process.
    stepped : callable
        Called after each step, see `train`, in the first process.
    """

    def __init__(self, job: TrainJob, processes: Processes, tell: Told, stepped: Stepped) -> None:
        self.job, self.processes = job, processes
        self.tell = tell if processes.is_first else _log_nothing
        self.stepped = stepped if processes.is_first else _log_nothing
        self.stream = job.recipe.streams[job.modality]
        store = open_store(job.store)
        self.input = input_spec(job.modality, self.stream.snippet_length, store.modalities)
        self.facts = RunFacts(
            modality=job.modality,
            split=job.split,
            stored=self.input.stored,
            stream=self.stream,
            test=job.recipe.test,
            seed=job.seed,
            class_names=store.header.class_names,
            dataset=str(store.header.dataset.get("dataset", "")),
            recipe_digest=store.header.recipe_digest,
            extraction=store.header.recipe,
            also=tuple(
                str(open_store(path).header.dataset.get("dataset", "")) for path in job.also
            ),
            fusion=job.recipe.fusion,
        )
        several, samples_of = self.stream.loss.name == "bce", job.recipe.samples
        splits = splits_of(store, job.split)
        videos = {
            phase: clips_of(store, split, self.input.stored, samples_of, several=several)
            for phase, split in splits.items()
        }
        for number, path in enumerate(job.also, 1):
            other = open_store(path)
            check_same_recipe(store, other, self.input.stored)
            videos["train"] += clips_of(
                other, ALL, self.input.stored, samples_of, number, several=several
            )
        self.lacking = [
            *find_without_images(store, splits, self.input.stored),
            *find_lacking_classes(videos, splits, self.facts.class_names),
        ]
        self.batches = self._batches(len(videos["train"]), shuffle=True)
        self.val_batches = self._batches(len(videos["val"]), shuffle=False)
        if not self.batches.sizes:
            raise UsageError(
                f"{count_noun(len(videos['train']), 'video')} in batches of "
                f"{self.stream.schedule.batch_size} cannot feed {processes.world} processes, each "
                "of which needs a video of every batch; use fewer processes or a larger batch_size"
            )
        torch.manual_seed(job.seed)
        # Initial weights are for new runs; a resumed run loads all weights from its checkpoint.
        begins, weights = not (job.run / LAST).exists(), job.weights
        if begins and weights is None and self.stream.init_stream:
            weights = run_beside(job.run, self.facts)
        backbone, self.row = build(
            self.stream.backbone,
            self.stream.init if begins and weights is None else "random",
            self.stream.pixels,
            self.stream.input_size,
        )
        model = make_model(
            backbone, self.row, len(self.facts.class_names), self.input.channels, self.stream
        )
        if begins and weights is not None:
            self.tell(initialise_backbone(model, self.row, self.input, self.stream, weights))
        if begins and weights is None and freezes_random_statistics(model, self.stream):
            self.tell(
                "warning: partial_bn freezes batch normalisation with the statistics of no data, "
                "because init is random; the loss may explode: set partial_bn: false, or begin "
                "with weights"
            )
        self.learner = Learner(
            model, self.input, self.row, self.stream, processes,
            amp=job.amp, accumulate=job.accumulate, compile=job.compile,
        )  # fmt: skip
        self.schedule = Schedule(self.stream.schedule, len(self.batches.sizes))
        self.loader = self._loader(videos["train"], self.batches)
        self.val_loader = self._loader(videos["val"], self.val_batches)
        self.state, self._saved_at = TrainingProgress(), time.monotonic()
        self.unread, self.recent, self.recent_steps = UnreadSteps(processes), EpochSums(), 0
        self.tensorboard: TensorBoardWriter | None = None
        self.step_log: StepLog | None = None

    def run(self) -> RunFacts:
        """Train until the schedule ends."""
        if self.processes.is_first:
            self.facts.write(self.job.run)
        # From here on each process has its own random state, for dropout. A checkpoint of the same
        # number of processes restores the states of their generators.
        torch.manual_seed(self.job.seed + 1 + self.processes.rank)
        self._resume()
        if self.processes.is_first:
            self.step_log = StepLog(self.job.run, self.state.step)
            if self.job.tensorboard:
                self.tensorboard = TensorBoardWriter(self.job.run, self.state.step)
        self.tell(self._describe_device())
        remarks = self.input.remarks(self.stream.compat)
        for line in (*remarks, *self.stream.without_effect(), *self.lacking):
            self.tell(line)
        per_epoch = self.schedule.steps_an_epoch
        while self.state.step < self.schedule.steps:
            epoch, done = divmod(self.state.step, per_epoch)
            self._epoch(epoch, done)
            last = self.state.step >= self.schedule.steps
            due = last or (epoch + 1) % self.job.validate_every == 0
            validated = self.learner.validate(self.val_loader) if due else None
            self._note(epoch, validated)
            self.state.sums = EpochSums()
            kept = self.job.keep_every and (epoch + 1) % self.job.keep_every == 0
            self._save(*([OF_EPOCH.format(epoch + 1)] if kept else []), LAST)
        if self.tensorboard:
            self.tensorboard.close()
        if self.processes.is_first:
            self._draw()
        return self.facts

    def _draw(self) -> None:
        """Draw the curves; a missing matplotlib does not fail the run."""
        facts = self.facts
        title = f"{facts.modality}, split {facts.split}: {facts.stream.backbone}"
        try:
            by_steps = facts.stream.schedule.lr_policy == "step"
            self.tell(f"curves: {draw(self.job.run, self.state.rows, title, by_steps)}")
        except BackendError as error:
            self.tell(f"no picture of the curves: {error}")

    def _epoch(self, epoch: int, done: int) -> None:
        """Run the steps of an epoch after its first `done`."""
        self.learner.parallel.train()
        self.batches.epoch, self.batches.skip = epoch, done
        batches, videos, seconds = iter(self.loader), 0, 0.0
        end = min((epoch + 1) * self.schedule.steps_an_epoch, self.schedule.steps)
        while self.state.step < end:
            began = time.monotonic()
            batch = next(batches)
            stalled_s = time.monotonic() - began
            size = self.batches.sizes[self.state.step % self.schedule.steps_an_epoch]
            lr = self.schedule.set(self.learner.optimiser, self.state.step)
            figures = self.learner.step(batch, size)
            step_s = time.monotonic() - began
            self.state.step += 1
            count = len(batch)
            times = {"seconds": step_s, "stalled_s": stalled_s}
            self.unread.add(Step(self.state.step, epoch + 1, lr, count, **times, figures=figures))
            videos, seconds = videos + count, seconds + step_s
            rate = EpochSums(videos=videos, seconds=seconds).snippets_per_s(
                self.stream.segments, self.processes.world
            )
            self.stepped(self.state.step, self.schedule.steps, rate)
            if self.state.step % self.job.log_every == 0:
                self._read()
                self._tell_steps(lr)
            # The checkpoint at the end of an epoch contains its row, so validation comes first.
            if self.state.step < end and self._is_due():
                self._save(LAST)
        self._read()

    def _read(self) -> None:
        """Log the figures of the steps since the last call and add them to the sums."""
        read = self.unread.read()
        rows = [row_of_step(step, sums, self.processes.world) for step, sums in read]
        if self.step_log:
            self.step_log.add(rows)
        if self.tensorboard:
            self.tensorboard.write_steps(rows)
        scaler = self.learner.scaler
        for step, sums in read:
            # fp16's loss scaler skips a step that overflows and halves its scale; in other
            # precisions the scale is 1. At scale 1 an infinite loss means infinite weights.
            if not math.isfinite(sums.loss) and scaler.get_scale() <= 1:
                raise FlowpipeError(
                    f"the loss is {sums.loss} at step {step.number}; is lr {step.lr:g} too large?"
                )
            if scaler.is_enabled() and not sums.norms:
                sums = sums.without_figures()
            self.state.sums += sums
            self.recent += sums
            self.recent_steps += 1

    def _tell_steps(self, lr: float) -> None:
        """Log the means of the steps since the last such line."""
        self.tell(
            describe_steps(
                self.recent, step=self.state.step, steps=self.schedule.steps,
                count=self.recent_steps, segments=self.stream.segments,
                world=self.processes.world, lr=lr, classes=len(self.facts.class_names),
            )
        )  # fmt: skip
        self.recent, self.recent_steps = EpochSums(), 0

    def _is_due(self) -> bool:
        """Return whether a checkpoint is due; all processes save after the same step."""
        late = time.monotonic() - self._saved_at > self.job.save_s
        if self.processes.world == 1:
            return late
        agreed = self.state.step % _AGREED_EVERY == 0
        return agreed and self.processes.total(float(late))[0] > 0

    def _note(self, epoch: int, validated: dict[str, float] | None) -> None:
        """Write the row of an epoch; save the weights if they are the best so far."""
        row = row_of(
            self.state.sums, validated,
            epoch=epoch + 1, step=self.state.step, segments=self.stream.segments,
            world=self.processes.world, peak_memory_mb=peak_memory_mb(self.processes.device),
            lr=self.stream.schedule.lr * self.schedule.factor(self.state.step - 1),
        )  # fmt: skip
        self.tell(describe_epoch(row, self.schedule.epochs, len(self.facts.class_names)))
        self.state.rows.append(row)
        if self.tensorboard:
            self.tensorboard.write(row)
        figure = row.get("val_map", row.get("val_accuracy", -1.0))
        if figure > self.state.best:
            self.state.best = figure
            self._save(BEST)
        if self.processes.is_first:
            run_folder.write_log(self.job.run, self.state.rows)

    def _save(self, *names: str) -> None:
        """Save a checkpoint under each of the names."""
        self._read()
        self._saved_at = time.monotonic()
        values = {
            **self.learner.state(),
            "step": self.state.step,
            "best": self.state.best,
            "rows": self.state.rows,
            "sums": asdict(self.state.sums),
        }
        if self.processes.is_first:
            averaged = self.learner.validation_network.state_dict()
            # EMA before LAST, so that a run killed between the two writes both again.
            if LAST in names and self.learner.average:
                run_folder.save(self.job.run / EMA, {"model": averaged})
            for name in names:
                kept = {**values, "model": averaged} if name == BEST else values
                run_folder.save(self.job.run / name, kept)

    def _describe_device(self) -> str:
        """Return a log line with the device, the number of processes and the precision."""
        words = f"device: {describe(self.processes.device)}"
        if self.processes.world > 1:
            share = "" if self.processes.device == "cpu" else ", a GPU for each"
            words += f"; {self.processes.world} processes{share}"
        return words + ("" if self.job.amp == "off" else f"; mixed precision {self.job.amp}")

    def _resume(self) -> None:
        path = self.job.run / LAST
        if not path.exists():
            return
        values = run_folder.read_checkpoint(path)
        if "optimiser" not in values:
            self.learner.model.load_state_dict(values["model"])
            self.tell("beginning with the adopted weights")
            return
        self.learner.restore(values)
        sums = EpochSums(**values["sums"])
        self.state = TrainingProgress(values["step"], values["best"], values["rows"], sums)
        if self.state.step >= self.schedule.steps:
            steps = count_noun(self.schedule.steps, "step")
            self.tell(f"the run is finished: {steps} are done and none is left")
        else:
            self.tell(f"resuming at step {self.state.step} of {self.schedule.steps}")

    def _batches(self, count: int, *, shuffle: bool) -> BatchSampler:
        return BatchSampler(
            count, self.stream.schedule.batch_size, seed=self.job.seed, shuffle=shuffle,
            rank=self.processes.rank, world=self.processes.world,
            mixes=shuffle and self.stream.augment.mixup > 0,
        )  # fmt: skip

    def _loader(self, videos: list[Clip], batches: BatchSampler) -> Loader:
        clips = Clips(
            [self.job.store, *self.job.also], videos, self.input,
            phase="train" if batches.shuffle else "val", segments=self.stream.segments,
            sampling=self.stream.sampling, augment=self.stream.augment, side=self.row.size,
            seed=self.job.seed,
        )  # fmt: skip
        return Loader(clips, batches, self.job.workers, self.processes.device)


def _log_nothing(*words: Any) -> None:
    """Ignore a log line: the logger of ranks above 0."""
