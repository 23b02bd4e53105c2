"""Batches -> optimiser steps and validation of a network, in one or several processes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import nullcontext
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from flowpipe.evaluation.ranking import mean_average_precision
from flowpipe.tsn.data.batches import Batch
from flowpipe.tsn.data.inputs import InputSpec
from flowpipe.tsn.data.photometric import mix_up
from flowpipe.tsn.distributed import Processes
from flowpipe.tsn.network.backbones import BackboneRow
from flowpipe.tsn.network.model import TSN, synchronise_batch_norm
from flowpipe.tsn.network.network_input import network_input
from flowpipe.tsn.recipe import StreamParams
from flowpipe.tsn.training.averaging import WeightAverage
from flowpipe.tsn.training.epoch import MEASURED, EpochSums
from flowpipe.tsn.training.losses import hits, loss_of, targets_of
from flowpipe.tsn.training.optimisers import optimiser_of

AMP = {"off": None, "bf16": torch.bfloat16, "fp16": torch.float16}
_VALIDATED_AT_ONCE = 16
"""Videos per forward pass of validation."""


class Learner:
    """Network, optimiser and random state: everything a step depends on except the batch.

    Parameters
    ----------
    model : TSN
        Network to train.
    input : InputSpec
        Input of the network.
    row : BackboneRow
        Row of the backbone.
    stream : StreamParams
        Stream of the recipe.
    processes : Processes
        Processes that share a batch.
    amp : str
        A key of `AMP`: precision of the network's arithmetic.
    accumulate : int
        Gradient accumulation steps.
    compile : bool
        Compile the network with torch.compile.
    """

    def __init__(
        self,
        model: TSN,
        input: InputSpec,
        row: BackboneRow,
        stream: StreamParams,
        processes: Processes,
        *,
        amp: str = "off",
        accumulate: int = 1,
        compile: bool = False,
    ) -> None:
        self.input, self.row, self.stream, self.processes = input, row, stream, processes
        if stream.sync_bn and processes.world > 1:
            model = synchronise_batch_norm(model, processes.device)
        self.model: TSN = model.to(processes.device)
        schedule = stream.schedule
        self.average = WeightAverage(self.model, schedule.ema) if schedule.ema else None
        groups = model.groups(schedule, is_flow=input.is_flow)
        # Fused: one kernel for all weights on a GPU. On a CPU it would round differently.
        fused = {"fused": True} if processes.device != "cpu" else {}
        self.optimiser = optimiser_of(groups, schedule, **fused)
        if compile:
            self.model.compile()
        self.parallel: Any = processes.parallel(self.model)
        self._kind = processes.device.partition(":")[0]
        self.scaler = torch.amp.GradScaler(self._kind, enabled=amp == "fp16")
        self._trained = [w for group in self.optimiser.param_groups for w in group["params"]]
        self._amp, self._accumulate = AMP[amp], accumulate

    def step(self, batch: Batch, size: int) -> Tensor:
        """Run one optimiser step, without waiting for the device.

        The gradient is that of the mean loss over the global batch, for any number of processes and
        of gradient accumulation steps.

        Parameters
        ----------
        batch : Batch
            This process' share of the batch.
        size : int
            Videos of the global batch.

        Returns
        -------
        float64 (MEASURED + 1,) on the device
            Sum of the losses, correct top-1 and correct top-5 of this process' share, and the L2
            norm of the gradient before clipping.
        """
        self.optimiser.zero_grad(set_to_none=True)
        measured = torch.zeros(MEASURED, dtype=torch.float64, device=self.processes.device)
        count = len(batch)
        cuts = [k * count // self._accumulate for k in range(self._accumulate + 1)]
        parts = [(a, b) for a, b in zip(cuts, cuts[1:], strict=False) if a < b]
        for number, (start, stop) in enumerate(parts):
            last = number == len(parts) - 1
            with nullcontext() if last or self.processes.world == 1 else self.parallel.no_sync():
                logits, labels = self._forward(self.parallel, batch, start, stop)
                losses = loss_of(logits, labels, self.stream.loss)
                # DDP averages the gradients over the processes.
                self.scaler.scale(losses * self.processes.world / size).backward()
            measured += measure(losses, logits, labels)
        self.scaler.unscale_(self.optimiser)
        norm = self._clip()
        self.scaler.step(self.optimiser)
        self.scaler.update()
        if self.average:
            self.average.update()
        return torch.cat([measured, norm.double()[None]])

    def _clip(self) -> Tensor:
        """Clip the gradient to the recipe's norm; return its L2 norm before clipping."""
        limit = self.stream.schedule.clip_gradient
        if limit:
            return nn.utils.clip_grad_norm_(self._trained, limit)
        return nn.utils.get_total_norm([w.grad for w in self._trained if w.grad is not None])

    @torch.no_grad()
    def validate(self, batches: Iterable[Batch]) -> dict[str, float]:
        """Return the figures of a validation; the network stays in evaluation mode.

        Parameters
        ----------
        batches : iterable of Batch
            Batches of this process.

        Returns
        -------
        dict
            `EpochSums.means` over the videos of all processes; with the loss ``bce`` also ``map``,
            the mean average precision.
        """
        self.model.eval()
        network = self.validation_network.eval()
        # Each process has statistics of its own; the checkpoint has the first one's.
        self.processes.share(self.model.buffers())
        if self.average:
            self.processes.share(network.buffers())
        plain = replace(self.stream.loss, label_smoothing=0.0)
        measured = torch.zeros(MEASURED, dtype=torch.float64, device=self.processes.device)
        none = torch.empty(0, self.model.new_fc.out_features)
        videos, scores, positives = 0, [none], [none]
        for batch in batches:
            videos += len(batch)
            for start in range(0, len(batch), _VALIDATED_AT_ONCE):
                # Not through DDP: processes may have different numbers of videos.
                stop = start + _VALIDATED_AT_ONCE
                logits, labels = self._forward(network, batch, start, stop)
                losses = loss_of(logits, labels, plain)
                measured += measure(losses, logits, labels)
                if plain.name == "bce":
                    scores.append(logits.cpu())
                    positives.append(labels.cpu())
        sums = EpochSums(*self.processes.total(*measured.tolist(), float(videos)))
        figures = sums.means()
        if plain.name == "bce":
            together = (self.processes.gather_rows(torch.cat(own)) for own in (scores, positives))
            ranked, labelled = (table.numpy() for table in together)
            figures["map"] = mean_average_precision(ranked, labelled > 0)
        return figures

    @property
    def validation_network(self) -> nn.Module:
        """Network that validation measures; it has the averaged weights if the recipe has `ema`."""
        return self.average.network if self.average else self.model

    def state(self) -> dict[str, Any]:
        """Return the contents of a checkpoint; all processes call this together."""
        return {
            "model": self.model.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "scaler": self.scaler.state_dict(),
            "random": self._random(),
            **({"average": self.average.state()} if self.average else {}),
        }

    def restore(self, values: Mapping[str, Any]) -> None:
        """Restore what `state` returned.

        Parameters
        ----------
        values : mapping
            What `state` returned.
        """
        self.model.load_state_dict(values["model"])
        self.optimiser.load_state_dict(values["optimiser"])
        if values["scaler"]:  # empty unless the run trained in fp16 so far
            self.scaler.load_state_dict(values["scaler"])
        if self.average:
            self.average.restore(values["average"])
        if len(values["random"]) == self.processes.world:
            own = values["random"][self.processes.rank]
            if self.processes.device == "cpu":
                torch.set_rng_state(own)
            else:
                torch.cuda.set_rng_state(own, self.processes.device)

    def inputs(self, batch: Batch, start: int, stop: int) -> tuple[Tensor, Tensor]:
        """Return the network's input for some videos of a batch, and their targets.

        Parameters
        ----------
        batch : Batch
            Videos of a step.
        start, stop : int
            First video, and video after the last.

        Returns
        -------
        x : float32 or half precision (stop - start, segments, channels, side, side)
            Normalised snippets.
        targets : int64 (stop - start,) or float32 (stop - start, classes)
            Targets, see `targets_of`.
        """
        device, behind = self.processes.device, min(stop, len(batch)) + batch.mixes
        # Mixtures stay float32, because rounding both before and after mixing would be less exact.
        dtype = self._amp if self._amp and not batch.mixes else torch.float32
        x = network_input(
            batch.images[start:behind], batch.samples[start:behind], self.input, self.row,
            stream=self.stream, device=device, dtype=dtype,
        )  # fmt: skip
        labels = batch.labels[start:behind].to(device, non_blocking=True)
        as_weights = batch.mixes or self.stream.loss.name == "bce"
        targets = targets_of(labels, self.model.new_fc.out_features, as_weights=as_weights)
        if batch.mixes:
            mixing = batch.samples[start : behind - 1]
            shares = torch.tensor([sample.changes.share for sample in mixing])
            x, targets = mix_up(x, shares), mix_up(targets, shares)
        return x, targets

    def _forward(
        self, network: nn.Module, batch: Batch, start: int, stop: int
    ) -> tuple[Tensor, Tensor]:
        """Return logits, in single precision, and targets of some videos of a batch."""
        x, targets = self.inputs(batch, start, stop)
        with torch.autocast(self._kind, self._amp) if self._amp else nullcontext():
            logits = network(x)
        return logits.float(), targets

    def _random(self) -> list[Tensor]:
        """Return the state of the random generator of every process, uint8."""
        cuda = self.processes.device != "cpu"
        own = torch.cuda.get_rng_state(self.processes.device) if cuda else torch.get_rng_state()
        return self.processes.gather(own)


def measure(loss: Tensor, logits: Tensor, targets: Tensor) -> Tensor:
    """Return loss and hits of some videos, on the device.

    Parameters
    ----------
    loss : float ()
        Sum of the losses.
    logits : float (B, C)
        Logits.
    targets : int64 (B,) or float (B, C)
        Targets, see `targets_of`.

    Returns
    -------
    float64 (MEASURED,)
        Loss, correct top-1 and correct top-5.
    """
    logits = logits.detach()
    figures = (loss.detach(), hits(logits, targets), hits(logits, targets, 5))
    return torch.stack([figure.double() for figure in figures])
