"""TrainJob: data, run folder and options of a training run; whether its stores agree."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass
from pathlib import Path

from flowpipe.errors import UsageError
from flowpipe.store import Store
from flowpipe.tsn.recipe import TrainRecipe


@dataclass(frozen=True)
class TrainJob:
    """Data, run folder and options of a training run."""

    store: Path
    run: Path
    recipe: TrainRecipe
    modality: str
    split: int = 1
    _: KW_ONLY
    device: str = "cpu"
    workers: int = 2
    seed: int = 1
    amp: str = "off"
    """``bf16`` or ``fp16``: automatic mixed precision."""
    accumulate: int = 1
    """Gradient accumulation steps, to save memory. The gradient is that of the whole batch, except
    that dropout is drawn per accumulation step and unfrozen batch normalisation has the statistics
    of each step, as with several processes."""
    weights: Path | None = None
    """Run or file of weights that initialises the backbone; see `initialise_backbone`."""
    validate_every: int = 5
    """Epochs between validations; the last epoch is always validated."""
    save_s: float = 600.0
    """Seconds between checkpoints inside an epoch."""
    keep_every: int = 0
    """Epochs between checkpoints that are kept, ``epoch-010.pt``; 0 keeps none."""
    log_every: int = 20
    """Steps between log lines, and between reads of the device's figures."""
    deterministic: bool = False
    """Use deterministic GPU kernels; a CPU is deterministic anyway."""
    compile: bool = False
    """Compile the network with torch.compile."""
    tensorboard: bool = False
    also: tuple[Path, ...] = ()
    """Other stores with the same classes; all their labelled videos are trained on too."""


def check_same_recipe(store: Store, other: Store, modality: str) -> None:
    """Check that the videos of two stores can be trained on together.

    Parameters
    ----------
    store : Store
        Store that is trained on.
    other : Store
        Store to be added.
    modality : str
        Modality that is read.

    Raises
    ------
    UsageError
        If the stores differ in classes or quantisation, or `other` lacks the modality.
    """
    if other.header.class_names != store.header.class_names:
        raise UsageError(
            f"{other.path} has other classes ({len(other.header.class_names)}) than {store.path} "
            f"({len(store.header.class_names)}): the same names in the same order are needed"
        )
    if modality not in other.modalities:
        raise UsageError(f"{other.path} has {', '.join(other.modalities)}, not {modality}")
    if other.quantiser(modality) != store.quantiser(modality):
        raise UsageError(
            f"bytes of {modality} mean {other.quantiser(modality)} in {other.path} and "
            f"{store.quantiser(modality)} in {store.path}; extract with the same bound"
        )
