"""Repositories of the original systems -> their functions at fixed commits."""

from __future__ import annotations

import ast
import re
import subprocess
import textwrap
import typing
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch

from flowpipe.modality import MODALITIES

ORIGINS = {
    "tsn_pytorch": ("yjxiong/tsn-pytorch", "2f0468e049760530b4995bf72c8a512623929c39"),
    "tsn": ("yjxiong/temporal-segment-networks", "2c5e5e7c9c4f552cfde46fa90a4c0c230d857afe"),
    "caffe": ("yjxiong/caffe", "9831a2b4d67e3f99418b6f2f99b6dde716853672"),
    "mmaction2": ("open-mmlab/mmaction2", "4d6c93474730cad2f25e51109adcf96824efc7a3"),
}
"""Repository on GitHub and commit of each system."""


class _Registry:
    """Stand-in of mmaction2's registries."""

    def register_module(self) -> Callable[[Any], Any]:
        return lambda registered: registered


class _Preprocessor(torch.nn.Module):
    """Stand-in of mmengine's BaseDataPreprocessor."""


def _is_tuple_of(values: Any, kind: type) -> bool:
    return isinstance(values, tuple) and all(isinstance(value, kind) for value in values)


STAND_INS: dict[str, Any] = {
    **{n: getattr(typing, n) for n in ("Any", "Dict", "List", "Optional", "Tuple", "Union")},
    "Sequence": Sequence, "np": np, "torch": torch, "TRANSFORMS": _Registry(),
    "MODELS": _Registry(), "BaseTransform": object, "BaseDataPreprocessor": _Preprocessor,
    "SampleList": list, "stack_batch": torch.stack,
    "mmengine": SimpleNamespace(is_tuple_of=_is_tuple_of),
    "_pair": lambda value: value if isinstance(value, tuple) else (value, value),
    "mmcv": SimpleNamespace(
        imflip_=lambda image, direction: np.copyto(image, image[:, ::-1].copy()),
        iminvert=lambda image: 255 - image,
    ),
}  # fmt: skip
"""Names that the modules of the originals import."""


class Code:
    """The repositories of `ORIGINS`.

    Parameters
    ----------
    clones : Path, optional
        Folder with a git directory for each; without it they are cloned.
    folder : Path
        Where clones go.
    """

    def __init__(self, clones: Path | None, folder: Path) -> None:
        self.clones, self.folder = clones, folder

    def text(self, system: str, path: str) -> str:
        """Return a file of a repository at its commit."""
        repository, commit = ORIGINS[system]
        where = (self.clones or self.folder) / system
        if not where.exists():
            address = f"https://github.com/{repository}"
            clone = ["git", "clone", "--quiet", "--bare", "--filter=blob:none", address, str(where)]
            subprocess.run(clone, check=True)
        show = ["git", "-C", str(where), "show", f"{commit}:{path}"]
        return subprocess.run(show, check=True, capture_output=True, text=True).stdout

    def kinetics400(self, stream: str) -> dict[str, Any]:
        """Return mmaction2's configuration of a stream."""
        config: dict[str, Any] = {}
        for path in CONFIGS[stream]:
            exec(self.text("mmaction2", path), config)
        return config

    def pick(self, system: str, path: str, names: Sequence[str], **more: Any) -> dict[str, Any]:
        """Return the namespace in which functions and classes of a module were defined.

        TSN's Caffe code is Python 2.
        """
        text = self.text(system, path)
        tree = ast.parse(python3(text) if system == "tsn" else text)
        chosen = [node for node in tree.body if getattr(node, "name", "") in names]
        assert len(chosen) == len(names), f"{path} lacks some of {names}"
        namespace = {**STAND_INS, **more}
        exec(compile(ast.Module(chosen, []), path, "exec"), namespace)
        return namespace


CONFIGS = {
    "rgb": (
        "configs/_base_/models/tsn_r50.py", "configs/_base_/schedules/sgd_100e.py",
        "configs/recognition/tsn/tsn_imagenet-pretrained-r50_8xb32-1x1x3-100e_kinetics400-rgb.py",
    ),
    "flow": (
        "configs/recognition/tsn/tsn_imagenet-pretrained-r50_8xb32_5x1x3-110e_kinetics400-flow.py",
    ),
}  # fmt: skip
"""Files of mmaction2's configuration of each stream, those that it extends first."""


def picture(width: int, height: int) -> Any:
    """Return a stand-in of a PIL image that knows where it was cut and whether it is mirrored."""

    def make(x: int, y: int, w: int, h: int, mirrored: int) -> Any:
        return SimpleNamespace(
            size=(w, h), mode="RGB", box=(x, y, mirrored),
            crop=lambda box: make(box[0], box[1], box[2] - box[0], box[3] - box[1], mirrored),
            copy=lambda: make(x, y, w, h, mirrored),
            transpose=lambda how: make(x, y, w, h, 1 - mirrored),
        )  # fmt: skip

    return make(0, 0, width, height, 0)


