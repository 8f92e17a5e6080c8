"""How far the scenes of one place lie from one another, to a small part of a pixel.

Each scene is compared with a reference, the median of clear scenes spread over the reference period. Both are reduced
to their local pattern: the logarithm, less its mean over some 7 pixels, over its spread over some 15. So neither the
level of a scene, nor its haze, nor one bright roof decides. A first shift comes from the upsampled cross-correlation
(Guizar-Sicairos, Thurman and Fienup 2008, doi:10.1364/OL.33.000156); it is refined by least squares on the gradients
(Lucas and Kanade 1981) over the pixels that both show, where pixels that do not fit, because something was built there
or a cloud was missed, lose their weight (Beaton and Tukey 1974, doi:10.1080/00401706.1974.10489171). Only the
reference, which has no gaps, is ever moved, so gaps of a scene have no say. The error is that of leaving out one
sixteenth of the frame after the other (jackknife): parts that disagree make it large.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.ndimage import spline_filter, uniform_filter

from compoundwatch.model import BoolArray, FloatArray

DARK = 0.02
"""Reflectance that is added before the logarithm, so that noise on dark ground does not become a pattern."""
MEAN_PIXELS, SPREAD_PIXELS = 7, 15
REFERENCE_SCENES = 24
MIN_REFERENCE_SCENES = 3
CLEAR_ENOUGH = 0.8
"""A scene of the reference shows at least this share of what the clearest shows."""
ROUNDS = 1
"""How often the scenes of the reference are laid on it anew."""

MIN_PIXELS, MIN_SHARE = 250, 0.05
"""A scene is measured where it shows so many pixels of the frame, and this share of them."""
BLOCKS, MIN_BLOCKS = 4, 5
"""The frame is cut into BLOCKS x BLOCKS parts, of which the scene must show MIN_BLOCKS."""
MIN_LIKENESS = 0.2
PLAIN_LIKENESS = 0.5
"""The likeness that is asked for where a shift is larger than MAX_SHIFT: patterns are alike somewhere by chance."""
MIN_RELIABILITY = 0.5
"""At least this share of the reference's slopes is no noise, whichever way one looks."""
MAX_ERROR = 0.2
"""Largest standard error of a shift that is trusted, in pixels per axis."""
MAX_SHIFT = 2.5
"""Shifts beyond this many pixels are not believed: no archive is off by so much."""
MIN_SHIFT = 0.1
"""Shorter shifts (pixels) are not corrected: a scene that is not resampled keeps its sharpness."""
SURE = 3.0
"""A shift is corrected when it is so many standard errors long."""

_EDGE = 3
_STEPS, _SMALL_STEP, _LARGEST_STEP = 8, 0.02, 0.7
_REWEIGHTED = 2
_BISQUARE = 4.685
_EVERY = 3
"""The spread of residuals is taken from every third pixel."""
_UPSAMPLE = 20
_MIN_GAIN = 0.05
_SINGULAR = 1e8


@dataclass(frozen=True)
class Shift:
    """How far a scene lies from the reference.

    ``down`` and ``right`` in pixels: the scene shows at (row + down, col + right) what the reference shows at
    (row, col). ``error_down`` and ``error_right`` are standard errors in pixels. ``likeness`` is the correlation of
    the two patterns once laid upon one another (-1 to 1). ``reliability`` is that of the reference where they were
    compared.
    """

    down: float
    right: float
    error_down: float
    error_right: float
    likeness: float
    reliability: float

    @property
    def length(self) -> float:
        """Length of the shift in pixels."""
        return float(np.hypot(self.down, self.right))

    @property
    def trusted(self) -> bool:
        """Whether parts of the frame agree on it, the patterns are alike, and there is a pattern."""
        return (
            max(self.error_down, self.error_right) <= MAX_ERROR
            and self.likeness >= (MIN_LIKENESS if self.plausible else PLAIN_LIKENESS)
            and self.reliability >= MIN_RELIABILITY
        )

    @property
    def plausible(self) -> bool:
        """Whether a satellite's geolocation can be off by so much."""
        return self.length <= MAX_SHIFT

    @property
    def worthwhile(self) -> bool:
        """Whether it is longer than its own error and than MIN_SHIFT, so that correcting it helps."""
        if self.length <= MIN_SHIFT:
            return False
        error = np.hypot(self.down * self.error_down, self.right * self.error_right) / self.length
        return bool(self.length > SURE * error)


