"""Stills, encrypted files and lists of other files are refused, and no other file is opened."""

from __future__ import annotations

import http.server
import struct
import threading
from collections.abc import Iterator
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from videofile import encode_video, moving_clip

from flowpipe.errors import DecodeError
from flowpipe.video import cut_points, open_video, probe


def read_refusal(path: Path) -> DecodeError:
    """The one error with which a file is refused by everything that opens it."""
    caught = []
    for look in (open_video, probe, lambda path: cut_points(path, 1)):
        with pytest.raises(DecodeError) as error:
            look(path)
        caught.append(error.value)
    assert len({(e.reason, str(e)) for e in caught}) == 1
    assert str(path) in str(caught[0])
    return caught[0]


def count(path: Path) -> int:
    with open_video(path) as reader:
        return sum(len(w.data) for w in reader.windows())


@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.webp", "a.bmp", "a.tiff", "a.mp4", "a"])
def test_still_pictures_are_refused(name: str, tmp_path: Path) -> None:
    suffix = Path(name).suffix if Path(name).suffix not in ("", ".mp4") else ".png"
    good, content = cv2.imencode(suffix, moving_clip(1)[0])
    assert good
    path = tmp_path / name
    path.write_bytes(content.tobytes())
    assert read_refusal(path).reason == "still_picture"


@pytest.mark.parametrize(("suffix", "codec"), [("gif", "gif"), ("png", "apng")])
def test_animations_are_videos_and_single_pictures_are_not(
    suffix: str, codec: str, tmp_path: Path
) -> None:
    pixels = {"gif": "rgb8", "apng": "rgb24"}[codec]
    for frames in (1, 5):
        path = tmp_path / f"clip{frames}.{suffix}"
        with av.open(str(path), "w", format=codec) as container:
            stream = container.add_stream(codec, rate=25)
            stream.width, stream.height, stream.pix_fmt = 96, 64, pixels
            for index, array in enumerate(moving_clip(frames)):
                frame = av.VideoFrame.from_ndarray(array, format="rgb24").reformat(format=pixels)
                frame.pts = index
                container.mux(stream.encode(frame))
            container.mux(stream.encode(None))
    assert read_refusal(tmp_path / f"clip1.{suffix}").reason == "still_picture"
    assert count(tmp_path / f"clip5.{suffix}") == 5


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv", "a.avi"])
def test_a_video_of_one_frame_is_a_video(name: str, tmp_path: Path) -> None:
    codec = "mpeg4" if name.endswith("avi") else "libx264"
    assert count(encode_video(tmp_path / name, moving_clip(1), codec=codec)) == 1


def test_an_animated_webp_is_unsupported(tmp_path: Path) -> None:
    def chunk(kind: bytes, content: bytes) -> bytes:
        return kind + struct.pack("<I", len(content)) + content + b"\0" * (len(content) % 2)

    good, still = cv2.imencode(".webp", moving_clip(1)[0])
    assert good
    picture = still.tobytes()[12:]
    size = struct.pack("<I", 95)[:3] + struct.pack("<I", 63)[:3]
    frame = chunk(b"ANMF", b"\0" * 6 + size + struct.pack("<I", 40)[:3] + b"\0" + picture)
    body = chunk(b"VP8X", b"\x02\0\0\0" + size) + chunk(b"ANIM", b"\0" * 6) + frame * 3
    path = tmp_path / "clip.webp"
    path.write_bytes(b"RIFF" + struct.pack("<I", 4 + len(body)) + b"WEBP" + body)
    error = read_refusal(path)
    assert error.reason == "unsupported"
    assert "animated WebP" in str(error)


def box(kind: bytes, *content: bytes) -> bytes:
    body = b"".join(content)
    return struct.pack(">I4s", 8 + len(body), kind) + body


def test_encrypted_files_are_called_encrypted(tmp_path: Path) -> None:
    path = encode_video(tmp_path / "clip.mp4", moving_clip(10))
    clear = path.read_bytes()
    path.write_bytes(clear.replace(b"avc1", b"encv").replace(b"isomiso2encv", b"isomiso2avc1"))
    error = read_refusal(path)
    assert error.reason == "encrypted"
    assert "encrypted" in str(error)
    # a clear sample entry and encrypted samples, as FFmpeg writes them
    at = clear.index(b"stts") - 4
    senc = box(b"senc", struct.pack(">II", 0, 10), b"\1" * 80)
    content = bytearray(clear[:at] + senc + clear[at:])
    for kind in (b"moov", b"trak", b"mdia", b"minf", b"stbl"):
        place = content.index(kind) - 4
        size = struct.unpack(">I", content[place : place + 4])[0] + len(senc)
        content[place : place + 4] = struct.pack(">I", size)
    path.write_bytes(content)
    assert read_refusal(path).reason == "encrypted"
    path.write_bytes(clear)
    assert count(path) == 10


@pytest.fixture
def server() -> Iterator[tuple[str, list[str]]]:
    """A web server on this machine, and the requests that it got."""
    asked: list[str] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_error(404)

        def log_message(self, *_: object) -> None:
            pass

    httpd = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=httpd.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{httpd.server_address[1]}", asked
    httpd.shutdown()
    thread.join()
    httpd.server_close()


