"""How networks are trained, tested and fused: TrainRecipe, the ``train`` section of a recipe."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from operator import attrgetter
from typing import Literal

from flowpipe.modality import MODALITIES, check_modalities
from flowpipe.words import count_noun, unknown_name

BACKBONES = (
    "bninception", "inception_v3", "googlenet", "vgg16", "resnet18", "resnet50", "resnet101",
    "resnet152", "efficientnet_lite0", "audio_vgg",
)  # fmt: skip
"""Networks known by name; ``timm:NAME`` is any other."""
SMALLEST_INPUT_PX = 32
RUN_FILE, LOG_FILE = "run.json", "log.csv"
"""Files in the folder of a run: its facts, and a row for each epoch."""
LR_STEPS = (30, 60)
"""Default of `ScheduleParams.lr_steps`."""


@dataclass(frozen=True, kw_only=True)
class ScheduleParams:
    """Optimiser and learning rate of one stream. `end`, `lr_steps`, `warmup` count in `unit`."""

    lr: float = 0.001
    unit: Literal["iterations", "epochs"] = "epochs"
    """Iterations, as in the solvers of the paper, or epochs, as in tsn-pytorch."""
    lr_steps: tuple[int, ...] = LR_STEPS
    """Points at which the learning rate is multiplied by `lr_decay`; only with ``step``."""
    lr_decay: float = 0.1
    end: int = 80
    batch_size: int = 128
    """Videos in a step over all devices."""
    lr_policy: Literal["step", "cosine"] = "step"
    """``cosine``: half a cosine from `lr` after the warm-up to 0 at `end`, changed at each step."""
    warmup: int = 0
    """Length of the linear warm-up of the learning rate, changed at each step; 0 for none."""
    warmup_factor: float = 0.1
    """Multiplier of the learning rate in the first step of the warm-up."""
    optimiser: Literal["sgd", "adamw"] = "sgd"
    """``sgd`` with momentum, or ``adamw``: Adam with decoupled weight decay."""
    momentum: float = 0.9
    """Momentum of ``sgd``."""
    betas: tuple[float, ...] = (0.9, 0.999)
    """Decay rates of the two moments of ``adamw``."""
    weight_decay: float = 5e-4
    multipliers: Literal["tsn", "uniform"] = "tsn"
    """Learning rates and weight decay by kind of weight. ``tsn``: biases have twice the learning
    rate, the first layer of flow five times; biases and batch normalisation do not decay.
    ``uniform``: all alike, as mmaction2."""
    classifier_lr: float = 1.0
    """Multiplier of the classifier's learning rate; 5 in the code of TSM."""
    clip_gradient: float = 20.0
    """Largest L2 norm of all gradients together; 0 for no limit."""
    ema: float = 0.0
    """Share that a step keeps of the exponential moving average of the weights, which is validated
    instead of the weights themselves, such as 0.999; 0 for no average."""

    def __post_init__(self) -> None:
        if not (
            min(self.lr, self.classifier_lr) > 0
            and 0 < self.lr_decay <= 1
            and 0 <= self.momentum < 1
        ):
            raise ValueError(
                "wanted lr and classifier_lr > 0, lr_decay in (0, 1] and momentum in [0, 1)"
            )
        if min(self.end, self.batch_size) < 1 or min(self.weight_decay, self.clip_gradient) < 0:
            raise ValueError("end and batch_size must be at least 1, decay and clip not negative")
        if not 0 <= self.ema < 1:
            raise ValueError(f"ema must be in [0, 1), got {self.ema}")
        if len(self.betas) != 2 or not all(0 <= beta < 1 for beta in self.betas):
            raise ValueError(f"betas must be two numbers in [0, 1), got {list(self.betas)}")
        if not 0 <= self.warmup < self.end or not 0 <= self.warmup_factor <= 1:
            raise ValueError(
                f"warmup must lie in [0, end = {self.end}) and warmup_factor in [0, 1], got "
                f"{self.warmup} and {self.warmup_factor}"
            )
        if self.lr_policy == "cosine":
            if self.lr_steps not in ((), LR_STEPS):
                raise ValueError(
                    f"lr_policy cosine has no steps, got lr_steps {list(self.lr_steps)}; set "
                    "lr_steps to []"
                )
        elif list(self.lr_steps) != sorted(set(self.lr_steps)) or any(
            not 0 < step < self.end for step in self.lr_steps
        ):
            raise ValueError(
                f"lr_steps must increase and lie inside (0, end = {self.end}), got "
                f"{list(self.lr_steps)}; set lr_steps too, to [] for a constant learning rate"
            )


