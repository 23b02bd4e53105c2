"""Colour jitter and mixup: torchvision's pixels, drawn once a video from seed and position."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs torch")

from hypothesis import given, settings  # noqa: E402
from hypothesis import strategies as st  # noqa: E402
from tiny_training import (  # noqa: E402
    MIXED,
    assert_same_weights,
    job,
    run,
    train_and_resume,
    trainer_of,
)
from torchvision.transforms import v2  # noqa: E402

from flowpipe.tsn.data.batches import BatchSampler  # noqa: E402
from flowpipe.tsn.data.photometric import PhotometricChanges, draw_changes, jitter, mix_up  # noqa: E402
from flowpipe.tsn.recipe import AugmentParams, ColourJitterParams  # noqa: E402

STRONG = ColourJitterParams(0.4, 0.3, 0.2, 0.1)
STRENGTHS, HUES = (st.integers(0, most).map(lambda tenths: tenths / 10) for most in (20, 5))


@given(st.builds(ColourJitterParams, *[STRENGTHS] * 3, HUES), st.integers(0, 99))
@settings(max_examples=60, deadline=None)
def test_factors_lie_where_torchvision_s_do(params: ColourJitterParams, number: int) -> None:
    theirs = v2.ColorJitter(*vars(params).values())
    (changes,) = {draw_changes(AugmentParams(colour_jitter=params), 1, (0, number))}
    factors = dict(changes.colours)
    assert set(factors) == {name for name, strength in vars(params).items() if strength}
    for name, factor in factors.items():
        low, high = getattr(theirs, name)
        assert low <= factor <= high


def test_jitter_makes_torchvision_s_pixels_alike_in_all_images() -> None:
    images = torch.randint(0, 256, (5, 3, 9, 11), dtype=torch.uint8)
    orders = set()
    for number in range(20):
        colours = draw_changes(AugmentParams(colour_jitter=STRONG), 1, (0, number)).colours
        orders.add(tuple(name for name, _ in colours))
        expected = images
        for name, factor in colours:
            expected = getattr(v2.functional, f"adjust_{name}")(expected, factor)
        found = jitter(images, colours)
        assert found.dtype == torch.uint8 and torch.equal(found, expected)
        assert torch.equal(jitter(images[2:3], colours), found[2:3])
        assert not torch.equal(found, images)
    assert len(orders) > 10


def test_draws_depend_on_seed_epoch_and_position_alone() -> None:
    params = AugmentParams(colour_jitter=STRONG, mixup=0.4)
    first = draw_changes(params, 1, (2, 3))
    np.random.seed(0)  # noqa: NPY002
    torch.manual_seed(0)
    assert draw_changes(params, 1, (2, 3)) == first
    others = [(2, (2, 3)), (1, (3, 3)), (1, (2, 4))]
    assert all(draw_changes(params, seed, number) != first for seed, number in others)
    shares = np.array([draw_changes(params, 1, (0, k)).share for k in range(4000)])
    beta = np.random.default_rng(5).beta(0.4, 0.4, 4000)
    grid = np.linspace(0.1, 0.9, 9)
    np.testing.assert_allclose(np.quantile(shares, grid), np.quantile(beta, grid), atol=0.06)
    assert draw_changes(AugmentParams(), 1, (0, 0)).share == 1.0


@settings(deadline=None)
@given(st.integers(1, 6), st.integers(0, 9))
def test_a_mixture_is_of_a_video_and_the_next_one(count: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    values, shares = rng.random((count + 1, 2, 3)), rng.random(count)
    found = mix_up(torch.tensor(values), torch.tensor(shares)).numpy()
    for k in range(count):
        np.testing.assert_allclose(
            found[k], shares[k] * values[k] + (1 - shares[k]) * values[k + 1], rtol=1e-12
        )


@settings(deadline=None)
@given(st.integers(3, 30), st.integers(1, 8), st.integers(1, 3))
def test_partners_are_the_same_for_any_number_of_processes(
    count: int, batch_size: int, world: int
) -> None:
    def passes(rank: int, world: int) -> list[list[tuple[int, int]]]:
        made = BatchSampler(
            count, batch_size, seed=1, shuffle=True, rank=rank, world=world, mixes=True
        )
        return [list(zip(own, own[1:], strict=False)) for own in made]

    shares = [passes(rank, world) for rank in range(world)]
    # one process has a last batch that is too small for all of several
    for k, pairs in enumerate(passes(0, 1)[: len(shares[0])]):
        assert [pair for share in shares for pair in share[k]] == pairs
        firsts = [first for first, _ in pairs]
        assert [second for _, second in pairs] == firsts[1:] + firsts[:1]


def test_only_colours_can_be_jittered(store: Path, tmp_path: Path) -> None:
    from flowpipe.errors import RecipeError

    with pytest.raises(RecipeError, match="flow has no colours to jitter; remove it"):
        job(store, tmp_path, modality="flow", stream={"augment.colour_jitter.hue": 0.1})


def test_a_batch_is_jittered_and_mixed_as_its_samples_say(store: Path, tmp_path: Path) -> None:
    wanted = job(store, tmp_path, stream={"augment.mixup": 0.8, "schedule.batch_size": 3})
    plain = job(store, tmp_path, stream={"schedule.batch_size": 3})
    trainer, other = trainer_of(wanted), trainer_of(plain)
    batch, unmixed = next(iter(trainer.loader)), next(iter(other.loader))
    assert len(batch) == len(unmixed) == 3 and len(batch.labels) == 4
    x, targets = trainer.learner.inputs(batch, 0, 3)
    alone, labels = other.learner.inputs(unmixed, 0, 3)
    for k in range(3):
        share, following = batch.samples[k].changes.share, (k + 1) % 3
        assert 0 < share < 1
        expected = share * alone[k] + (1 - share) * alone[following]
        torch.testing.assert_close(x[k], expected)
        weights = torch.zeros(3)
        weights[labels[k]] += share
        weights[labels[following]] += 1 - share
        torch.testing.assert_close(targets[k], weights)
    later, _ = trainer.learner.inputs(batch, 1, 3)
    assert torch.equal(later, x[1:])  # a part of a batch has the same mixtures
    colourful = trainer_of(
        job(store, tmp_path, stream={"augment.colour_jitter": "{brightness: 0.4}",
                                     "schedule.batch_size": 3})
    )  # fmt: skip
    bright = next(iter(colourful.loader))
    y, _ = colourful.learner.inputs(bright, 0, 3)
    assert not torch.allclose(y, alone)
    validated = next(iter(colourful.val_loader))
    assert {sample.changes for sample in validated.samples} == {PhotometricChanges()}
    assert len(validated) == len(validated.labels)


def test_a_training_with_jitter_and_mixup_resumes_to_the_same_numbers(
    store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, broken, _ = train_and_resume(store, tmp_path, 5, monkeypatch, stream=MIXED, end=4)
    assert_same_weights(whole, broken, name="ema.pt")


@pytest.mark.parametrize("options", [{"accumulate": 3}, {"amp": "bf16"}])
def test_mixup_works_with_gradient_accumulation_and_half_precision(
    store: Path, tmp_path: Path, options: dict[str, object]
) -> None:
    # not the optimiser: Adam's steps of tiny gradients are as large as any
    stream = {k: v for k, v in MIXED.items() if not k.startswith("schedule.")}
    whole = job(store, tmp_path, "whole", stream=stream, end=4)
    parts = replace(whole, run=tmp_path / "parts", **options)
    run(whole)
    run(parts)
    tolerance = (
        {"rtol": 1e-4, "atol": 1e-6} if "accumulate" in options else {"rtol": 0.1, "atol": 0.02}
    )
    assert_same_weights(whole.run, parts.run, **tolerance)