@dataclass(frozen=True)
class Reference:
    """What scenes are compared with: a logarithm of reflectance, as the coefficients of its cubic spline.

    ``spline`` float32 (rows, cols); ``seen`` bool. ``shared`` float32 (3, rows, cols) are products of the slopes of two
    references, made of every other scene each (down x down, right x right, down x right), and ``total`` the like
    products of each with itself, on average: where slopes are but noise, the two share nothing.
    """

    spline: FloatArray
    seen: BoolArray
    shared: FloatArray
    total: FloatArray

    def reliability(self, seen: BoolArray, weight: FloatArray) -> float:
        """Share of the slopes that is no noise, 0 to 1, in the direction in which it is smallest.

        Parameters
        ----------
        seen : bool (rows, cols), the pixels that are compared.
        weight : their weights (number of them,).
        """
        image = np.zeros(seen.shape, dtype=np.float32)
        image[seen] = weight
        shared, total = (part.reshape(3, -1) @ image.ravel() for part in (self.shared, self.total))
        a, b = (np.array([[p[0], p[2]], [p[2], p[1]]]) for p in (shared, total))
        if np.linalg.cond(b) > _SINGULAR:
            return 0.0
        return float(np.linalg.eigvals(np.linalg.solve(b, a)).real.min())


Mapper = Callable[[Callable[[int], Any], Sequence[int]], Any]
"""Applies a function to indices, in order; ``map``, or that of a pool of threads."""


def align(frames: Sequence[FloatArray], candidates: Sequence[int], run: Mapper = map) -> list[Shift | None]:
    """Measure the shift of every frame against the reference that the candidates make.

    Parameters
    ----------
    frames : reflectance float32 (rows, cols) of each scene on one grid, NaN = not usable.
    candidates : indices of the frames that may be part of the reference, in order of time.
    run : maps a function over indices.

    Returns
    -------
    For each frame its shift, None where it shows too little, and where there are not MIN_REFERENCE_SCENES clear
    candidates.
    """
    levels = [np.log(np.maximum(f, 0) + np.float32(DARK)) for f in frames]
    chosen = _clearest(levels, candidates)
    if len(chosen) < MIN_REFERENCE_SCENES:
        return [None] * len(frames)
    shifts: dict[int, Shift | None] = {}
    for _ in range(ROUNDS):
        shifts = _all_measured(levels, chosen, chosen, shifts, run)
    return list(_all_measured(levels, range(len(frames)), chosen, shifts, run).values())


def _all_measured(
    levels: Sequence[FloatArray],
    which: Sequence[int],
    chosen: Sequence[int],
    known: Mapping[int, Shift | None],
    run: Mapper,
) -> dict[int, Shift | None]:
    """Measure some of the scenes against the reference that the chosen ones make, lying as is known by now.

    A chosen scene is compared with the others alone: its own noise would hold it where it is.
    """
    layers = _Layers([levels[k] for k in chosen], [known.get(k) for k in chosen])
    whole, place = layers.reference(), {k: n for n, k in enumerate(chosen)}

    def one(k: int) -> Shift | None:
        return measure(levels[k], layers.reference(place[k]) if k in place else whole, known.get(k))

    return dict(zip(which, run(one, which), strict=True))