@dataclass(frozen=True)
class ColourJitterParams:
    """Random changes of colour, as torchvision's ColorJitter; 0 for none."""

    brightness: float = 0.0
    """Factors are drawn from 1 - `brightness` to 1 + `brightness`; likewise the next two."""
    contrast: float = 0.0
    saturation: float = 0.0
    hue: float = 0.0
    """Shifts are drawn from -`hue` to `hue`, in turns of the colour circle; at most 0.5."""

    def __post_init__(self) -> None:
        if min(vars(self).values()) < 0 or self.hue > 0.5:
            raise ValueError(
                f"brightness, contrast and saturation must not be negative and hue must lie in "
                f"[0, 0.5], got {', '.join(f'{k} {v:g}' for k, v in vars(self).items())}"
            )


@dataclass(frozen=True, kw_only=True)
class AugmentParams:
    """Augmentation of training, with one draw for all snippets of a video."""

    scales: tuple[float, ...] = (1.0, 0.875, 0.75, 0.66)
    """Sides of a crop as shares of the stored short side."""
    crops: Literal["5", "13", "random", "resized"] = "13"
    """Places of a crop: corners and centre, eight more of TSN's, or anywhere. ``resized``: a crop
    anywhere of random area and aspect ratio, mmaction2's RandomResizedCrop, instead of `scales`."""
    area: tuple[float, ...] = (0.08, 1.0)
    """Smallest and largest area of a ``resized`` crop as shares of the image."""
    aspect: tuple[float, ...] = (3 / 4, 4 / 3)
    """Smallest and largest width of a ``resized`` crop divided by its height."""
    flip: bool = True
    antialias: bool = True
    """Antialias when shrinking, as PIL does; Caffe's and OpenCV's bilinear filters do not."""
    colour_jitter: ColourJitterParams = ColourJitterParams()
    """Jitter of the colours of rgb."""
    mixup: float = 0.0
    """Parameter alpha of mixup: each video is mixed with the next one of the batch, with a share
    drawn from Beta(alpha, alpha); 0 for none."""

    def __post_init__(self) -> None:
        if not self.scales or not all(0 < scale <= 1 for scale in self.scales):
            raise ValueError(f"scales must be in (0, 1], got {list(self.scales)}")
        if self.mixup < 0:
            raise ValueError(f"mixup must not be negative, got {self.mixup}")
        if len(self.area) != 2 or not 0 < self.area[0] <= self.area[1] <= 1:
            raise ValueError(
                f"area must be two increasing numbers in (0, 1], got {list(self.area)}"
            )
        if len(self.aspect) != 2 or not 0 < self.aspect[0] <= self.aspect[1] < math.inf:
            raise ValueError(
                f"aspect must be two increasing numbers above 0, got {list(self.aspect)}"
            )


@dataclass(frozen=True)
class LossParams:
    """Loss of training."""

    name: Literal["cross_entropy", "bce"] = "cross_entropy"
    """``cross_entropy`` of the softmax, or ``bce``: binary cross-entropy of every class, for videos
    with several labels, which are one sample then; summed over the classes."""
    label_smoothing: float = 0.0
    """Share of a target that is spread evenly over all classes; only with ``cross_entropy``."""

    def __post_init__(self) -> None:
        if not 0 <= self.label_smoothing < 1:
            raise ValueError(f"label_smoothing must be in [0, 1), got {self.label_smoothing}")
        if self.name == "bce" and self.label_smoothing:
            raise ValueError(
                f"label_smoothing works with cross_entropy only; set it to 0 for bce, got "
                f"{self.label_smoothing}"
            )


Sampling = Literal["tsn_pytorch", "caffe", "mmaction2", "dense"]
"""Sampling strategies: tsn-pytorch's, Caffe-TSN's, mmaction2's SampleFrames and its
DenseSampleFrames. See `flowpipe.tsn.data.sampling`."""

NormalisationName = Literal["backbone", "caffe", "mmaction1", "mmaction2", "tsn_pytorch"]
"""Input normalisations: that of the backbone's ImageNet weights, or the one that another system
trained its weights with. See `flowpipe.tsn.data.normalisation`."""

