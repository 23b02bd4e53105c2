"""Parameter types of paths on the command line -> checked paths, URLs and recipe names."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Any

import click

from flowpipe.params import SUFFIXES
from flowpipe.remote import PathOrUrl, is_url, parse_path_or_url
from flowpipe.splits import split_name


class PathOrUrlType(click.ParamType):
    """A path or URL to read."""

    name = "path"

    def convert(
        self, value: Any, parameter: click.Parameter | None, context: click.Context | None
    ) -> PathOrUrl:
        if not str(value):
            self.fail("the path is empty", parameter, context)
        return parse_path_or_url(value)


class LocalPath(click.Path):
    """A path on a local disk, to read or to write.

    URLs are rejected: only videos and their lists can be read from URLs. A path below a file, or
    with a name that no file system accepts, is rejected before any work is done.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(path_type=Path, **options)

    def convert(
        self,
        value: str | os.PathLike[str],
        param: click.Parameter | None,
        ctx: click.Context | None,
    ) -> Any:
        text = os.fspath(value)
        if not text:
            self.fail("the path is empty", param, ctx)
        if text == "-" and self.allow_dash:
            return super().convert(value, param, ctx)
        if is_url(text):
            self.fail(
                f"{text} is a URL, and this must be a path on a local disk; stores and results are "
                "written locally and can be copied from there",
                param,
                ctx,
            )
        path = Path(text)
        if wrong := _wrong_above(path):
            self.fail(f"{text}: {wrong}", param, ctx)
        if not self.file_okay and path.is_file():
            self.fail(f"{text} is a file; wanted a folder", param, ctx)
        if not self.dir_okay and path.is_dir():
            self.fail(f"{text} is a folder; wanted a file", param, ctx)
        return super().convert(value, param, ctx)


class RecipeName(click.ParamType):
    """Name of a recipe or path of its YAML file, as text."""

    name = "name"

    def convert(
        self, value: Any, parameter: click.Parameter | None, context: click.Context | None
    ) -> str:
        text = str(value)
        if not text or is_url(text) or Path(text).suffix in SUFFIXES:
            FILE.convert(text, parameter, context)
        return text


class SplitFile(click.ParamType):
    """``[SPLIT=]FILE`` -> (split, file); the split is empty if it is not given.

    Parameters
    ----------
    file : ParamType
        Type of the part after the equals sign.
    """

    name = "file"

    def __init__(self, file: click.ParamType) -> None:
        self._file = file

    def convert(
        self, value: Any, parameter: click.Parameter | None, context: click.Context | None
    ) -> tuple[str, Any]:
        if isinstance(value, tuple):  # click converts some values twice
            return value
        split, equals, path = str(value).partition("=")
        if not equals:
            split, path = "", str(value)
        return split_name(split), self._file.convert(path, parameter, context)


PLACE = PathOrUrlType()
RECIPE = RecipeName()
FILE = LocalPath(dir_okay=False)
"""A file to write, or to read where the reader reports that it is missing."""
FILE_OR_FOLDER = LocalPath()
"""A file or folder to read; the reader reports that it is missing."""
FILE_THERE = LocalPath(exists=True, dir_okay=False)
SPLIT_FILE, SPLIT_PLACE = SplitFile(FILE_THERE), SplitFile(PLACE)
"""List file of a split; `SPLIT_PLACE` accepts a URL too."""
FOLDER = LocalPath(file_okay=False)
"""A folder to write; it need not exist yet."""
FOLDER_THERE = LocalPath(exists=True, file_okay=False)
THERE = LocalPath(exists=True)
"""A file or folder to read."""


def _wrong_above(path: Path) -> str:
    """Return why a path can never exist, such as a file above it; empty if it can."""
    for each in (path, *path.absolute().parents):
        try:
            mode = os.stat(each).st_mode
        except FileNotFoundError:
            if each.is_symlink():
                return f"{each} is a symbolic link to a missing file"
            continue
        except NotADirectoryError:
            continue
        except PermissionError:
            return ""  # the code that opens it reports this
        except (OSError, ValueError) as error:
            return f"no file can have this name: {getattr(error, 'strerror', None) or error}"
        if each is not path and not stat.S_ISDIR(mode):
            return f"{each} is a file, not a folder"
        return ""
    return ""