def _clearest(levels: Sequence[FloatArray], candidates: Sequence[int]) -> list[int]:
    """Up to REFERENCE_SCENES of the clearest candidates, evenly spread over time."""
    clear = np.array([np.isfinite(levels[k]).mean() for k in candidates])
    if not clear.size:
        return []
    good = [k for k, c in zip(candidates, clear, strict=True) if c >= CLEAR_ENOUGH * clear.max() and c >= MIN_SHARE]
    if len(good) < REFERENCE_SCENES:
        order = np.argsort(-clear, kind="stable")[:REFERENCE_SCENES]
        return sorted(candidates[int(k)] for k in order if clear[k] >= MIN_SHARE)
    return [good[int(k)] for k in np.linspace(0, len(good) - 1, REFERENCE_SCENES).round()]


class _Layers:
    """The scenes of a reference, each moved back to where it belongs, and their medians.

    Scenes without a trusted shift are taken where they lie.
    """

    def __init__(self, levels: Sequence[FloatArray], shifts: Sequence[Shift | None]) -> None:
        self.cube = np.stack([_moved_back(level, shift) for level, shift in zip(levels, shifts, strict=True)])
        self._sorted = np.sort(self.cube, axis=0)  # missing ones last
        self._count = np.isfinite(self.cube).sum(axis=0)
        halves = [_half_slopes(_median(np.sort(self.cube[k::2], axis=0))) for k in (0, 1)]
        (down, right), (other_down, other_right) = halves
        self._shared = np.stack([down * other_down, right * other_right, (down * other_right + right * other_down) / 2])
        self._total = np.stack(
            [down**2 + other_down**2, right**2 + other_right**2, down * right + other_down * other_right]
        ) / np.float32(2)

    def reference(self, leaving_out: int | None = None) -> Reference:
        """The median of all, or of all but one."""
        if leaving_out is None:
            median = _median(self._sorted)
        else:
            own = self.cube[leaving_out]
            rank = np.where(np.isfinite(own), (self._sorted < own).sum(axis=0), len(self.cube))
            median = _median(self._sorted, rank)
        seen = np.isfinite(median)
        return Reference(_spline(np.where(seen, median, np.float32(0))), seen, self._shared, self._total)


def _half_slopes(median: FloatArray) -> tuple[FloatArray, FloatArray]:
    seen = np.isfinite(median)
    return _slopes(_Local(seen).pattern(np.where(seen, median, np.float32(0))))