def lists(target: str) -> dict[str, str]:
    """Files of many formats that name `target`, an address or another file."""
    return {
        "hls": f"#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXTINF:2,\n{target}\n#EXT-X-ENDLIST\n",
        "hls_key": "#EXTM3U\n#EXT-X-TARGETDURATION:2\n"
        f'#EXT-X-KEY:METHOD=AES-128,URI="{target}"\n#EXTINF:2,\n{target}\n#EXT-X-ENDLIST\n',
        "hls_master": f"#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=1\n{target}\n",
        "concat": f"ffconcat version 1.0\nfile '{target}'\n",
        "dash": '<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static" '
        'mediaPresentationDuration="PT2S" profiles="urn:mpeg:dash:profile:isoff-on-demand:2011">'
        '<Period><AdaptationSet mimeType="video/mp4"><Representation id="1" bandwidth="1">'
        f"<BaseURL>{target}</BaseURL><SegmentBase/></Representation></AdaptationSet></Period></MPD>",
        "sdp": "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\n"
        "m=video 5004 RTP/AVP 96\na=rtpmap:96 H264/90000\n",
        "imf": '<?xml version="1.0"?><CompositionPlaylist xmlns='
        '"http://www.smpte-ra.org/schemas/2067-3/2016"><Id>urn:uuid:0</Id></CompositionPlaylist>',
        "vobsub": "# VobSub index file, v7\nsize: 720x576\nid: en, index: 0\n"
        "timestamp: 00:00:01:000, filepos: 000000000\n",
        "rtsptext": f"RTSPtext\nrtsp://{target.partition('://')[2] or target}\n",
        "asx": f'<asx version="3.0"><entry><ref href="{target}"/></entry></asx>',
        "pls": f"[playlist]\nFile1={target}\nNumberOfEntries=1\n",
        "avisynth": f'AviSource("{target}")\n',
    }


NAMES = ("a.m3u8", "a.mp4", "a.mkv", "a.avi", "a.ffconcat", "a.mpd", "a.sdp", "a.idx", "a.avs", "a")


@pytest.mark.parametrize("kind", lists("x"))
def test_a_list_makes_ffmpeg_open_nothing(
    kind: str, server: tuple[str, list[str]], tmp_path: Path
) -> None:
    address, asked = server
    other = encode_video(tmp_path / "other.mp4", moving_clip(10))
    for target in (f"{address}/other.mp4", str(other), "other.mp4", f"file:{other}"):
        for name in NAMES:
            path = tmp_path / name
            path.write_text(lists(target)[kind], encoding="utf-8")
            assert read_refusal(path).reason in ("unreadable", "no_video")
            path.unlink()
    assert asked == []


def test_a_list_is_called_a_list(tmp_path: Path) -> None:
    for kind, name in (("hls", "a.m3u8"), ("concat", "a.txt")):
        path = tmp_path / name
        path.write_text(lists("other.mp4")[kind], encoding="utf-8")
        assert f"is a list or script of the format {kind}" in str(read_refusal(path))


@pytest.mark.parametrize("where", ["file", "http"])
def test_a_movie_reads_no_other_file(
    where: str, server: tuple[str, list[str]], tmp_path: Path
) -> None:
    """QuickTime's data references may name the file that holds the samples."""
    address, asked = server
    other = encode_video(tmp_path / "other.mov", moving_clip(10))
    content = bytearray(other.read_bytes())
    at = content.index(b"url \0\0\0\1") - 4
    target = f"{address}/other.mov" if where == "http" else f"file://{other}"
    entry = box(b"url ", b"\0\0\0\0", target.encode() + b"\0")
    grown = len(entry) - 12
    content[at : at + 12] = entry
    for kind in (b"moov", b"trak", b"mdia", b"minf", b"dinf", b"dref"):
        place = content.index(kind) - 4
        size = struct.unpack(">I", content[place : place + 4])[0] + grown
        content[place : place + 4] = struct.pack(">I", size)
    mdat = content.index(b"mdat")
    content[mdat + 4 : mdat + 4 + 400] = bytes(400)
    path = tmp_path / "clip.mov"
    path.write_bytes(content)
    try:
        with open_video(path) as reader:
            list(reader.windows())
    except DecodeError:
        pass
    assert asked == []


def test_a_name_is_no_pattern(tmp_path: Path) -> None:
    for index, picture in enumerate(moving_clip(3)):
        cv2.imwrite(str(tmp_path / f"{index:03d}.png"), picture)
    path = encode_video(tmp_path / "clip.mp4", moving_clip(7))
    for name in ("%03d.png", "%03d.mp4", "*.png", "concat:a.mp4", "pipe:0", "http:__x", "-i.mp4"):
        odd = tmp_path / name
        odd.write_bytes(path.read_bytes())
        assert count(odd) == 7
        odd.unlink()


def test_pictures_of_a_chosen_video_are_not_refused(tmp_path: Path) -> None:
    frames = moving_clip(4)
    path = encode_video(tmp_path / "clip.avi", frames, codec="mjpeg")
    with open_video(path) as reader:
        got = np.concatenate([w.data for w in reader.windows()])
    assert got.shape == frames.shape
