"""LAYOUTS: how other tools name and number the frames of a video in a folder."""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import KW_ONLY, dataclass
from typing import Literal

from flowpipe.modality import MODALITIES

Pairing = Literal["start", "end"]
"""Frame of its pair that has the number of a flow field: the first or the second."""

WEBDATASET = "webdataset"
"""Name of the layout of tars that webdataset reads."""

FOLDER_PATTERNS = {
    name: re.compile(rf"{row.other_stems}_?(?P<number>\d+)\.(?:jpe?g|png)")
    for name, row in MODALITIES.items()
    if row.other_stems
}
"""File names in folders of other tools: numbers of any width; also x_00001.jpg, image_0001.jpg."""


@dataclass(frozen=True)
class FolderLayout:
    """Row of `LAYOUTS`: numbering, pairing and lists of one tool."""

    name: str
    first: int
    """Number of the first flow field."""
    pairing: Pairing
    _: KW_ONLY
    lists: tuple[str, ...]
    """Kinds of list files that readers of this layout take."""
    summary: str
    """Description for help texts."""
    by_class: bool = False
    """True if videos with one label lie in a folder named by their class."""

    def number(self, modality: str, k: int) -> int:
        """Return the number of an image in its file name.

        Parameters
        ----------
        modality : str
            Modality of the image.
        k : int
            Number of the image, from 0.

        Returns
        -------
        int
            Number; below `first` the image has no file.
        """
        row = MODALITIES[modality]
        behind = self.pairing == "end" and not row.context and not row.from_sound
        return self.first + k - behind

    def count_skipped(self, modality: str) -> int:
        """Count the images at the beginning of a video that have no file.

        Parameters
        ----------
        modality : str
            Modality of the images.

        Returns
        -------
        int
            Number of images.
        """
        return self.first - min(self.first, self.number(modality, 0))


LAYOUTS = {
    row.name: row
    for row in (
        FolderLayout(
            "dense_flow", 1, "end", lists=("tsn", "mmaction2"),
            summary="as TSN's extract_gpu: from 1; img_k is the second frame of flow_k; the first "
            "frame is left out",
        ),
        FolderLayout(
            "denseflow", 0, "start", lists=("mmaction2",),
            summary="as open-mmlab's denseflow: from 0; img_k is the first frame of flow_k",
        ),
        FolderLayout(
            "mmaction2", 1, "start", lists=("tsn", "mmaction2"),
            summary="as mmaction2's build_rawframes: from 1; img_k is the first frame of flow_k; "
            "in folders by class",
            by_class=True,
        ),
    )
}  # fmt: skip

_UNSAFE = re.compile(r"[\s%/\\\x00-\x1f\x7f]|^\.")
_MOST_BYTES = 200


def file_names(modality: str, number: int, extension: str) -> tuple[str, ...]:
    """Return the file names of one image.

    Parameters
    ----------
    modality : str
        Modality of the image.
    number : int
        Number in the names.
    extension : str
        ``.jpg`` or ``.png``.

    Returns
    -------
    tuple of str
        One name, or one for each axis of a flow field.
    """
    return tuple(f"{stem}_{number:05d}{extension}" for stem in MODALITIES[modality].files)


def folder_paths(wanted: Mapping[str, str]) -> dict[str, str]:
    """Return the folder of each video below the root of an export.

    A slash begins a subfolder. White space and the other characters that `safe_name` replaces
    become ``_``. Videos whose folders would coincide, or lie in each other, get the name that
    `safe_name` makes of the whole path.

    Parameters
    ----------
    wanted : mapping
        Wanted path by video id.

    Returns
    -------
    dict of str to str
        Folder by video id.

    Examples
    --------
    >>> folder_paths({"a": "sit down/clip 1", "b": "x y", "c": "x_y", "d": "z", "e": "z/1"})
    {'a': 'sit_down/clip_1', 'b': 'x%20y', 'c': 'x_y', 'd': 'z', 'e': 'z%2F1'}
    """
    folders = {video_id: _readable(path) for video_id, path in wanted.items()}
    spelt: set[str] = set()
    while True:
        counts = Counter(folders.values())
        clashing = {
            video_id
            for video_id, folder in folders.items()
            if video_id not in spelt
            and (counts[folder] > 1 or any(above in counts for above in _above(folder)))
        }
        if not clashing:
            return folders
        spelt |= clashing
        folders |= {video_id: safe_name(wanted[video_id]) for video_id in clashing}


def _readable(path: str) -> str:
    parts = [safe_name(_UNSAFE.sub("_", part)) for part in path.split("/") if part]
    return "/".join(parts) or "_"


def _above(folder: str) -> list[str]:
    parts = folder.split("/")
    return ["/".join(parts[:k]) for k in range(1, len(parts))]


def safe_name(name: str, also: str = "") -> str:
    """Return a video id or class as a folder name without white space, as list files need it.

    White space, slashes, percent signs, a leading dot and the characters `also` become %XX. A very
    long name is cut, and a digest is appended.

    Parameters
    ----------
    name : str
        Video id or class.
    also : str
        Other characters to replace.

    Returns
    -------
    str
        Folder name.

    Examples
    --------
    >>> safe_name("a b/c.d")
    'a%20b%2Fc.d'
    """

    def quote(found: re.Match[str]) -> str:
        return "".join(f"%{byte:02X}" for byte in found[0].encode())

    safe = _UNSAFE.sub(quote, name)
    for char in also:
        safe = safe.replace(char, f"%{ord(char):02X}")
    raw = safe.encode()
    if len(raw) <= _MOST_BYTES:
        return safe
    digest = hashlib.sha256(raw).hexdigest()[:16]
    return f"{raw[: _MOST_BYTES - 17].decode(errors='ignore')}~{digest}"