def eval_net(code: Code) -> Callable[[int, int, str], list[int]]:
    """Return the lines of TSN's test script (Python 2) that choose frames, which count from 1."""
    text = code.text("tsn", "tools/eval_net.py")
    ticks = _between(text, "    stack_depth = 0", "    frame_scores = []")
    stack = re.search(r"frame_idx = (\[.*?\])\n", text)
    assert stack is not None
    lines, frame_idx = python3(textwrap.dedent(ticks)), python3(stack[1])

    def frames(frame_cnt: int, count: int, modality: str) -> list[int]:
        options = SimpleNamespace(modality=modality, num_frame_per_video=count)
        values: dict[str, Any] = {"args": options, "frame_cnt": frame_cnt}
        exec(lines, values)
        if not MODALITIES[modality].is_flow:
            return list(values["frame_ticks"])
        return [n for values["tick"] in values["frame_ticks"] for n in eval(frame_idx, values)]

    return frames


def python3(text: str) -> str:
    """Return code of Python 2, whose divisions are of whole numbers, as code of Python 3."""
    return re.sub(r" ?/ ?", " // ", text).replace("xrange", "range")


def _between(text: str, first: str, stop: str) -> str:
    return text[text.index(first) : text.index(stop)]


_DRIVER = r"""
#include <cmath>
#include <cstdlib>
#include <iostream>
#include <string>
#include <vector>
using namespace std;
enum Phase { TRAIN, TEST };
namespace caffe {
struct rng_t {
  vector<unsigned> draws; size_t next = 0;
  unsigned operator()() { return draws.at(next++); }
};
}
struct Generator { caffe::rng_t rng; void* generator() { return &rng; } };
struct Layer {
  Phase phase_; vector<int> lines_duration_; int lines_id_ = 0;
  Generator the_rng; Generator* frame_prefetch_rng_ = &the_rng;
  vector<int> run(int num_segments, int new_length) {
    @OFFSETS@
    return offsets;
  }
};
@CROPS@
void centre(int datum_height, int datum_width, int crop_size) {
  int h_off, w_off;
  @CENTRE@
  cout << w_off << " " << h_off;
}
int main() {
  string what;
  while (cin >> what) {
    if (what == "offsets") {
      int phase, images, segments, length; Layer layer;
      cin >> phase >> images >> segments >> length;
      layer.phase_ = Phase(phase); layer.lines_duration_ = {images};
      auto& draws = layer.the_rng.rng.draws;
      for (int k = 0; k < segments; ++k) { unsigned d; cin >> d; draws.push_back(d); }
      for (int offset : layer.run(segments, length)) cout << offset << " ";
    } else if (what == "crops") {
      int width, height, side, more, count; vector<float> scales;
      vector<pair<int, int>> sizes, places;
      cin >> width >> height >> side >> more >> count;
      for (int k = 0; k < count; ++k) { float s; cin >> s; scales.push_back(s); }
      fillCropSize(height, width, side, side, sizes, 1, scales);
      for (auto size : sizes) {
        fillFixOffset(height, width, size.first, size.second, more, places);
        for (auto p : places)
          cout << p.second << " " << p.first << " " << size.second << " " << size.first << " ";
      }
    } else { int width, height, side; cin >> width >> height >> side; centre(height, width, side); }
    cout << endl;
  }
}
"""


class CaffeDriver:
    """Functions of Caffe's video data layer and its transformer, compiled from their own text."""

    def __init__(self, code: Code, folder: Path) -> None:
        layer = code.text("caffe", "src/caffe/layers/video_data_layer.cpp")
        layer = layer[layer.index("::InternalThreadEntry()") :]
        offsets = _between(layer, "vector<int> offsets;", "if (this->layer_param_.video")
        text = code.text("caffe", "src/caffe/data_transformer.cpp")
        crops = _between(text, "void fillFixOffset(", "/**\n * @generate crop size and")
        centre = re.findall(r"[hw]_off = \(datum_\w+ - crop_size\) / 2;", text)[:2]
        source = _DRIVER.replace("@OFFSETS@", offsets).replace("@CROPS@", crops)
        path, program = folder / "driver.cpp", folder / "driver"
        path.write_text(source.replace("@CENTRE@", "\n".join(centre)))
        subprocess.run(["g++", "-O1", "-std=c++17", str(path), "-o", str(program)], check=True)
        pipe = subprocess.PIPE
        self.process = subprocess.Popen([str(program)], stdin=pipe, stdout=pipe, text=True)

    def _ask(self, *words: Any) -> list[int]:
        assert self.process.stdin is not None and self.process.stdout is not None
        self.process.stdin.write(" ".join(str(word) for word in words) + "\n")
        self.process.stdin.flush()
        return [int(word) for word in self.process.stdout.readline().split()]

    def offsets(
        self, phase: str, images: int, segments: int, length: int, draws: Sequence[int]
    ) -> list[int]:
        """Return where snippets start, from 0."""
        return self._ask("offsets", int(phase != "train"), images, segments, length, *draws)

    def crops(
        self, width: int, height: int, side: int, more: bool, scales: Sequence[float]
    ) -> list[tuple[int, ...]]:
        """Return (x, y, width, height) of every crop of training."""
        numbers = self._ask("crops", width, height, side, int(more), len(scales), *scales)
        return [tuple(numbers[k : k + 4]) for k in range(0, len(numbers), 4)]

    def centre(self, width: int, height: int, side: int) -> list[int]:
        """Return (x, y) of the crop of validation."""
        return self._ask("centre", width, height, side)

    def close(self) -> None:
        """End the driver."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait()