def _slopes(image: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Rise per pixel downwards and to the right; 0 at the edges."""
    down, right = np.zeros_like(image), np.zeros_like(image)
    down[1:-1] = (image[2:] - image[:-2]) / 2
    right[:, 1:-1] = (image[:, 2:] - image[:, :-2]) / 2
    return down, right


def _moved_back(level: FloatArray, shift: Shift | None) -> FloatArray:
    seen = np.isfinite(level)
    layer = np.where(seen, level - np.median(level[seen]), np.float32(0))
    if shift is not None and shift.trusted and shift.plausible:
        back = (-shift.down, -shift.right)
        layer = _moved(_spline(layer), *back)
        seen = _moved(seen.astype(np.float32), *back, linear=True) > 0.99
    return np.where(seen, layer, np.float32(np.nan))


def _median(ordered: FloatArray, without: npt.NDArray[np.int64] | None = None) -> FloatArray:
    """Median along the first axis of sorted values, missing ones last; without the one of a rank at each pixel."""
    count = np.isfinite(ordered).sum(axis=0)
    if without is not None:
        count = count - (without < len(ordered))
    picks = []
    for middle in (np.maximum(count - 1, 0) // 2, count // 2):
        place = middle if without is None else middle + (middle >= without)
        place = np.minimum(place, len(ordered) - 1)
        picks.append(np.take_along_axis(ordered, place[None], axis=0)[0])
    return np.where(count > 0, (picks[0] + picks[1]) / np.float32(2), np.float32(np.nan))


def _spline(image: FloatArray) -> FloatArray:
    """Coefficients of the cubic spline through an image."""
    return np.asarray(spline_filter(image, order=3, output=np.float32, mode="nearest"))


def _moved(image: FloatArray, down: float, right: float, linear: bool = False) -> FloatArray:
    """The cubic spline of these coefficients (or the linear one of these values) moved by a part of some pixels."""
    for axis, by in ((0, down), (1, right)):
        whole = int(np.floor(by))
        t = 1 - (by - whole)  # how far the sampled place lies beyond its left neighbour
        first = -1 - whole
        if linear:
            taps = [1 - t, t]
        else:
            first -= 1
            taps = [(1 - t) ** 3 / 6, 2 / 3 - t**2 + t**3 / 2, 2 / 3 - (1 - t) ** 2 + (1 - t) ** 3 / 2, t**3 / 6]
        place = np.arange(image.shape[axis]) + first
        parts = [image.take(np.clip(place + k, 0, len(place) - 1), axis=axis) for k in range(len(taps))]
        image = np.asarray(sum(np.float32(tap) * part for tap, part in zip(taps, parts, strict=True)))
    return image


def measure(level: FloatArray, reference: Reference, start: Shift | None = None) -> Shift | None:
    """Measure the shift of one scene.

    Parameters
    ----------
    level : logarithm of reflectance float32 (rows, cols), NaN = not usable.
    reference : what it is compared with.
    start : a first guess; None = from cross-correlation.

    Returns
    -------
    None where the scene shows too little, or nothing of it resembles the reference.
    """
    seen = np.isfinite(level) & reference.seen
    seen[:_EDGE] = seen[-_EDGE:] = False
    seen[:, :_EDGE] = seen[:, -_EDGE:] = False
    block = _blocks(seen)
    if seen.sum() < MIN_PIXELS or seen.mean() < MIN_SHARE or np.count_nonzero(np.bincount(block)) < MIN_BLOCKS:
        return None
    local = _Local(seen)
    scene = local.pattern(np.where(seen, level, np.float32(0)))
    pattern = local.pattern(reference.spline)
    if not scene.any() or not pattern.any():
        return None
    guess = (start.down, start.right) if start else _coarse(scene, pattern)
    return _refine(scene[seen], reference, local, guess, block)


def _blocks(seen: BoolArray) -> npt.NDArray[np.int64]:
    """Number of the block in which each seen pixel lies."""
    row, col = np.nonzero(seen)
    return np.asarray(row * BLOCKS // seen.shape[0] * BLOCKS + col * BLOCKS // seen.shape[1])


class _Local:
    """The local pattern of images of which only some pixels are seen; the others never count."""

    def __init__(self, seen: BoolArray) -> None:
        self.seen = seen
        self._weight = [
            1 / np.maximum(uniform_filter(seen.astype(np.float32), size, mode="constant"), 1 / size**2)
            for size in (MEAN_PIXELS, SPREAD_PIXELS)
        ]

    def _mean(self, image: FloatArray, which: int) -> FloatArray:
        size = (MEAN_PIXELS, SPREAD_PIXELS)[which]
        return np.asarray(uniform_filter(image, size, mode="constant") * self._weight[which], dtype=np.float32)

    def pattern(self, image: FloatArray) -> FloatArray:
        """Difference from the local mean, over the local spread; 0 where not seen."""
        masked = np.where(self.seen, image, np.float32(0))
        detail = np.where(self.seen, masked - self._mean(masked, 0), np.float32(0))
        spread = np.sqrt(np.maximum(self._mean(detail**2, 1), 0))
        floor = 0.25 * float(np.sqrt(np.mean(detail[self.seen] ** 2))) + 1e-6
        return np.asarray(detail / (spread + floor), dtype=np.float32)


def _coarse(scene: FloatArray, reference: FloatArray) -> tuple[float, float]:
    """A first shift (down, right) from the peak of the cross-correlation of two patterns, 0 where not seen."""
    from skimage.registration import phase_cross_correlation

    window = np.outer(np.hanning(scene.shape[0]), np.hanning(scene.shape[1]))
    back, _, _ = phase_cross_correlation(  # type: ignore[no-untyped-call]
        reference * window, scene * window, upsample_factor=_UPSAMPLE, normalization=None
    )
    return -float(back[0]), -float(back[1])


def _refine(
    scene: FloatArray, reference: Reference, local: _Local, guess: tuple[float, float], block: npt.NDArray[np.int64]
) -> Shift | None:
    """Least squares on gradients, pixels that do not fit losing their weight, until the shift stands still."""
    seen = local.seen
    place: FloatArray = np.asarray(guess, dtype=np.float64)
    weight = np.ones(scene.shape, dtype=np.float32)
    for _ in range(_STEPS):
        there = local.pattern(_moved(reference.spline, float(place[0]), float(place[1])))
        design = np.stack([there[seen], *(-slope[seen] for slope in _slopes(there))])
        for _ in range(_REWEIGHTED):
            normal, moment = _sums(design, scene, weight)
            if np.linalg.cond(normal) > _SINGULAR:
                return None
            fit = _solved(normal, moment)
            if fit[0] <= _MIN_GAIN:
                return None
            residual = scene - fit.astype(np.float32) @ design
            scale = _BISQUARE * 1.4826 * float(np.median(np.abs(residual[::_EVERY]))) + 1e-9
            weight = np.clip(1 - (residual / np.float32(scale)) ** 2, 0, None) ** 2
        move = np.clip(fit[1:] / fit[0], -_LARGEST_STEP, _LARGEST_STEP)
        place = place + move
        if np.abs(move).max() < _SMALL_STEP:
            break
    errors = _jackknife(design, scene, weight, block)
    likeness = _correlation(scene, design[0], weight)
    return Shift(float(place[0]), float(place[1]), *errors, likeness, reference.reliability(seen, weight))


def _sums(design: FloatArray, values: FloatArray, weight: FloatArray) -> tuple[FloatArray, FloatArray]:
    weighted = design * weight
    return (weighted @ design.T).astype(np.float64), (weighted @ values).astype(np.float64)


def _solved(normal: FloatArray, moment: FloatArray) -> FloatArray:
    found: FloatArray = np.linalg.solve(normal, moment)
    return found


def _jackknife(
    design: FloatArray, values: FloatArray, weight: FloatArray, block: npt.NDArray[np.int64]
) -> tuple[float, float]:
    """Standard errors of the shift from leaving out one block after the other; infinite where that leaves too little.

    Source: Tukey (1958), Annals of Mathematical Statistics 29, 614.
    """
    order = np.argsort(block, kind="stable")
    table = np.stack([*design, values])[:, order]
    weighted = table * weight[order]
    ends = np.cumsum(np.bincount(block))
    parts = [slice(a, b) for a, b in zip([0, *ends], ends, strict=False) if b > a]
    sums = np.stack([weighted[:, part] @ table[:, part].T for part in parts]).astype(np.float64)
    left = sums.sum(axis=0) - sums
    normal, moment = left[:, :3, :3], left[:, :3, 3:]
    if np.linalg.cond(normal).max() > _SINGULAR:
        return np.inf, np.inf
    found = np.linalg.solve(normal, moment)[:, :, 0]
    by = found[:, 1:] / np.maximum(found[:, :1], _MIN_GAIN)
    error = np.sqrt((len(by) - 1) * by.var(axis=0))
    return float(error[0]), float(error[1])


def _correlation(a: FloatArray, b: FloatArray, weight: FloatArray) -> float:
    """Weighted correlation of two patterns, whose local means are zero."""
    top = float(np.sum(weight * a * b))
    return top / (float(np.sqrt(np.sum(weight * a * a) * np.sum(weight * b * b))) + 1e-12)
