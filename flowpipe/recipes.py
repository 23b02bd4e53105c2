"""Name or file of a recipe + settings -> its sections: ExtractRecipe and TrainRecipe."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from flowpipe import params
from flowpipe.errors import RecipeError, UsageError
from flowpipe.extraction.recipe import ExtractRecipe
from flowpipe.tsn.recipe import TrainRecipe
from flowpipe.words import did_you_mean, suggest, unknown_name

SECTIONS: Mapping[str, type[Any]] = {"extract": ExtractRecipe, "train": TrainRecipe}
DEFAULT = "default"


@dataclass(frozen=True)
class RecipeFile:
    """A recipe as written; `values` are plain, by section."""

    path: Path
    values: Mapping[str, Mapping[str, Any]]

    @property
    def summary(self) -> str:
        """Purpose of the recipe, from its first comment line."""
        first = self.path.read_text(encoding="utf-8").partition("\n")[0]
        return first.lstrip("# ").strip()

    def build(self, settings: Sequence[str] = ()) -> tuple[ExtractRecipe, TrainRecipe | None]:
        """Make both sections of the recipe.

        Parameters
        ----------
        settings : sequence of str
            ``section.key=value`` settings to apply.

        Returns
        -------
        extract : ExtractRecipe
            What is stored.
        train : TrainRecipe or None
            How networks are trained; None without that section.

        Raises
        ------
        RecipeError
            With every mistake of both sections, a line each.
        """
        values = params.override(self.values, settings)
        mistakes = _strange_sections(self.path, values)
        made: dict[str, Any] = {}
        for name, cls in SECTIONS.items():
            if name == "train" and name not in values:
                continue
            try:
                made[name] = params.build(cls, values.get(name) or {}, where=name)
            except RecipeError as error:
                mistakes.append(str(error))
        if mistakes:
            raise RecipeError("\n".join(mistakes))
        return made["extract"], made.get("train")


def pipelines_folder() -> Path:
    """Return the folder of the recipes: in the installed package, or beside it in a checkout."""
    package = Path(__file__).resolve().parent
    installed = package / "_pipelines"
    return installed if installed.is_dir() else package.parent / "pipelines"


def known_names() -> list[str]:
    """Return the names of the recipes that come with flowpipe."""
    return sorted(path.stem for path in pipelines_folder().glob("*.yaml"))


def read_recipe(name: str) -> RecipeFile:
    """Read a recipe.

    Parameters
    ----------
    name : str
        Name of a shipped recipe, or a file that ends in .yaml or .yml.

    Returns
    -------
    RecipeFile
        Plain values of the recipe.

    Raises
    ------
    UsageError
        If the name is unknown; the message has the nearest.
    RecipeError
        If the file cannot be read or is no YAML with the sections of a recipe.
    """
    if Path(name).suffix in params.SUFFIXES:
        path = Path(name)
    elif name in known_names():
        path = pipelines_folder() / f"{name}.yaml"
    else:
        if Path(name).exists():
            raise UsageError(
                f"recipe {name}: the name of a recipe file must end in "
                f"{' or '.join(params.SUFFIXES)}; rename it"
            )
        raise UsageError(unknown_name("recipe", name, known_names()))
    return RecipeFile(path, params.load(path))


def recipe_of(dataset: str) -> RecipeFile:
    """Return a data set's own recipe, or the default one.

    Parameters
    ----------
    dataset : str
        Name of a data set.

    Returns
    -------
    RecipeFile
        Plain values of the recipe.
    """
    return read_recipe(dataset if dataset in known_names() else DEFAULT)


def _strange_sections(path: Path, values: Mapping[str, Any]) -> list[str]:
    mistakes = []
    for name in values:
        if name not in SECTIONS:
            owners = [s for s, cls in SECTIONS.items() if name in {f.name for f in fields(cls)}]
            places = [f"{section}.{name}" for section in owners]
            hint = suggest(places) if places else did_you_mean(str(name), SECTIONS)
            mistakes.append(f"{path}: section {name} is unknown; {hint}")
    return mistakes
