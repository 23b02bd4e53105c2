"""Sidecar files of an export, in OUT/.flowpipe: everything that image files cannot hold.

One file has the store's header. One file for each video has its record, timestamps, columns and the
payloads that its files do not hold. It is written after all files of the video, so it also marks
the video as done.
"""

from __future__ import annotations

import json
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flowpipe import params, strict
from flowpipe.atomic import draft_of
from flowpipe.errors import FormatError, UsageError
from flowpipe.modality import MODALITIES
from flowpipe.store import Store
from flowpipe.types import VideoRecord

FOLDER = ".flowpipe"
_STORE = "export.json"
WRONG_VALUES = (ValueError, LookupError, TypeError, AttributeError)
"""Errors that Python raises where a sidecar file has other values than were written."""
_VERSION = 1


@dataclass(frozen=True, kw_only=True)
class StoreSidecar:
    """Values that all videos of an export share."""

    layout: str
    extensions: dict[str, str]
    """Extension of the files, by modality."""
    codecs: dict[str, dict[str, Any]]
    """Codec params of the store, by modality."""
    quantisers: dict[str, dict[str, Any]]
    """Quantisers of the store, by modality."""
    recipe: str
    """Canonical JSON, as in the store."""
    recipe_digest: str
    dataset: dict[str, Any]
    class_names: tuple[str, ...]
    quality: int = 0
    """JPEG quality of recompressed files."""
    content: str = ""
    """Digest of the videos of an export that cannot grow; else empty."""
    version: int = _VERSION

    @classmethod
    def of_store(
        cls,
        store: Store,
        layout: str,
        extensions: Mapping[str, str],
        *,
        quality: int = 0,
        content: str = "",
    ) -> StoreSidecar:
        """Describe an export of a store.

        Parameters
        ----------
        store : Store
            Exported store.
        layout : str
            Name of the layout.
        extensions : mapping of str to str
            Extension of the files by modality.
        quality : int
            JPEG quality of recompressed images; 0 for none.
        content : str
            What the tars hold; empty for folders.

        Returns
        -------
        StoreSidecar
            Header of the store, and its streams of these modalities.
        """
        header = store.header
        return cls(
            layout=layout,
            extensions=dict(extensions),
            codecs={name: store.codec(name) for name in extensions},
            quantisers={name: store.quantiser(name) for name in extensions},
            recipe=params.canonical(header.recipe),
            recipe_digest=header.recipe_digest,
            dataset=header.dataset,
            class_names=header.class_names,
            quality=quality,
            content=content,
        )

    def write(self, out: Path) -> None:
        """Begin an export, or check that an existing one has the same values.

        Parameters
        ----------
        out : Path
            Folder of the export.

        Raises
        ------
        UsageError
            If the folder has an export of another store or with other options.
        """
        there = self.read(out)
        if there is None:
            (out / FOLDER).mkdir(parents=True, exist_ok=True)
            text = json.dumps(asdict(self), indent=1, ensure_ascii=False) + "\n"
            with draft_of(out / FOLDER / _STORE) as draft:
                draft.write_text(text, encoding="utf-8")
        elif there != self:
            ours, theirs = asdict(self), asdict(there)
            different = [key for key in ours if ours[key] != theirs[key]]
            raise UsageError(
                f"{out} has an export of another store or with other options (different: "
                f"{', '.join(different)}); choose another folder"
            )

    @classmethod
    def read(cls, out: Path) -> StoreSidecar | None:
        """Read the notes of an export.

        Parameters
        ----------
        out : Path
            Folder of the export.

        Returns
        -------
        StoreSidecar or None
            The notes; None if flowpipe did not write the folder.

        Raises
        ------
        FormatError
            If they are damaged, or of another version.
        """
        path = out / FOLDER / _STORE
        try:
            values = strict.read_json(path)
            if values["version"] != _VERSION:
                raise FormatError(
                    f"{path} has version {values['version']}, this flowpipe knows {_VERSION}"
                )
            return cls(**{**values, "class_names": tuple(values["class_names"])})
        except FileNotFoundError:
            return None
        except (OSError, ValueError, TypeError, KeyError) as error:
            raise FormatError(f"{path} cannot be read: {error}") from error


