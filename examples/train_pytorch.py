"""Store -> a small network trained in plain PyTorch on flowpipe.SnippetDataset.

    flowpipe extract --dataset demo --out demo-store
    python examples/train_pytorch.py demo-store --modality flow --epochs 30

The program needs torch. Change its network, loss or transform to make your own trainer.
"""

from __future__ import annotations

import argparse

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

import flowpipe

SIZE = (64, 80)
"""Height and width of the network's input, pixels."""


def to_input(images: Tensor) -> Tensor:
    """Convert images to float32 (segments, length * C, 64, 80), about -1 to 1.

    It is a function of the module, not a lambda, so that spawned workers can load it.
    """
    stacked = images.flatten(1, 2).float()
    return (nn.functional.interpolate(stacked, SIZE, mode="area") - 128) / 128


class SegmentNetwork(nn.Module):
    """Small network for every snippet; the scores of a video are the mean of its snippets."""

    def __init__(self, channels: int, classes: int) -> None:
        super().__init__()
        self.snippet = nn.Sequential(
            nn.Conv2d(channels, 32, 5, stride=2), nn.BatchNorm2d(32), nn.ReLU(),
            nn.Conv2d(32, 64, 3, stride=2), nn.BatchNorm2d(64), nn.ReLU(),
            nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, classes),
        )  # fmt: skip

    def forward(self, videos: Tensor) -> Tensor:
        """Return scores (B, classes) of float32 (B, segments, channels, h, w)."""
        scores = self.snippet(videos.flatten(0, 1))
        return scores.unflatten(0, videos.shape[:2]).mean(1)


def accuracy(network: nn.Module, loader: DataLoader) -> float:
    """Return the share of videos whose highest score is that of their label."""
    network.eval()
    right = count = 0
    with torch.inference_mode():
        for videos, labels in loader:
            right += int((network(videos).argmax(1) == labels).sum())
            count += len(labels)
    return right / count


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("store")
    parser.add_argument("--modality", default="flow")
    parser.add_argument("--epochs", type=int, default=30)
    parser.add_argument("--workers", type=int, default=2)
    options = parser.parse_args()

    torch.manual_seed(0)
    train, test = (
        flowpipe.SnippetDataset(
            options.store,
            options.modality,
            split,
            3,
            5,
            transform=to_input,
            train=split == "train",
        )  # fmt: skip
        for split in ("train", "test")
    )
    loader = DataLoader(train, batch_size=8, shuffle=True, num_workers=options.workers)
    images, _ = train[0]
    network = SegmentNetwork(images.shape[1], len(train.class_names))
    optimiser = torch.optim.AdamW(network.parameters(), lr=2e-3)
    for epoch in range(options.epochs):
        network.train()
        total = 0.0
        for videos, labels in loader:
            loss = nn.functional.cross_entropy(network(videos), labels)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            total += float(loss.detach()) * len(labels)
        print(f"epoch {epoch + 1}: loss {total / len(train):.3f}")
    print(f"test accuracy: {accuracy(network, DataLoader(test, batch_size=8)):.3f}")


if __name__ == "__main__":  # workers that are spawned load this file too
    main()
