"""A file -> video or not, by its extension, its first bytes, or by decoding it."""

from __future__ import annotations

import os
import posixpath
import stat
from collections import Counter

from flowpipe.errors import FlowpipeError, is_storage_failure

VIDEO_EXTENSIONS = frozenset(
    ".264 .265 .3g2 .3gp .amv .asf .avc .avi .avs2 .bik .divx .dv .f4v .flv .h261 .h263 .h264 "
    ".h265 .hevc .ivf .m1v .m2t .m2ts .m2v .m4v .mjpeg .mjpg .mkv .mov .mp4 .mpe .mpeg .mpg .mts "
    ".mxf .nsv .nut .obu .ogm .ogv .qt .rm .rmvb .roq .ts .vc1 .vob .webm .wmv .wtv .y4m".split()
)
"""Extensions of videos, in lower case."""

_SHARED_WITH_TEXT = frozenset({".ts", ".mts", ".obu", ".rm"})
"""Video extensions that source code and models also use; the first bytes decide."""

OTHER_EXTENSIONS = frozenset(
    ".7z .aac .ac3 .aif .aiff .ass .bb .bib .bmp .bz2 .c .cc .cfg .ckpt .conf .cpp .cr2 .css "
    ".csv .cu .db .dng .doc .docx .eps .exe .exr .flac .flo .gz .h .h5 .hdf5 .hdr .heic .heif .htm "
    ".html .ico .idx .ini .ipynb .jp2 .jpe .jpeg .jpg .js .json .jsonl .lmdb .log .lrc .lz4 .m3u "
    ".m3u8 .mat .md .mdb .mid .mka .mp2 .mp3 .nef .nfo .npy .npz .o .onnx .opus .parquet .pbm .pdf "
    ".pgm .pickle .pkl .pnm .ppm .psd .pt .pth .py .pyc .rar .rst .rtf .safetensors .sh .so .sql "
    ".sqlite .srt .ssa .sub .svg .tar .tbz2 .tex .tfrecord .tga .tgz .tif .tiff .toml .torrent "
    ".tsv .ttf .txt .vtt .wav .weba .wma .xls .xlsx .xml .xz .yaml .yml .zip .zst .md5 .sha1 "
    ".sha256 .lock .part .tmp .crdownload .aria2 .ytdl".split()
)
"""Extensions of other files; such files are never opened."""

_ALSO_PICTURES = frozenset({".png", ".webp"})
"""Extensions of still images and of animations; a folder may hold millions of such files."""

HEAD_BYTES = 4096
MOST_TRIED = 200
"""Failed decoding attempts per unknown extension. After that many, only the first bytes decide, and
still images are not opened any more."""

_STILL_BRANDS = (b"heic", b"heix", b"mif1", b"avif", b"jp2 ", b"jxl ", b"M4A ", b"M4B ", b"crx ")
_BOXES = (b"ftyp", b"moov", b"mdat", b"wide", b"skip", b"pnot")
_STARTS = (
    b"\x1a\x45\xdf\xa3", b"FLV", b"DKIF", b"nut/multimedia", b".RMF", b"YUV4MPEG2",
    b"\x06\x0e\x2b\x34\x02\x05\x01\x01", b"\x00\x00\x01\xba", b"\x00\x00\x01\xb3",
    b"\x30\x26\xb2\x75\x8e\x66\xcf\x11",
)  # fmt: skip
"""First bytes of Matroska, FLV, IVF, NUT, RealMedia, YUV4MPEG2, MXF, MPEG-1 and -2, ASF."""


def is_video(name: str) -> bool:
    """Return whether a file name has the extension of a video.

    Parameters
    ----------
    name : str
        File name.

    Returns
    -------
    bool
        True for the extension of a video.
    """
    return extension(name) in VIDEO_EXTENSIONS


def extension(name: str) -> str:
    """Return the extension of a file name.

    Parameters
    ----------
    name : str
        File name.

    Returns
    -------
    str
        Lower case, with its dot; empty if there is none.
    """
    return posixpath.splitext(posixpath.basename(name))[1].lower()


