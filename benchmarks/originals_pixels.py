"""Images -> network inputs of the original systems, by their own functions."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import torch
from originals_code import Code

LENGTH, SIZE = 5, (4, 6)
FIELDS = 6


class PilPicture(np.ndarray):
    """Pixels with the parts of PIL's interface that the originals use."""

    @property
    def mode(self) -> str:
        """Mode of PIL: L or RGB."""
        return "L" if self.ndim == 2 else "RGB"

    def transpose(self, how: Any) -> PilPicture:  # type: ignore[override]
        """Mirror, as PIL does for FLIP_LEFT_RIGHT."""
        assert how == "mirror"
        return self[:, ::-1].copy()


def pictures(images: np.ndarray) -> list[PilPicture]:
    """Return images (N, C, H, W) as tsn-pytorch reads them: colour, or x and y apart."""
    if images.shape[1] == 3:
        return [np.ascontiguousarray(one.transpose(1, 2, 0)).view(PilPicture) for one in images]
    return [plane.copy().view(PilPicture) for one in images for plane in one]


def images_of(channels: int, count: int) -> np.ndarray:
    """Return random images uint8 (count, channels, H, W)."""
    return np.random.default_rng(channels).integers(0, 256, (count, channels, *SIZE), np.uint8)


def flips(code: Code) -> Iterator[tuple[str, np.ndarray]]:
    """Return flow fields mirrored as in training, uint8 (fields, 2, H, W)."""
    flow = images_of(2, FIELDS)
    yield "flips/flow", flow
    invert = SimpleNamespace(invert=lambda image: (255 - image).view(PilPicture))
    theirs = code.pick(
        "tsn_pytorch", "transforms.py", ("GroupRandomHorizontalFlip",), ImageOps=invert,
        Image=SimpleNamespace(FLIP_LEFT_RIGHT="mirror"), random=SimpleNamespace(random=lambda: 0.0),
    )["GroupRandomHorizontalFlip"](is_flow=True)  # fmt: skip
    made = np.stack([np.asarray(plane) for plane in theirs(pictures(flow))])
    yield "flips/tsn_pytorch", made.reshape(flow.shape)
    flip = code.pick("mmaction2", "mmaction/datasets/transforms/processing.py", ("Flip",))["Flip"]()
    fields = [np.ascontiguousarray(one.transpose(1, 2, 0)) for one in flow]
    yield "flips/mmaction2", np.stack(flip._flip_imgs(fields, "Flow")).transpose(0, 3, 1, 2)


def pixels(code: Code) -> Iterator[tuple[str, np.ndarray]]:
    """Return a snippet of each modality and system, float32 (channels, H, W), and its bytes."""
    kinds = {"RGB": (3, 1), "Flow": (2, LENGTH), "RGBDiff": (3, LENGTH + 1)}
    shown = {modality: images_of(*kind) for modality, kind in kinds.items()}
    yield from ((f"pixels/{modality}", images) for modality, images in shown.items())
    for backbone in ("BNInception", "resnet50"):
        for modality, images in shown.items():
            for test in (False, True) if modality == "RGBDiff" else (False,):
                made = _tsn_pytorch(code, backbone, modality, images, test)
                yield f"pixels/tsn_pytorch/{backbone}/{modality}{'/test' * test}", made.numpy()
    for modality in ("RGB", "Flow"):
        yield f"pixels/mmaction2/{modality}", _mmaction2(code, modality, shown[modality]).numpy()
    for name in ("rgb", "flow"):
        text = code.text("tsn", f"models/ucf101/tsn_bn_inception_{name}_train_val.prototxt")
        (means,) = set(re.findall(r"mean_value: (.+)", text))  # the same in training and testing
        yield f"pixels/caffe/{name}_mean", np.array(re.findall(r"\d+", means), np.int16)


def _tsn_pytorch(
    code: Code, backbone: str, modality: str, images: np.ndarray, test: bool
) -> torch.Tensor:
    """Apply the transforms of main.py or test_models.py, and of the model's forward."""
    vision = SimpleNamespace(models=SimpleNamespace(resnet50=lambda trained: SimpleNamespace()))
    picked = code.pick("tsn_pytorch", "models.py", ("TSN",), nn=torch.nn, torchvision=vision)
    network = picked["TSN"]
    model = network.__new__(network)
    torch.nn.Module.__init__(model)
    model.modality, model.new_length, model.num_segments = modality, len(images), 1
    if modality == "RGBDiff":
        model.new_length -= 1
    zoo: Any = ModuleType("tf_model_zoo")
    zoo.BNInception = SimpleNamespace
    sys.modules["tf_model_zoo"] = zoo
    model._prepare_base_model(backbone)
    names = ("Stack", "ToTorchFormatTensor", "GroupNormalize")
    stack, to_tensor, normalize = (
        code.pick("tsn_pytorch", "transforms.py", (name,))[name] for name in names
    )
    values = stack(roll=backbone == "BNInception")(pictures(images))
    values = to_tensor(div=backbone != "BNInception")(np.ascontiguousarray(values).view(np.ndarray))
    if modality != "RGBDiff" or test:
        values = normalize(model.input_mean, model.input_std)(values)
    if modality == "RGBDiff":
        values = model._get_diff(values[None]).flatten(0, 3)
    return values


def _mmaction2(code: Code, modality: str, images: np.ndarray) -> torch.Tensor:
    """Apply FormatShape and the data preprocessor of the configuration."""
    config = code.kinetics400("rgb" if modality == "RGB" else "flow")
    options = {k: v for k, v in config["model"]["data_preprocessor"].items() if k != "type"}
    shape = code.pick("mmaction2", "mmaction/datasets/transforms/formatting.py", ("FormatShape",))
    results = {
        "imgs": [one.transpose(1, 2, 0) for one in images], "modality": modality,
        "num_clips": 1, "clip_len": len(images),
    }  # fmt: skip
    formatted = shape["FormatShape"]("NCHW").transform(results)["imgs"]
    made = torch.from_numpy(np.ascontiguousarray(formatted))
    path = "mmaction/models/data_preprocessors/data_preprocessor.py"
    preprocessor = code.pick("mmaction2", path, ("ActionDataPreprocessor",))
    inputs, _ = preprocessor["ActionDataPreprocessor"](**options).preprocess([made], None)
    return inputs[0, 0]
