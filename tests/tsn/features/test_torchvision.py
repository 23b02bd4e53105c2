"""`flowpipe features torchvision:NAME`: video networks of torchvision as frozen extractors."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs torch")
pytest.importorskip("torchvision", reason="needs torchvision")

from command import in_process  # noqa: E402
from torchvision.models import get_model, get_model_weights  # noqa: E402

from flowpipe import open_store  # noqa: E402
from flowpipe.errors import FormatError, UsageError  # noqa: E402
from flowpipe.features import Extent, cut_windows, open_features  # noqa: E402
from flowpipe.features.file_format import STREAM_FACTS  # noqa: E402
from flowpipe.tsn.features.layers import LayerOutput  # noqa: E402
from flowpipe.tsn.features.torchvision_networks import (  # noqa: E402
    VIDEO_NETWORKS,
    VideoNetwork,
)


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Files of random weights of torchvision's networks, by name and number of classes."""
    folder = tmp_path_factory.mktemp("weights")

    def make(name: str, classes: int = 400) -> Path:
        path = folder / f"{name}-{classes}.pth"
        if not path.exists():
            torch.manual_seed(1)
            network = get_model(name, weights=None, num_classes=classes)
            torch.save(network.state_dict(), path)
        return path

    return make


def test_rows_are_those_of_torchvisions_network_with_the_transforms_of_its_weights(
    store: Path, weights: Callable[..., Path], tmp_path: Path
) -> None:
    path = weights("r3d_18")
    done = in_process(
        "features", store, "torchvision:r3d_18", "--weights", path, "-o", tmp_path / "f.h5",
        "--window", 4, "--stride", 3, "--video", "video 01", "--video", "video 02",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    network = get_model("r3d_18", weights=None).eval()
    network.load_state_dict(torch.load(path, weights_only=True))
    published = get_model_weights("r3d_18").DEFAULT
    opened = open_store(store)
    pooled = torch.nn.Sequential(*list(network.children())[:-1])
    with open_features(tmp_path / "f.h5") as file:
        stream = file.streams["r3d_18"]
        assert stream.class_names == tuple(published.meta["categories"])
        assert stream.facts["transforms"]["resize"] == [128, 171]
        assert set(stream.facts) == {*STREAM_FACTS, "transforms"}
        for video_id, starts in (("video 01", [0, 3, 6]), ("video 02", [0, 3, 6])):
            assert file.windows(video_id).start_frame.tolist() == starts
            images = torch.from_numpy(opened.snippet(video_id, "rgb", 0, 10))
            clips = torch.stack([images[k : k + 4] for k in starts])
            with torch.inference_mode():
                x = published.transforms()(clips)
                wanted = network(x).numpy(), pooled(x).flatten(1).numpy()
            close = {"rtol": 1e-4, "atol": 1e-5}
            np.testing.assert_allclose(file.scores("r3d_18", video_id), wanted[0], **close)
            np.testing.assert_allclose(file.features("r3d_18", video_id), wanted[1], **close)


def test_crops_are_those_of_the_transforms_of_the_weights_and_of_torchvisions_ten_crop(
    weights: Callable[..., Path],
) -> None:
    images = torch.randint(0, 256, (20, 3, 36, 48), dtype=torch.uint8)
    index = np.arange(16)[None] + np.array([[0], [4]])
    clips = images[torch.from_numpy(index)]
    network = VideoNetwork(
        "r3d_18", weights("r3d_18", 3), "cpu", "off", layer="global_pool", window=16
    )
    assert network.class_names == ("class 0", "class 1", "class 2")
    transforms = get_model_weights("r3d_18").DEFAULT.transforms()
    (x,) = network.inputs(images, index, 1, 1)
    torch.testing.assert_close(x[:, 0], transforms(clips))
    parts = list(network.inputs(images, index, 10, 4))
    assert [part.shape[1] for part in parts] == [4, 4, 2]
    ten = torch.cat(parts, 1)
    torch.testing.assert_close(ten[:, 4], transforms(clips))
    mirrored = transforms(clips.flip(-1))  # resized bytes differ by one level here and there
    torch.testing.assert_close(ten[:, 9], mirrored, rtol=0, atol=0.02)


def test_a_layer_of_a_network_with_channels_last_has_its_channels_as_features(
    weights: Callable[..., Path],
) -> None:
    x = torch.rand(1, 3, 2, 64, 64)
    own = VideoNetwork("swin3d_t", weights("swin3d_t", 3), "cpu", "off", layer="features", window=2)
    network = own.model
    with torch.inference_mode():
        maps = network.features(network.pos_drop(network.patch_embed(x)))
        torch.testing.assert_close(own(x)[0], maps.mean((1, 2, 3)))
        pooled = LayerOutput(network, "avgpool", channels_last=True)
        network(x)
        wanted = network.norm(maps).mean((1, 2, 3))
        torch.testing.assert_close(pooled.take(), wanted)
        torch.testing.assert_close(own.pooled.take(), wanted)


class Layers(torch.nn.Module):
    """Layers with outputs of several kinds, as of torchvision's and timm's networks."""

    def __init__(self) -> None:
        super().__init__()
        self.maps = torch.nn.Identity()
        self.in_place = torch.nn.ReLU(inplace=True)
        self.tokens = torch.nn.Flatten(2)
        self.with_sizes = WithSizes()
        self.unused = torch.nn.Identity()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        tokens = self.tokens(self.in_place(self.maps(x.clone()))).transpose(1, 2)
        return self.with_sizes(tokens)[0]


class WithSizes(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, tuple[int, ...]]:
        return x, x.shape


def test_the_output_of_a_layer_is_averaged_before_later_layers_change_it() -> None:
    x = torch.randn(2, 3, 4, 5, 6)
    wanted = {"maps": x.mean((2, 3, 4)), "in_place": x.relu().mean((2, 3, 4))}
    wanted["with_sizes"] = x.relu().mean((2, 3, 4))  # tokens (N, tokens, C) in a tuple
    for name, features in wanted.items():
        network = Layers()
        kept = LayerOutput(network, name)
        network(x)
        torch.testing.assert_close(kept.take(), features)
    network = Layers()
    kept = LayerOutput(network, "unused")
    network(x)
    with pytest.raises(UsageError, match="not part of the network's forward pass"):
        kept.take()


def test_frames_are_evenly_spaced_over_a_window_longer_than_the_clip(
    weights: Callable[..., Path],
) -> None:
    network = VideoNetwork(
        "r3d_18", weights("r3d_18", 3), "cpu", "off", layer="global_pool", window=64
    )
    pts_s = np.arange(130) / 25
    numbers = network.images_of_rows(cut_windows(pts_s, Extent(64), Extent(64)), pts_s)
    assert numbers.shape == (2, 16)
    assert numbers[0].tolist() == list(range(2, 64, 4))
    assert (numbers[1] - numbers[0] == 64).all()
    pts_s = pts_s[:16]
    exact = network.images_of_rows(cut_windows(pts_s, Extent(16), Extent(8)), pts_s)
    assert exact[0].tolist() == list(range(16))


def test_every_video_network_of_torchvision_has_a_row() -> None:
    from torchvision.models import list_models, video

    assert set(VIDEO_NETWORKS) == set(list_models(module=video))
    for name, row in VIDEO_NETWORKS.items():
        least = get_model_weights(name).DEFAULT.meta.get("min_temporal_size", 1)
        assert row.least == least <= row.frames


def test_wrong_networks_and_weights_are_answered_in_words(
    store: Path, weights: Callable[..., Path], tmp_path: Path
) -> None:
    def refused(*arguments: object) -> str:
        done = in_process("features", store, *arguments, "-o", tmp_path / "f.h5")
        assert done.returncode == 2 and not list(tmp_path.iterdir()), done.stderr
        return done.stderr

    path = weights("r3d_18", 3)
    assert "r3d_18-b3b3357e.pth and give its path with --weights" in refused("torchvision:r3d_18")
    assert "did you mean r3d_18" in refused("torchvision:r3d18", "--weights", path)
    text = refused("torchvision:mc3_18", "--weights", path)
    assert "does not hold weights of torchvision's mc3_18" in text
    with pytest.raises(UsageError, match="shorter than the 16 frames that mvit_v2_s takes"):
        VideoNetwork("mvit_v2_s", path, "cpu", "off", layer="global_pool", window=8)
    with pytest.raises(FormatError, match="cannot be read as weights"):
        VideoNetwork("r3d_18", Path(__file__), "cpu", "off", layer="global_pool", window=8)