@dataclass(frozen=True, kw_only=True)
class VideoSidecar:
    """Facts of one video, and the payloads that its image files do not hold."""

    meta: dict[str, Any]
    """Meta object of the video, as in the store."""
    images: dict[str, int]
    """Number of images by modality."""
    pts_s: NDArray[np.float64]
    """Timestamps of the frames, seconds, (N,)."""
    columns: dict[str, dict[str, NDArray[Any]]] = field(default_factory=dict)
    """Values per image, by modality and column name."""
    payloads: dict[str, list[bytes]] = field(default_factory=dict)
    """Payloads by modality, from the first image on, of images that the layout leaves out or whose
    files were recompressed."""
    crcs: dict[str, NDArray[np.uint32]] = field(default_factory=dict)
    """CRC-32 of the recompressed files, in the order of the images: (N, axes)."""

    def __post_init__(self) -> None:
        if not isinstance(self.meta, dict):
            raise ValueError(f"meta must be a JSON object, got {self.meta!r:.60}")
        VideoRecord.from_json(self.meta.get("record"))
        for name, count in self.images.items():
            if name not in MODALITIES or type(count) is not int or count < 0:
                raise ValueError(
                    f"images must be counts by modality, got {count!r:.60} of {name!r:.60}"
                )

    @classmethod
    def of_video(cls, store: Store, video_id: str, modalities: Sequence[str]) -> VideoSidecar:
        """Take the facts of a video from a store, without payloads.

        Parameters
        ----------
        store : Store
            Store of the video.
        video_id : str
            Id of the video.
        modalities : sequence of str
            Exported modalities.

        Returns
        -------
        VideoSidecar
            The facts.
        """
        video = store.videos[video_id]
        return cls(
            meta=video.meta,
            images={name: video.images[name] for name in modalities},
            pts_s=video.pts_s,
            columns={
                name: {
                    column.name: store.column(video_id, name, column.name)
                    for column in MODALITIES[name].columns
                }
                for name in modalities
            },
        )

    def write(self, path: Path) -> None:
        """Write the notes to an .npz file.

        Parameters
        ----------
        path : Path
            File to write.
        """
        arrays: dict[str, NDArray[Any]] = {
            "facts": _text({"meta": self.meta, "images": self.images}),
            "pts_s": self.pts_s,
        }
        for modality, columns in self.columns.items():
            for name, values in columns.items():
                arrays[f"column/{modality}/{name}"] = values
        for modality, payloads in self.payloads.items():
            arrays[f"payloads/{modality}"] = np.frombuffer(b"".join(payloads), np.uint8)
            arrays[f"sizes/{modality}"] = np.array([len(payload) for payload in payloads], np.int64)
        for modality, crcs in self.crcs.items():
            arrays[f"crcs/{modality}"] = crcs
        path.parent.mkdir(parents=True, exist_ok=True)
        with draft_of(path) as draft, draft.open("wb") as file:
            np.savez(file, **arrays)  # type: ignore[arg-type]

    @classmethod
    def read(cls, path: Path) -> VideoSidecar:
        """Read the notes of a video.

        Parameters
        ----------
        path : Path
            File to read.

        Returns
        -------
        VideoSidecar
            The facts.

        Raises
        ------
        FormatError
            If the file is damaged.
        """
        try:
            with np.load(path, allow_pickle=False) as arrays:
                facts = strict.parse_json(arrays["facts"].tobytes(), str(path))
                columns: dict[str, dict[str, NDArray[Any]]] = {name: {} for name in facts["images"]}
                payloads: dict[str, list[bytes]] = {}
                crcs: dict[str, NDArray[np.uint32]] = {}
                for key in arrays.files:
                    kind, _, rest = key.partition("/")
                    modality, _, name = rest.partition("/")
                    if kind == "column":
                        columns[modality][name] = arrays[key]
                    elif kind == "payloads":
                        ends = np.cumsum(arrays[f"sizes/{modality}"])
                        content = arrays[key].tobytes()
                        payloads[modality] = [
                            content[end - size : end]
                            for end, size in zip(ends, arrays[f"sizes/{modality}"], strict=True)
                        ]
                    elif kind == "crcs":
                        crcs[modality] = arrays[key]
                return cls(
                    meta=facts["meta"],
                    images=facts["images"],
                    pts_s=arrays["pts_s"],
                    columns=columns,
                    payloads=payloads,
                    crcs=crcs,
                )
        except (OSError, zipfile.BadZipFile, *WRONG_VALUES) as error:
            raise FormatError(f"{path} cannot be read: {error}") from error


def read_video_id(path: Path) -> str | None:
    """Read the video id in a file of notes.

    Parameters
    ----------
    path : Path
        File to read.

    Returns
    -------
    str or None
        Id; None if the file is missing or damaged.
    """
    try:
        with np.load(path, allow_pickle=False) as arrays:
            facts = strict.parse_json(arrays["facts"].tobytes(), str(path))
            return str(facts["meta"]["record"]["video_id"])
    except (OSError, FormatError, zipfile.BadZipFile, *WRONG_VALUES):
        return None


def notes_path(out: Path, folder: str) -> Path:
    """Return the file of a video's notes.

    Parameters
    ----------
    out : Path
        Folder of the export.
    folder : str
        Folder of the video below it.

    Returns
    -------
    Path
        The file.
    """
    return out / FOLDER / "videos" / f"{folder}.npz"


def _text(values: Any) -> NDArray[np.uint8]:
    text = json.dumps(values, ensure_ascii=False)
    return np.frombuffer(text.encode("utf-8", "surrogateescape"), np.uint8)