Compat = Literal["mmaction2_flip", "mmaction2_ten_crop", "tsn_pytorch_diff"]
"""Known bugs of other systems.

``mmaction2_flip``: in training, mirroring flow turns x and y of every second field around, and
nothing of the others (mmaction2 1.x). ``mmaction2_ten_crop``: in testing, mirrored crops of flow
keep the sign of x. ``tsn_pytorch_diff``: in testing, frames are normalised as colours before they
are subtracted, the first one otherwise than the rest; without effect on BN-Inception.
"""


@dataclass(frozen=True, kw_only=True)
class StreamParams:
    """The network of one modality."""

    backbone: str = "bninception"
    init: Literal["imagenet", "cross_modality", "random"] = "imagenet"
    """``cross_modality``: ImageNet's, the first layer averaged over colours and repeated.
    ``imagenet`` has a random first layer where the modality is not rgb. With ``--weights`` those
    stand for ImageNet's, and this says what a first layer of another modality begins with."""
    init_stream: str = ""
    """Stream whose trained network a new one starts from instead of ImageNet's weights: the run of
    the same split beside the new run. Empty for none."""
    input_size: int = 0
    """Side of the network's input, pixels. 0: that of the backbone's ImageNet weights, 224 or 299.
    A smaller input takes less time."""
    segments: int = 3
    snippet_length: int = 1
    """Images of a snippet: 1 of rgb, 5 of the others in the papers."""
    sampling: Sampling = "tsn_pytorch"
    """Snippet sampling strategy of training, validation and testing."""
    pixels: NormalisationName = "backbone"
    """Input normalisation that the weights expect."""
    consensus: Literal["average", "max", "top_k", "linear", "attention", "feature_average"] = (
        "average"
    )
    """``feature_average`` is mmaction's: one dropout for the mean of the features, one score."""
    top_k: int = 3
    """Snippets that consensus ``top_k`` averages."""
    dropout: float = 0.8
    classifier_std: float = 0.001
    """Standard deviation of the classifier's initial weights; 0.01 in mmaction2."""
    partial_bn: bool = True
    """Freeze statistics, scales and shifts of all batch normalisation layers but the first."""
    sync_bn: bool = False
    """Synchronise batch normalisation: unfrozen layers use the statistics of all GPUs."""
    loss: LossParams = field(default_factory=LossParams)
    schedule: ScheduleParams = field(default_factory=ScheduleParams)
    augment: AugmentParams = field(default_factory=AugmentParams)
    compat: tuple[Compat, ...] = ()
    """Known bugs of other systems to reproduce, where their weights or figures depend on them."""

    def __post_init__(self) -> None:
        if self.backbone not in BACKBONES and not self.backbone.startswith("timm:"):
            raise ValueError(unknown_name("backbone", self.backbone, [*BACKBONES, "timm:NAME"]))
        if min(self.segments, self.snippet_length, self.top_k) < 1 or not 0 <= self.dropout < 1:
            raise ValueError(
                "segments, snippet_length and top_k must be at least 1, dropout in [0, 1)"
            )
        if self.input_size and self.input_size < SMALLEST_INPUT_PX:
            raise ValueError(
                f"input_size must be 0 or at least {SMALLEST_INPUT_PX} pixels, got "
                f"{self.input_size}"
            )
        if self.augment.mixup and self.schedule.batch_size < 2:
            raise ValueError("augment.mixup mixes videos of a batch; set schedule.batch_size to 2")
        if self.consensus == "top_k" and self.top_k > self.segments:
            raise ValueError(
                f"top_k {self.top_k} of {count_noun(self.segments, 'segment')} is impossible"
            )

    def without_effect(self) -> list[str]:
        """Return the settings that differ from their defaults and have no effect, a line each."""
        resized, default = self.augment.crops == "resized", StreamParams()
        crops, optimiser = f"augment.crops {self.augment.crops}", self.schedule.optimiser
        unused = (
            ("augment.scales", resized, crops),
            ("augment.area", not resized, crops),
            ("augment.aspect", not resized, crops),
            ("schedule.betas", optimiser == "sgd", "schedule.optimiser sgd"),
            ("schedule.momentum", optimiser == "adamw", "schedule.optimiser adamw"),
            ("schedule.lr_decay", self.schedule.lr_policy == "cosine", "schedule.lr_policy cosine"),
            ("schedule.warmup_factor", not self.schedule.warmup, "schedule.warmup 0"),
            ("top_k", self.consensus != "top_k", f"consensus {self.consensus}"),
        )
        return [
            f"{name} has no effect with {why}"
            for name, is_unused, why in unused
            if is_unused and attrgetter(name)(self) != attrgetter(name)(default)
        ]


