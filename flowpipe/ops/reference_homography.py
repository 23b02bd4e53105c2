"""Matches -> homographies by sequential RANSAC, in NumPy.

`flowpipe.ops.FeatureOps.homographies` describes the operation. The samples are the same in every
call. Every second one draws four matches from a quarter of the list, which tends to hold matches of
one kind: keypoints may have a motion that the flow lost. Inliers are found in single precision and
counted in integers, and sums have the order of the compiled core (kernels/cpu/homography.h), so
both give the same bytes.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flowpipe.ops.feature_protocol import Points

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]

DRAWS = 64  # hypotheses per batch; the best is polished after each batch
MOST_DRAWS = 16  # batches at most
MISSED = 1e-3  # accepted probability that no sample consists of inliers
SMALLEST_DETERMINANT = 1e-4  # twice the area of the triangle of three sampled points
APART = np.float32(1.5)  # thresholds; later searches skip matches closer to a homography
POLISHINGS = 2  # refits of a leading hypothesis, at most
FITS = 3  # refits of a found homography to all its inliers
LANES = 8  # partial sums

Search = Callable[[F32, int, int, np.float32], tuple[F64, NDArray[np.bool_]]]
"""Scaled matches (4, M), most, least, threshold -> homographies (K, 3, 3), inliers (K, M)."""


@dataclass(frozen=True)
class Homography:
    """Homography of scaled points, and its number of inliers."""

    matrix: F64
    score: int = 0
    """Inliers at the threshold, at its half and at its quarter, added up."""
    count: int = 0
    """Inliers at the threshold."""


def scaled_homographies(
    in_first: Points,
    in_second: Points,
    threshold_px: float,
    most: int,
    *,
    least: int,
    search: Search,
) -> tuple[F64, NDArray[np.bool_]]:
    """Scale the first frame's points to -1 .. 1, search, and return homographies in pixels.

    The scale is a power of two, so scaling is exact.

    Parameters
    ----------
    in_first, in_second : float32 (M, 2)
        Matched points, pixels.
    threshold_px : float
        Reprojection error below which a match is an inlier, pixels.
    most : int
        Most homographies.
    least : int
        A homography needs more inliers than this.
    search : Search
        Function of the scaled matches.

    Returns
    -------
    homographies : float64 (K, 3, 3)
        Homographies, K <= most.
    inliers : bool (K, M)
        Matches that each explains.
    """
    if not len(in_first):
        return np.empty((0, 3, 3)), np.empty((0, 0), np.bool_)
    rows = np.concatenate([in_first.T, in_second.T]).astype(np.float64, order="C")
    low, high = rows[:2].min(axis=1), rows[:2].max(axis=1)
    x, y = ((low + high) / 2).tolist()
    scale = math.ldexp(1.0, -math.frexp(max(high - low) / 2)[1])
    scaled = ((rows - [[x], [y], [x], [y]]) * scale).astype(np.float32)
    found, agree = search(scaled, most, least, np.float32(threshold_px * scale))
    there = np.array([[scale, 0, -x * scale], [0, scale, -y * scale], [0, 0, 1]])
    back = np.array([[1 / scale, 0, x], [0, 1 / scale, y], [0, 0, 1]])
    matrices = _product(_product(back, found), there)
    sound = matrices[:, 2, 2] != 0
    return matrices[sound] / matrices[sound, 2:, 2:], agree[sound]


def search_homographies(
    rows: F32, most: int, least: int, threshold: np.float32
) -> tuple[F64, NDArray[np.bool_]]:
    """Find homographies by sequential RANSAC.

    Parameters
    ----------
    rows : float32 (4, M)
        Scaled matches: x and y in the first, x and y in the second frame.
    most : int
        Most homographies.
    least : int
        A homography needs more inliers than this.
    threshold : float32
        Reprojection error below which a match is an inlier, scaled.

    Returns
    -------
    homographies : float64 (K, 3, 3)
        Homographies, K <= most.
    inliers : bool (K, M)
        Matches that each explains.
    """
    found: list[F64] = []
    agree: list[NDArray[np.bool_]] = []
    rest = rows
    while len(found) < most and rest.shape[1] > least:
        best = _search(rest, threshold)
        if best.count <= least:
            break
        matrix = best.matrix
        for _ in range(FITS):
            matrix = _fit(rows, _agreement(rows, threshold, matrix), matrix)
        found.append(matrix)
        agree.append(_agreement(rows, threshold, matrix))
        rest = rest[:, ~_agreement(rest, APART * threshold, matrix)]
    count = len(found)
    marks = np.reshape(agree, (count, rows.shape[1])).astype(np.bool_)
    return np.reshape(found, (count, 3, 3)), marks


def _search(rows: F32, threshold: np.float32) -> Homography:
    best = Homography(np.zeros((3, 3)))
    for batch in range(MOST_DRAWS):
        drawn = _minimal(rows, batch * DRAWS)
        scores, counts = _scores(rows, threshold, drawn)
        k = int(np.argmax(scores))
        if scores[k] > best.score:
            leader = Homography(drawn[k], int(scores[k]), int(counts[k]))
            best = _polish(rows, threshold, leader)
        share = best.count / rows.shape[1]
        missed, chance = 1 - share * share * share * share, 1.0
        for _ in range(DRAWS.bit_length() - 1):
            missed *= missed
        for _ in range(batch + 1):
            chance *= missed
        if chance < MISSED:
            break
    return best


def _hash(k: NDArray[np.uint32]) -> NDArray[np.uint32]:
    """Hash integers to pseudo-random ones (Wellons' lowbias32)."""
    k = k ^ k >> np.uint32(16)
    k = k * np.uint32(0x7FEB352D)
    k = k ^ k >> np.uint32(15)
    k = k * np.uint32(0x846CA68B)
    return k ^ k >> np.uint32(16)


def _minimal(rows: F32, draw: int) -> F64:
    """Return DRAWS homographies (DRAWS, 3, 3) through four matches each; zeros, which have no
    inliers, if the four are degenerate."""
    numbers = _hash(np.arange(8 * draw + 1, 8 * (draw + DRAWS) + 1, dtype=np.uint32))
    random = numbers.astype(np.uint64).reshape(DRAWS, 8)
    count = rows.shape[1]
    among = np.where(np.arange(draw, draw + DRAWS) % 2, (count + 3) // 4, count).astype(np.uint64)
    start = random[:, 4] * (np.uint64(count + 1) - among) >> np.uint64(32)
    at = start[:, None] + (random[:, :4] * among[:, None] >> np.uint64(32))
    x, y, u, v = rows.astype(np.float64)[:, at.astype(np.int64)]
    a, sign, sound = _basis(x, y)
    b, other, sound_there = _basis(u, v)
    adjugate = [_cross(a[1], a[2]), _cross(a[2], a[0]), _cross(a[0], a[1])]
    h = np.empty((DRAWS, 9))
    for i in range(3):
        for j in range(3):
            h[:, 3 * i + j] = (
                b[0][i] * adjugate[0][j] + b[1][i] * adjugate[1][j] + b[2][i] * adjugate[2][j]
            )
    sound = sound & sound_there & (h[:, 8] != 0)
    for mine, others in zip(sign, other, strict=True):
        sound = sound & (mine * others > 0)  # seen from the same side
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(sound[:, None], h / h[:, 8:], 0.0).reshape(DRAWS, 3, 3)


def _basis(x: F64, y: F64) -> tuple[list[tuple[F64, F64, F64]], list[F64], NDArray[np.bool_]]:
    """Return the columns that map the unit vectors to three of four points and (1, 1, 1) to the
    fourth, their factors, and whether no three of the points are nearly collinear."""

    def determinant(p: int, q: int, r: int) -> Any:
        return (x[:, q] - x[:, p]) * (y[:, r] - y[:, p]) - (y[:, q] - y[:, p]) * (x[:, r] - x[:, p])

    sign = [determinant(*three) for three in ((3, 1, 2), (0, 3, 2), (0, 1, 3), (0, 1, 2))]
    sound = np.all(np.abs(sign) > SMALLEST_DETERMINANT, axis=0)
    return [(x[:, k] * sign[k], y[:, k] * sign[k], sign[k]) for k in range(3)], sign, sound


def _cross(a: tuple[F64, F64, F64], b: tuple[F64, F64, F64]) -> tuple[F64, F64, F64]:
    return a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]


def _errors(rows: F32, matrices: F64) -> tuple[F32, F32]:
    """Return squared errors times w squared, (B, M), and w squared, 0 behind the camera."""
    h = matrices.reshape(-1, 9, 1).astype(np.float32)
    x, y, u, v = rows
    w = h[:, 6] * x + h[:, 7] * y + h[:, 8]
    dx = h[:, 0] * x + h[:, 1] * y + h[:, 2] - u * w
    dy = h[:, 3] * x + h[:, 4] * y + h[:, 5] - v * w
    return dx * dx + dy * dy, np.where(w > 0, w * w, np.float32(0))


def _scores(
    rows: F32, threshold: np.float32, matrices: F64
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    error, square = _errors(rows, matrices)
    whole = threshold * threshold
    counts = (error < whole * square).sum(axis=1)
    half = whole * np.float32(0.25)
    closer = (error < half * square).sum(axis=1)
    closest = (error < half * np.float32(0.25) * square).sum(axis=1)
    return counts + (closer + closest), counts


def _agreement(rows: F32, threshold: np.float32, matrix: F64) -> NDArray[np.bool_]:
    error, square = _errors(rows, matrix[None])
    agrees: NDArray[np.bool_] = (error < threshold * threshold * square)[0]
    return agrees


def _polish(rows: F32, threshold: np.float32, best: Homography) -> Homography:
    """Refit a homography to its inliers while their score grows."""
    for _ in range(POLISHINGS):
        fitted = _fit(rows, _agreement(rows, threshold, best.matrix), best.matrix)
        scores, counts = _scores(rows, threshold, fitted[None])
        if scores[0] <= best.score:
            return best
        best = Homography(fitted, int(scores[0]), int(counts[0]))
    return best


def _fit(rows: F32, agree: NDArray[np.bool_], matrix: F64) -> F64:
    """Fit to the marked matches by two Gauss-Newton steps; stop early if they are degenerate."""
    for _ in range(2):
        refined = _refine(rows, agree, matrix)
        if refined is None:
            break
        matrix = refined
    return matrix


def _refine(rows: F32, agree: NDArray[np.bool_], matrix: F64) -> F64 | None:
    """Make one Gauss-Newton step on the squared distances of the marked matches; None if they are
    degenerate."""
    h = matrix.ravel()
    x, y, u, v = rows[:, agree].astype(np.float64)
    w = 1 / (h[6] * x + h[7] * y + h[8])
    big_x, big_y = (h[0] * x + h[1] * y + h[2]) * w, (h[3] * x + h[4] * y + h[5]) * w
    r, s = u - big_x, v - big_y
    p0, p1, both, pull = x * w, y * w, big_x * big_x + big_y * big_y, big_x * r + big_y * s
    p00, p01, p11, p0w, p1w = p0 * p0, p0 * p1, p1 * p1, p0 * w, p1 * w
    terms = [p00, p01, p0w, p11, p1w, w * w]
    terms += [big_x * term for term in (p00, p01, p11, p0w, p1w)]
    terms += [big_y * term for term in (p00, p01, p11, p0w, p1w)]
    terms += [both * term for term in (p00, p01, p11)]
    terms += [r * p0, r * p1, r * w, s * p0, s * p1, s * w, pull * p0, pull * p1]
    # As the core does, match i is added to partial sum i mod LANES, and outliers as 0.
    places = np.zeros((len(terms), -(-rows.shape[1] // LANES) * LANES))
    places[:, np.flatnonzero(agree)] = terms
    lanes = np.add.accumulate(places.reshape(len(terms), -1, LANES), axis=1)[:, -1]
    t = np.add.accumulate(lanes, axis=1)[:, -1].tolist()
    n = [
        [t[0], t[1], t[2], 0.0, 0.0, 0.0, -t[6], -t[7], t[19]],
        [t[1], t[3], t[4], 0.0, 0.0, 0.0, -t[7], -t[8], t[20]],
        [t[2], t[4], t[5], 0.0, 0.0, 0.0, -t[9], -t[10], t[21]],
        [0.0, 0.0, 0.0, t[0], t[1], t[2], -t[11], -t[12], t[22]],
        [0.0, 0.0, 0.0, t[1], t[3], t[4], -t[12], -t[13], t[23]],
        [0.0, 0.0, 0.0, t[2], t[4], t[5], -t[14], -t[15], t[24]],
        [-t[6], -t[7], -t[9], -t[11], -t[12], -t[14], t[16], t[17], -t[25]],
        [-t[7], -t[8], -t[10], -t[12], -t[13], -t[15], t[17], t[18], -t[26]],
    ]
    step = _solve(n)
    return None if step is None else (h + np.array([*step, 0.0])).reshape(3, 3)


def _solve(n: list[list[float]]) -> list[float] | None:
    """Solve eight equations (8, 9) in place, right sides in the last column; None if singular."""
    for i in range(8):
        if not n[i][i] > 1e-12:
            return None
        for j in range(i + 1, 8):
            factor = n[j][i] / n[i][i]
            for k in range(i, 9):
                n[j][k] -= factor * n[i][k]
    for i in reversed(range(8)):
        for k in range(i + 1, 8):
            n[i][8] -= n[i][k] * n[k][8]
        n[i][8] = n[i][8] / n[i][i]
    return [row[8] for row in n]


def _product(a: F64, b: F64) -> F64:
    """Multiply matrices (..., 3, 3); the order of the sums is the same everywhere."""
    terms = [a[..., :, k, None] * b[..., None, k, :] for k in range(3)]
    return np.asarray(terms[0] + terms[1] + terms[2])