def is_text(head: bytes) -> bool:
    """Return whether the first bytes of a file are text: no NUL, at most 1 % control characters.

    Parameters
    ----------
    head : bytes
        First bytes of the file.

    Returns
    -------
    bool
        True for text.
    """
    controls = sum(byte < 32 and byte not in b"\t\n\r\f\x1b" for byte in head)
    return b"\0" not in head and controls * 100 <= len(head)


def is_container(head: bytes) -> bool:
    """Return whether the first bytes of a file are those of a video container.

    Parameters
    ----------
    head : bytes
        First bytes of the file.

    Returns
    -------
    bool
        True for a container.
    """
    if head[4:8] in _BOXES:
        return head[8:12] not in _STILL_BRANDS
    if head.startswith(b"GIF8"):
        return b"NETSCAPE2.0" in head or b"ANIMEXTS1.0" in head
    if head.startswith(b"RIFF"):
        return head[8:11] == b"AVI"
    packets = head[:1], head[188:189], head[376:377]
    return head.startswith(_STARTS) or packets == (b"G",) * 3


def is_still(head: bytes) -> bool:
    """Return whether the first bytes are those of a PNG or WebP file without animation.

    Parameters
    ----------
    head : bytes
        First bytes of the file.

    Returns
    -------
    bool
        True for a still picture.
    """
    if head.startswith(b"\x89PNG"):
        return b"acTL" not in head
    from flowpipe.video.refusals import is_animated_webp  # it loads PyAV

    return head[8:12] == b"WEBP" and not is_animated_webp(head)


def read_head(path: str | os.PathLike[str]) -> bytes | None:
    """Read the first bytes of a file.

    Parameters
    ----------
    path : path
        The file.

    Returns
    -------
    bytes or None
        The bytes; None if it is no regular file or unreadable.

    Raises
    ------
    OSError
        If the storage fails.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0))
        try:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                return None
            return os.read(descriptor, HEAD_BYTES)
        finally:
            os.close(descriptor)
    except OSError as error:
        if is_storage_failure(error):
            raise
        return None


def decodes(path: str | os.PathLike[str]) -> bool:
    """Return whether FFmpeg decodes two or more frames of a local file.

    A file with one frame is a still image, not a video.

    Parameters
    ----------
    path : path
        The file.

    Returns
    -------
    bool
        True for a video.

    Raises
    ------
    FlowpipeError, OSError
        If the storage fails.
    """
    # PyAV is imported only here: lists and the demo set do not need it.
    from flowpipe.video import open_video

    count = 0
    try:
        with open_video(path) as video:
            for frames in video.windows():
                count += len(frames.data)
                if count > 1:
                    return True
    except (FlowpipeError, OSError, ValueError) as error:
        if is_storage_failure(error):
            raise
    return False


class VideoFilter:
    """Selects the videos among the files of a folder, and counts failed decoding attempts.

    Parameters
    ----------
    local : bool
        True if files are local, so that their first bytes can be read. In remote folders only the
        extension counts.
    """

    def __init__(self, *, local: bool) -> None:
        self._local = local
        self._in_vain: Counter[str] = Counter()

    def accepts(self, name: str, path: str) -> bool:
        """Return whether a file counts as a video.

        A file that the storage fails to read counts as one; the worker that extracts it reports
        the failure.

        Parameters
        ----------
        name : str
            Path below the folder that is searched.
        path : str
            Path or URL.

        Returns
        -------
        bool
            True for a video.
        """
        try:
            return self._accepts(name, path)
        except (FlowpipeError, OSError):
            return True

    def _accepts(self, name: str, path: str) -> bool:
        kind = extension(name)
        if kind in OTHER_EXTENSIONS:
            return False
        known = kind in VIDEO_EXTENSIONS
        if known and kind not in _SHARED_WITH_TEXT:
            return True
        if kind in _ALSO_PICTURES and self._in_vain[kind] >= MOST_TRIED:
            return False
        head = read_head(path) if self._local else None
        if known:
            return not head or not is_text(head) or is_container(head)
        if not head:
            return False
        if is_container(head):
            return True
        if is_text(head) or self._in_vain[kind] >= MOST_TRIED:
            return False
        found = not (kind in _ALSO_PICTURES and is_still(head)) and decodes(path)
        self._in_vain[kind] = 0 if found else self._in_vain[kind] + 1
        return found