@dataclass(frozen=True, kw_only=True)
class TestParams:
    """Snippets, crops and pooling of a test."""

    protocol: Literal["dense", "mtwi"] = "dense"
    """``dense``: the consensus of `snippets` evenly spaced ones. ``mtwi``: multi-scale temporal
    window integration, for untrimmed videos."""
    snippets: int = 25
    """Snippets of ``dense``; where the stream's `sampling` is dense, in each of its ten ranges."""
    crops: Literal["1", "5", "10"] = "10"
    """Crops of a snippet: 1 the centre, 5 the corners too, 10 each of these mirrored too."""
    of_crops: Literal["auto", "mean", "max"] = "auto"
    """Pooling of the crop scores of a snippet. ``auto``: the mean, but the maximum for `mtwi`
    ``code``, as in the authors' code."""
    consensus: Literal["trained", "average", "max", "top_k", "linear", "attention"] = "trained"
    """Consensus of the snippets of ``dense``, or of the windows of ``mtwi``. ``trained``: that of
    the training; ``mtwi`` takes top_k unless attention was trained."""
    top_k: int = 0
    """Snippets or windows that consensus ``top_k`` averages. 0: as many as in training; for
    ``mtwi`` a quarter of the windows and at least 15."""
    rate_hz: float = 1.0
    """Snippets a second of ``mtwi``."""
    windows: tuple[int, ...] = (1, 2, 4, 8, 16)
    """Lengths of the windows of ``mtwi`` in snippets."""
    mtwi: Literal["code", "paper"] = "code"
    """Windows of ``mtwi``: those of the authors' code, which cover the video, or of the paper's
    formula, which may leave out its end. See `flowpipe.tsn.testing.mtwi`."""

    def __post_init__(self) -> None:
        if self.snippets < 1 or not self.windows or min(self.windows) < 1:
            raise ValueError("snippets and windows must be at least 1")
        if not 0 < self.rate_hz < math.inf:
            raise ValueError(f"rate_hz must be positive and finite, got {self.rate_hz:g}")
        if self.top_k < 0:
            raise ValueError(f"top_k must be 0 or more, got {self.top_k}")
        if self.protocol == "mtwi" and self.consensus == "linear":
            raise ValueError("consensus linear weighs segments by their place; mtwi has windows")


_STREAMS = ("rgb",)  # of a recipe that names none


@dataclass(frozen=True)
class TrainRecipe:
    """Streams of a data set, their test and the weights of their fusion."""

    splits: tuple[int, ...] = (1,)
    """Split k trains on the videos of ``train<k>`` and tests on those of ``test<k>``."""
    samples: Literal["videos", "instances"] = "videos"
    """Samples of training: a whole video for each of its labels, or a labelled instance."""
    streams: Mapping[str, StreamParams] = field(
        default_factory=lambda: dict.fromkeys(_STREAMS, StreamParams())
    )
    """Network and training settings of each stream, by modality."""
    test: TestParams = field(default_factory=TestParams)
    fusion: Mapping[str, float] = field(default_factory=lambda: dict.fromkeys(_STREAMS, 1.0))
    """Weight of each stream's scores, which are added before any softmax."""

    def __post_init__(self) -> None:
        check_modalities("streams", self.streams)
        before: list[str] = []
        for name, stream in self.streams.items():
            jitter = stream.augment.colour_jitter
            if any(vars(jitter).values()) and MODALITIES[name].zero_level is not None:
                raise ValueError(
                    f"streams.{name}.augment.colour_jitter: {name} has no colours to jitter; "
                    "remove it"
                )
            if stream.init_stream and stream.init_stream not in before:
                raise ValueError(
                    f"streams.{name}.init_stream must be a stream that stands before {name} in the "
                    f"recipe, got {stream.init_stream}; before it: {', '.join(before) or 'none'}"
                )
            before.append(name)
        strange = [name for name in self.fusion if name not in self.streams]
        weights = self.fusion.values()
        if strange or not all(0 <= w < math.inf for w in weights) or not any(weights):
            raise ValueError(
                f"fusion must weigh some of the streams {', '.join(self.streams)} from 0 up and "
                f"one of them above 0, got {dict(self.fusion)}"
            )
        if not self.splits or min(self.splits) < 1 or len(set(self.splits)) < len(self.splits):
            raise ValueError(f"splits must be different numbers from 1, got {list(self.splits)}")
