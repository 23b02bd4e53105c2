"""ExtractRecipe: the ``extract`` section of a recipe, all settings that determine stored bytes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

from flowpipe import codec, flow
from flowpipe.audio import AudioParams, why_no_librosa
from flowpipe.flow.features import why_no_detector
from flowpipe.flow.warped import WarpParams
from flowpipe.modality import MODALITIES, check_modalities
from flowpipe.video import VideoParams


@dataclass(frozen=True)
class SizeParams:
    """Size of the stored images, pixels; frames are resized before the flow is computed.

    ``width`` and ``height`` give the exact size (340x256 as in TSN). ``short_side`` gives the
    length of the shorter side and keeps the aspect ratio; it enlarges small videos too. If all are
    0, the size of the video is kept.
    """

    TOGETHER: ClassVar = ("width", "height")
    """Fields that a recipe gives together or not at all, see `flowpipe.params.build`."""
    width: int = 340
    height: int = 256
    short_side: int = 0

    def __post_init__(self) -> None:
        if min(self.width, self.height, self.short_side) < 0:
            raise ValueError("width, height and short_side must not be negative")
        if (self.width == 0) != (self.height == 0):
            raise ValueError("width and height must both be given, or both be 0")
        if self.short_side and self.width:
            raise ValueError("short_side needs width: 0 and height: 0")

    def target(self, height: int, width: int) -> tuple[int, int]:
        """Return the size of the images made from frames of a size.

        Parameters
        ----------
        height, width : int
            Size of the frames, pixels.

        Returns
        -------
        (height, width)
            Size of the images, pixels.
        """
        if self.width:
            return self.height, self.width
        if not self.short_side:
            return height, width
        scale = self.short_side / min(height, width)
        return max(1, round(height * scale)), max(1, round(width * scale))


@dataclass(frozen=True, kw_only=True)
class ExtractRecipe:
    """Settings that determine the stored bytes; each section's class is beside the code it sets."""

    modalities: tuple[str, ...] = ("rgb", "flow")
    video: VideoParams = field(default_factory=VideoParams)
    size: SizeParams = field(default_factory=SizeParams)
    flow: Any = field(
        default_factory=lambda: flow.FLOWS["tvl1"].params(),
        metadata={"choices": {name: row.params for name, row in flow.FLOWS.items()}},
    )
    bound: float = 20.0
    """Largest displacement kept, in pixels of the stored size; larger ones saturate."""
    warp: WarpParams = field(default_factory=WarpParams)
    audio: AudioParams | None = field(default=None, metadata={"omit_default": True})
    """Spectrograms of the sound; None for a recipe without such a modality."""
    codecs: Mapping[str, Any] = field(
        default_factory=dict,
        metadata={"choices": {name: row.params for name, row in codec.CODECS.items()}},
    )
    """Codec by modality; default, and meaning of ``auto``: the codec of the modality's row."""

    def __post_init__(self) -> None:
        check_modalities("modalities", self.modalities)
        check_modalities("codecs", self.codecs or self.modalities)
        if len(set(self.modalities)) < len(self.modalities):
            raise ValueError(f"modalities must not repeat, got {', '.join(self.modalities)}")
        if not 0 < self.bound <= 1000:
            raise ValueError(f"bound must be in (0, 1000] pixels, got {self.bound}")
        # Table order and explicit codecs: equivalent recipes have the same digest.
        ordered = tuple(name for name in MODALITIES if name in self.modalities)
        codecs = {
            n: codec.for_modality(self.codecs.get(n) or codec.default_params(n), n) for n in ordered
        }
        object.__setattr__(self, "modalities", ordered)
        object.__setattr__(self, "codecs", codecs)
        # Recipes without sound keep the digest that they had before it could be stored.
        object.__setattr__(self, "audio", (self.audio or AudioParams()) if self.sounds else None)
        if self.flows < 2 and self.warp.estimator == WarpParams.estimator:
            # Without warped flow the estimator has no effect. Recipes keep the digest from when
            # `ransac` was the default, so that stores made with them accept new videos.
            object.__setattr__(self, "warp", replace(self.warp, estimator="ransac"))

    @property
    def sounds(self) -> tuple[str, ...]:
        """Modalities that are made from the sound."""
        return tuple(name for name in self.modalities if MODALITIES[name].from_sound)

    @property
    def flows(self) -> int:
        """Number of flow fields computed per pair of frames: 0, 1, or 2 with warped flow."""
        return max(MODALITIES[name].flows for name in self.modalities)

    def lacks(self, device: str) -> list[str]:
        """Explain which libraries this recipe lacks.

        Only the needs of the recipe's modalities are checked. No GPU is opened.

        Parameters
        ----------
        device : str
            Device that computes.

        Returns
        -------
        list of str
            Sentences; empty if nothing is lacking.
        """
        words = []
        if self.flows > 0:
            words.append(flow.FLOWS[self.flow.name].why_not())
        if self.flows > 1:
            words.append(why_no_detector(self.warp.detector, device))
        if self.sounds:
            words.append(why_no_librosa())
        return [lack for lack in words if lack]

    @property
    def needs_whole_video(self) -> bool:
        """True if a video must not be split in time."""
        return self.warp.needs_whole_video and self.flows > 1
