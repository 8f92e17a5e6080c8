"""Pure functions on single images: smoothing that knows of gaps, noise, thresholds, small patches.

Images are float (rows, cols) with NaN = no view; no function touches its input.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numba
import numpy as np
import numpy.typing as npt
from scipy import ndimage, signal, stats
from scipy.special import gammaincc, gammaln

FloatArray = npt.NDArray[np.floating[Any]]
BoolArray = npt.NDArray[np.bool_]
Signs = npt.NDArray[np.int8]
Array = npt.NDArray[np.float64]
Float32 = npt.NDArray[np.float32]

MAD_TO_SIGMA = 1.4826
MAD_EFFICIENCY = 0.37
"""The median absolute deviation of n normal numbers is as uncertain as the standard deviation of 0.37 n (Rousseeuw and
Croux 1993, doi:10.1080/01621459.1993.10476408)."""
TINY = 1e-12


def gaussian(image: FloatArray, sigma: float) -> Array:
    """Mean of the seen pixels around each pixel with Gaussian weights, sigma in pixels; NaN stays NaN.

    Unseen pixels have no weight, so that the mean beside a gap is a mean of fewer pixels, not a smaller one.
    """
    seen = np.isfinite(image)
    total = ndimage.gaussian_filter(np.where(seen, image, 0.0).astype(np.float64), sigma)
    weight = ndimage.gaussian_filter(seen.astype(np.float64), sigma)
    return np.where(seen, total / np.maximum(weight, TINY), np.nan)


def fill_nearest(image: FloatArray) -> Array:
    """Give each unseen pixel the value of the nearest seen one; all zero where nothing was seen."""
    seen = np.isfinite(image)
    if seen.all():
        return image.astype(np.float64)
    if not seen.any():
        return np.zeros(image.shape)
    nearest = ndimage.distance_transform_edt(~seen, return_distances=False, return_indices=True)
    return np.asarray(image[tuple(nearest)], dtype=np.float64)


def noise_sigma(image: FloatArray) -> float:
    """Standard deviation of the noise of one pixel, in the unit of the image; 0 where too few pixels were seen.

    From the mixed second differences, which see neither slopes nor edges along the axes (after Immerkaer 1996,
    doi:10.1006/cviu.1996.0060, with a median in place of the mean).
    """
    twist = image[1:, 1:] - image[:-1, 1:] - image[1:, :-1] + image[:-1, :-1]
    twist = twist[np.isfinite(twist)]
    return float(MAD_TO_SIGMA * np.median(np.abs(twist)) / 2.0) if twist.size else 0.0


def ratio_noise(before: FloatArray, after: FloatArray, tile: int = 8, most: int = 1_000_000) -> tuple[float, float]:
    """How noisy the log-ratio of two bands (rows, cols) is, per pixel of each band, and how that goes with their level.

    Speckle multiplies: the logarithm is noisy everywhere and as much in dark as in bright places. Noise that adds shows
    in dark places only, and ground that is rough but the same in both bands cancels. Measured from mixed second
    differences in tiles of about ``tile`` x ``tile`` pixels, of at most ``most`` pixels evenly taken.

    Returns
    -------
    The noise in the quietest tenth of the tiles (natural logarithm, 0.25 = a quarter of the value); and the slope of
    its logarithm over that of the level: 0 where noise multiplies, -1 where it adds, NaN where all is equally bright.
    Both NaN where there are fewer than 20 tiles of positive values without gaps.
    """
    rows, cols = (n // (tile + 1) for n in before.shape)
    if rows == 0 or cols == 0:
        return np.nan, np.nan
    step = max(1, -(-before.size // most))
    shape = (rows, tile + 1, cols, tile + 1)
    a, b = (
        x[: rows * (tile + 1), : cols * (tile + 1)]
        .reshape(shape)[::step]
        .swapaxes(1, 2)
        .reshape(-1, tile + 1, tile + 1)
        for x in (before, after)
    )
    good = ((a > 0) & (b > 0) & np.isfinite(a) & np.isfinite(b)).all(axis=(1, 2))
    if good.sum() < 20:
        return np.nan, np.nan
    first, second = np.log(a[good].astype(np.float64)), np.log(b[good].astype(np.float64))
    ratio = second - first
    twist = (ratio[:, 1:, 1:] - ratio[:, :-1, 1:] - ratio[:, 1:, :-1] + ratio[:, :-1, :-1]) / 2
    noise = MAD_TO_SIGMA * np.median(np.abs(twist), axis=(1, 2)) / np.sqrt(2)
    level = (first.mean(axis=(1, 2)) + second.mean(axis=(1, 2))) / 2
    part = np.digitize(level, np.quantile(level, np.arange(1, 6) / 6))
    quiet = np.array([np.quantile(noise[part == k], 0.25) if (part == k).any() else 0.0 for k in range(6)])
    middle = np.array([level[part == k].mean() if (part == k).any() else 0.0 for k in range(6)])
    slope = np.nan
    if (quiet > 0).all() and middle[-1] - middle[0] > np.log(1.5):
        slope = float(np.polyfit(middle, np.log(quiet), 1)[0])
    return float(np.quantile(noise, 0.1)), slope


def usual_half(values: FloatArray, shorter: float = 0.7) -> tuple[float, float]:
    """Ends of an interval that holds half of the values (n,) and is usual, though many values lie aside.

    The middle half; or the shortest half (least median of squares, Rousseeuw 1984, doi:10.1080/01621459.1984.10477105)
    if it is less than ``shorter`` times as long, as where a quarter or more of the values lie far off to one side.
    Elsewhere the shortest half is the less certain one: evenly spread values have it anywhere.
    """
    ordered = np.sort(values)
    half = (ordered.size + 1) // 2
    length = ordered[half - 1 :] - ordered[: ordered.size - half + 1]
    first, middle = int(np.argmin(length)), (ordered.size - half) // 2
    if length[first] >= shorter * length[middle]:
        first = middle
    return float(ordered[first]), float(ordered[first + half - 1])


def total_variation(image: FloatArray, weight: float, rounds: int = 100) -> Array:
    """The piecewise smooth image nearest to a noisy one; NaN stays NaN. ``weight`` is in the unit of the image.

    Least squares with the total variation as penalty (Rudin, Osher and Fatemi 1992, doi:10.1016/0167-2789(92)90242-F)
    by the iteration of Chambolle (2004, doi:10.1023/B:JMIV.0000011325.36760.1e). Cut at any level, the result is the
    region that best trades fit for a short outline, as a graph cut would find it (Chambolle 2005,
    doi:10.1007/11585978_10).
    """
    from skimage.restoration import denoise_tv_chambolle

    if weight <= 0 or min(image.shape) < 2:
        return image.astype(np.float64)
    filled = fill_nearest(image)
    smooth = denoise_tv_chambolle(filled, weight=weight, eps=1e-4, max_num_iter=rounds)  # type: ignore[no-untyped-call]
    return np.where(np.isfinite(image), smooth, np.nan)


def nonlocal_mean(image: FloatArray, strength: float, patch: int = 3, reach: int = 11) -> Array:
    """Mean of the pixels whose surroundings look alike; NaN stays NaN.

    Non-local means (Buades, Coll and Morel 2005, doi:10.1109/CVPR.2005.38): within ``reach`` pixels each pixel is
    weighted by exp(-d / strength^2), d the mean squared difference of the two patches of 2 x ``patch`` + 1 pixels.
    Unseen pixels have no weight; in patches they stand with the value of the nearest seen one.
    """
    if strength <= 0:
        return image.astype(np.float64)
    edge = patch + reach
    filled = np.pad(fill_nearest(image).astype(np.float32), edge, mode="symmetric")
    seen = np.pad(np.isfinite(image).astype(np.float32), edge)
    smooth = _nonlocal_mean(filled, seen, np.float32(strength), patch, reach)
    return np.where(np.isfinite(image), smooth, np.nan)


@numba.njit(cache=True, fastmath=True, nogil=True, parallel=True)
def _nonlocal_mean(image: Float32, seen: Float32, strength: np.float32, patch: int, reach: int) -> Float32:
    """Rows are worked off in strips; for each shift the patch distances are running sums, down and along the rows.

    exp(-x) is taken as (1 - x / 32)^32, which is cheap and differs from it by less than 0.01.
    """
    edge, strip, wide = patch + reach, 32, 2 * patch + 1
    rows, cols = image.shape[0] - 2 * edge, image.shape[1] - 2 * edge
    scale = np.float32(1.0) / (np.float32(32 * wide * wide) * strength * strength)
    out = np.empty((rows, cols), dtype=np.float32)
    for part in numba.prange((rows + strip - 1) // strip):
        first, last = part * strip, min(rows, (part + 1) * strip)
        total, weights = np.zeros((strip, cols), np.float32), np.zeros((strip, cols), np.float32)
        column, distance = np.empty(cols + 2 * patch, np.float32), np.empty(cols, np.float32)
        for dy in range(-reach, reach + 1):
            for dx in range(-reach, reach + 1):
                column[:] = 0.0
                for row in range(first - patch, last + patch):
                    here, there = image[row + edge], image[row + edge + dy]
                    for x in range(cols + 2 * patch):
                        gap = here[x + reach] - there[x + reach + dx]
                        column[x] += gap * gap
                    if row < first + patch:
                        continue
                    centre = row - patch
                    if centre > first:
                        here, there = image[centre - patch - 1 + edge], image[centre - patch - 1 + edge + dy]
                        for x in range(cols + 2 * patch):
                            gap = here[x + reach] - there[x + reach + dx]
                            column[x] -= gap * gap
                    running = np.float32(0.0)
                    for x in range(wide - 1):
                        running += column[x]
                    for x in range(cols):
                        running += column[x + wide - 1]
                        distance[x] = running
                        running -= column[x]
                    value, known = image[centre + edge + dy], seen[centre + edge + dy]
                    line = centre - first
                    for x in range(cols):
                        w = max(np.float32(1.0) - max(distance[x], np.float32(0.0)) * scale, np.float32(0.0))
                        w = w * w
                        w = w * w
                        w = w * w
                        w = w * w
                        w = w * w * known[x + edge + dx]
                        total[line, x] += w * value[x + edge + dx]
                        weights[line, x] += w
        for line in range(last - first):
            for x in range(cols):
                w = weights[line, x]
                out[first + line, x] = total[line, x] / w if w > 0 else image[first + line + edge, x + edge]
    return out


def triangle(size: FloatArray, bins: int = 256, spread: float = 3.0) -> float:
    """Threshold of a population with one mode and a tail; infinite where there is no tail.

    The corner of the histogram, that is, the bin farthest below the line between its peak and its last bin (Zack,
    Rogers and Latt 1977, doi:10.1177/25.7.70454; Rosin 2001, doi:10.1016/S0031-3203(00)00136-9). One value in ten
    thousand is let beyond the last bin, so that a single spike does not stretch the line, and the counts are smoothed
    over ``spread`` bins.
    """
    top = float(np.quantile(size, 0.9999)) if size.size else 0.0
    if top <= 0:
        return float("inf")
    count, edge = np.histogram(size[size <= top], bins, range=(0.0, top))
    smooth = ndimage.gaussian_filter1d(count.astype(np.float64), spread)
    peak = int(smooth.argmax())
    if peak >= bins - 2:
        return float("inf")
    tail = smooth[peak:]
    line = np.linspace(tail[0], tail[-1], tail.size)
    return float(edge[peak + int((line - tail).argmax()) + 1])


@dataclass(frozen=True)
class Tail:
    """Sizes told apart into noise and change: ``threshold`` between them, and the noise as exp(-(size / scale)^shape).

    ``threshold`` is infinite where no change was found.
    """

    threshold: float
    scale: float
    shape: float

    def p_value(self, size: FloatArray) -> Array:
        """Chance that noise alone gives a size at least this large (0-1, NaN where the size is NaN)."""
        if self.scale <= 0:
            return np.where(np.isnan(size), np.nan, np.where(size > 0, 0.0, 1.0))
        return np.asarray(gammaincc(1 / self.shape, (np.maximum(size, 0) / self.scale) ** self.shape))


LEAST_NOISE = 0.25
"""Share of the sizes that is noise at the least: where a third of an image changed one way, half of that side did."""
SHAPES = np.arange(0.6, 2.01, 0.1)
"""Exponents of the noise that are tried: 2 = normal, 1 = double exponential, below 1 = heavier tails still."""


def split_tail(size: FloatArray, bins: int = 400, fewest: int = 20) -> Tail:
    """Threshold between noise, which is half a generalised normal, and change, which is normal around its own mean.

    Minimum-error thresholding (Kittler and Illingworth 1986, doi:10.1016/0031-3203(86)90030-0) with the generalised
    normal of Bazi, Bruzzone and Melgani (2005, doi:10.1109/TGRS.2004.842441), here for the half of it that lies on one
    side of zero. For each cut of the histogram both laws are fitted to their own part by maximum likelihood; the cut
    with the best fit wins. Unlike Otsu's, it does not expect the two parts to be of like size, and with noise alone it
    cuts off next to nothing.

    Parameters
    ----------
    size : float (n,), >= 0, no NaN.
    bins : bins of the histogram, which ends at the 99.95th percentile.
    fewest : sizes above the threshold below which nothing is called change.
    """
    if size.size < 2 * fewest or not size.max() > 0:
        return Tail(np.inf, float(np.sqrt(2 * np.mean(size**2))) if size.size else 0.0, 2.0)
    top = float(np.quantile(size, 0.9995)) or float(size.max())
    count, edges = np.histogram(np.minimum(size, top), bins, range=(0.0, top))
    x = (edges[1:] + edges[:-1]) / 2
    below = np.cumsum(count)
    above = size.size - below
    allowed = (below > LEAST_NOISE * size.size) & (above > fewest)
    with np.errstate(divide="ignore", invalid="ignore"):
        costs = np.array([_noise_cost(x, count, below, shape) for shape in SHAPES])
        mean = (np.sum(count * x) - np.cumsum(count * x)) / above
        spread = np.sqrt(np.maximum((np.sum(count * x**2) - np.cumsum(count * x**2)) / above - mean**2, 1e-9 * top**2))
        share = below / size.size
        cost = (
            share * (costs.min(axis=0) - np.log(share))
            + (1 - share) * (0.5 + np.log(spread * np.sqrt(2 * np.pi)) - np.log(1 - share))
        )  # fmt: skip
    cost[~(allowed & np.isfinite(cost))] = np.inf
    cut = _valley(cost, 1 - share, size.size)
    best = int(costs[:, cut].argmin())
    shape = float(SHAPES[best])
    scale = float((shape * np.sum(count[: cut + 1] * x[: cut + 1] ** shape) / below[cut]) ** (1 / shape))
    return Tail(float(edges[cut + 1]) if np.isfinite(cost[cut]) else np.inf, scale, shape)


def _valley(cost: Array, beyond: Array, number: int, least: float = 0.02, spread: float = 3.0, alike: int = 5) -> int:
    """The deepest valley of a cost with at least the share ``least`` beyond it; else the lowest place with less beyond.

    Where the changes are many and weak, the noise law stretched over both parts, with next to nothing beyond the cut,
    can fit better than the two parts; but then the cost falls all the way to the end, and the valley is the true cut.
    The cost is smoothed over ``spread`` bins; valleys with less beyond them are waves of the tail. The cost of
    ``number`` sizes, of which about ``alike`` neighbours say the same, has dips by chance: one counts if it is deeper
    than the three more numbers of the second law cost (Schwarz 1978, doi:10.1214/aos/1176344136).
    """
    known = np.flatnonzero(np.isfinite(cost))
    if known.size == 0:
        return cost.size - 1
    smooth = ndimage.gaussian_filter1d(cost[known[0] : known[-1] + 1], spread)
    valleys, _ = signal.find_peaks(-smooth, prominence=1.5 * alike * np.log(number) / number)
    valleys = valleys[beyond[known[0] + valleys] >= least]
    if valleys.size:
        return int(known[0] + valleys[smooth[valleys].argmin()])
    end = np.where(beyond < least, cost, np.inf)
    return int(end.argmin()) if np.isfinite(end).any() else int(known[-1])


def _noise_cost(x: Array, count: npt.NDArray[np.int64], below: npt.NDArray[np.int64], shape: float) -> Array:
    """Mean minus log-likelihood of the sizes below each cut under half a generalised normal fitted to them."""
    scale = (shape * np.cumsum(count * x**shape) / below) ** (1 / shape)
    return np.asarray(1 / shape - np.log(shape / scale) + gammaln(1 / shape))


def without_halo(size: FloatArray, window: int, share: float) -> BoolArray:
    """True where ``size`` is at least ``share`` of the largest within ``window`` x ``window`` pixels; False at NaN.

    Smoothing bleeds a strong change over its edge; what bleeds is weak beside its origin, not beside the noise.
    """
    return np.asarray(size >= share * ndimage.maximum_filter(np.nan_to_num(size), window))


def drop_small(mask: BoolArray, pixels: int) -> BoolArray:
    """The mask without its patches of fewer than ``pixels`` pixels (neighbours share a side)."""
    patch, n = ndimage.label(mask)
    keep = np.bincount(patch.ravel(), minlength=n + 1) >= pixels
    keep[0] = False
    return np.asarray(keep[patch], dtype=np.bool_)


def degrees_of_freedom(z: FloatArray) -> float:
    """How many independent bands vary as correlated ones do (Satterthwaite 1946, doi:10.2307/3002019), 1 to bands.

    ``z`` is (bands, pixels), standardised; values beyond 3 are pulled in so that changes do not rule.
    """
    clipped = np.clip(z, -3, 3).astype(np.float64)
    spread = np.mean(clipped * clipped, axis=1)
    cover = clipped @ clipped.T / clipped.shape[1]
    correlation = cover / np.sqrt(np.maximum(np.outer(spread, spread), TINY))
    np.fill_diagonal(correlation, 1.0)
    return float(z.shape[0] ** 2 / np.sum(correlation**2))


@dataclass(frozen=True)
class PatchNoise:
    """How far means over patches stray where nothing changed, for each of the measured ``areas`` (pixels, (n,)).

    ``centre`` (bands,) is the median there, ``sigma`` (n, bands) the robust standard deviation of a mean of each band.
    The mean square of the bands' means in units of ``sigma``, over ``scale`` and to the power of ``stretch``, is an F
    variable times ``freedom``, with ``freedom`` and ``samples`` degrees of freedom (each (n,)). A ``stretch`` below 1
    is a tail heavier than the normal one; ``samples`` is from how many independent means a standard deviation would be
    as well known as the robust one.
    """

    centre: Array
    areas: Array
    sigma: Array
    scale: Array
    freedom: Array
    stretch: Array
    samples: Array

    def p_value(self, mean: Array, size: Array) -> Array:
        """Chance of a mean (bands, patches) so far out over a patch of ``size`` pixels (patches,), 0-1.

        Areas beyond the largest measured one count as that one, because drift does not average out; below the smallest
        the noise is taken to fall with the root of the area.
        """
        known = np.log(self.areas)
        wanted = np.log(np.clip(size, 1.0, self.areas[-1]))
        small = np.sqrt(np.maximum(self.areas[0] / np.clip(size, 1.0, None), 1.0))
        square = np.zeros(size.shape)
        for k in range(mean.shape[0]):
            sigma = np.exp(np.interp(wanted, known, np.log(self.sigma[:, k]))) * small
            square += ((mean[k] - self.centre[k]) / sigma) ** 2 / mean.shape[0]
        fields = (self.scale, self.stretch, self.freedom, self.samples)
        scale, stretch, freedom, samples = (np.interp(wanted, known, v) for v in fields)
        return np.asarray(stats.f.sf((square / scale) ** stretch / freedom, freedom, samples))

    def peaks(self, chance: Array, size: Array) -> Array:
        """How many times more often a chance (patches,) comes up in patches where noise is highest than side by side.

        A chi-square field of f degrees of freedom, which a Gaussian window made smooth, exceeds a high u in u - f + 1
        times as many places as its chance times the windows that fit in side by side (the expected Euler characteristic
        of Worsley 1994, Adv. Appl. Prob. 26, 13-42).
        """
        freedom = np.interp(np.log(np.clip(size, 1.0, self.areas[-1])), np.log(self.areas), self.freedom)
        return np.asarray(np.maximum(stats.chi2.isf(np.maximum(chance, 1e-300), freedom) - freedom + 1, 1.0))


def patch_noise(
    differences: FloatArray, left_out: BoolArray, widths: tuple[float, ...] = (1.5, 3.0, 6.0, 12.0)
) -> PatchNoise | None:
    """Measure in a pair how noisy means over patches are; None if the image is too small.

    Noise that neighbours share, residues of a shift, haze and light do not average out with the root of the area, and
    their tails are heavy. So the means over Gaussian windows of each of the ``widths`` (pixels; area 4 pi width^2) are
    looked at: their robust spread about the median of the pixels, and how far their 95th percentile lies beyond what
    that spread and a normal distribution say. An area is measured if the image holds at least twelve of it.

    Parameters
    ----------
    differences : float (bands, rows, cols), NaN = not seen.
    left_out : bool (rows, cols), what may have changed and has no say.
    """
    seen = np.isfinite(differences).all(axis=0)
    kept = seen & ~left_out
    centre = np.array([float(np.median(band[kept])) if kept.any() else 0.0 for band in differences])
    found: list[tuple[float, Array, float, float, float]] = []
    for width in widths:
        area = 4 * np.pi * width**2
        if seen.sum() < 12 * area or kept.sum() < 2 * area:
            break
        means = np.array([gaussian(np.where(kept, band, np.nan), width)[kept] for band in differences])
        means -= centre[:, None]
        sigma = MAD_TO_SIGMA * np.median(np.abs(means), axis=1)
        sigma = np.maximum(np.where(sigma > 0, sigma, np.sqrt(np.mean(means**2, axis=1))), TINY)
        means /= sigma[:, None]
        freedom = degrees_of_freedom(means)
        middle, far = np.quantile(np.mean(means**2, axis=0), (0.5, 0.95))
        normal = np.asarray(stats.chi2.ppf((0.5, 0.95), freedom))
        stretch, scale = 1.0, 1.0
        if middle > 0:
            stretch = min(1.0, float(np.log(normal[1] / normal[0]) / max(np.log(far / middle), TINY)))
            scale = float(middle / normal[0] ** (1 / stretch))
        found.append((area, sigma, scale, freedom, stretch))
    if not found:
        return None
    areas, sigmas, scales, freedoms, stretches = (np.array(v) for v in zip(*found, strict=True))
    # As far as means over a larger area vary no less, they hold one hump of the noise, not several.
    variance = np.mean(sigmas**2, axis=1)
    hump = np.array([np.max(areas[k:] * variance[k:] / variance[k]) for k in range(areas.size)])
    return PatchNoise(
        centre, areas, sigmas, scales, freedoms, stretches, np.maximum(MAD_EFFICIENCY * kept.sum() / hump, 1.0)
    )


def patches_beyond_noise(sign: Signs, sure: BoolArray, differences: FloatArray, pixels: int, alpha: float) -> BoolArray:
    """Which pixels lie in patches that noise does not explain, bool (rows, cols).

    A patch is a set of neighbours (by their sides) of one ``sign``. It is kept if it has at least ``pixels`` pixels, if
    at least half of them are ``sure``, and if the mean of ``differences`` (float (bands, rows, cols), 0 where nothing
    changed) over it is improbable for the noise of means over its area (see ``patch_noise``). The chance is multiplied
    by how many patches of its area the image holds, and the patches are then chosen at the false discovery rate
    ``alpha`` (Benjamini and Hochberg 1995, doi:10.1111/j.2517-6161.1995.tb02031.x). Nothing is kept unless one patch at
    least is improbable even for the highest of the noise (see ``PatchNoise.peaks``): where nothing changed, ``alpha``
    is the chance of any patch. In images too small to measure the noise of means, both questions are left out.

    Parameters
    ----------
    sign : int8 (rows, cols), -1 or 1 where there may be change, 0 elsewhere.
    sure : bool (rows, cols).
    """
    patch, n = ndimage.label(sign > 0)
    falling, more = ndimage.label(sign < 0)
    label = np.where(falling > 0, falling + n, patch).ravel()
    size = np.bincount(label, minlength=n + more + 1)
    keep = (size >= pixels) & (np.bincount(label, weights=sure.ravel(), minlength=size.size) >= 0.5 * size)
    keep[0] = False
    candidate = keep[label].reshape(sign.shape)
    noise = patch_noise(differences, ndimage.binary_dilation(candidate, iterations=2)) if keep.any() else None
    if noise is not None:
        total = np.array(
            [np.bincount(label, weights=np.nan_to_num(b).ravel(), minlength=size.size) for b in differences]
        )
        asked = np.flatnonzero(keep)
        area = size[asked].astype(np.float64)
        one = noise.p_value(total[:, asked] / area, area)
        chance = one * np.isfinite(differences[0]).sum() / np.minimum(area, noise.areas[-1])
        ordered = np.sort(chance)
        passed = np.flatnonzero(ordered <= alpha * np.arange(1, ordered.size + 1))
        anything = bool((chance * noise.peaks(one, area)).min() <= alpha)
        keep[asked] = chance <= ordered[passed[-1]] if anything and passed.size else False
    return np.asarray(keep[label].reshape(sign.shape), dtype=np.bool_)


def shifted(image: FloatArray, down: float, right: float) -> Float32:
    """A filled image (rows, cols) moved by a part of a pixel, by windowed sinc interpolation (Lanczos, 8 points)."""
    out = image
    for axis, by in enumerate((down, right)):
        reach = 4 + int(np.ceil(abs(by)))
        at = np.arange(-reach, reach + 1) + by
        taps = np.where(np.abs(at) < 4, np.sinc(at) * np.sinc(at / 4), 0.0)
        out = ndimage.correlate1d(out, taps / taps.sum(), axis=axis, mode="nearest", output=np.float32)
    return np.asarray(out, dtype=np.float32)


def residual_shift(before: FloatArray, after: FloatArray, seen: BoolArray, rounds: int = 6) -> tuple[float, float]:
    """How far the second image lies (down, right) of the first, in pixels, up to about two.

    The difference of two shifted images is their slope times the shift (Lucas and Kanade 1981, IJCAI, 674-679); the
    shift is fitted with Tukey's biweight, so that changed places have no say, to images moved half the way each, until
    it stands still. Both images are float (bands, rows, cols), filled and of like mean and spread; only ``seen`` pixels
    are used.
    """
    inner = ndimage.binary_erosion(seen, iterations=3)
    shift = np.zeros(2)
    if inner.sum() < 200:
        return 0.0, 0.0
    for _ in range(rounds):
        slopes, gaps = [], []
        for a, b in zip(before, after, strict=True):
            first = ndimage.gaussian_filter(shifted(a, *(shift / 2)), 1.0)
            second = ndimage.gaussian_filter(shifted(b, *(-shift / 2)), 1.0)
            slopes.append([np.gradient((first + second) / 2, axis=axis)[inner] for axis in (0, 1)])
            gap = (second - first)[inner]
            gaps.append(gap - np.median(gap))
        step = _robust_step(np.hstack(slopes), np.hstack(gaps))
        shift += step
        if np.abs(step).max() < 0.01:
            break
    return float(shift[0]), float(shift[1])


def _robust_step(slope: FloatArray, gap: FloatArray, rounds: int = 8) -> Array:
    """The shift that best explains gap = -slope x shift, by weights that leave out what does not fit."""
    step = np.zeros(2)
    for _ in range(rounds):
        rest = gap + step @ slope
        spread = 4.685 * MAD_TO_SIGMA * float(np.median(np.abs(rest)))
        if spread <= 0:
            break
        weight = np.clip(1 - (rest / spread) ** 2, 0, None) ** 2
        square = ((slope * weight) @ slope.T).astype(np.float64)
        step = -np.linalg.solve(square + (1e-9 * np.trace(square) + TINY) * np.eye(2), (slope * weight) @ gap)
    return step


def noise_by_contrast(values: Array, contrast: Array, parts: int = 12) -> Array:
    """Robust standard deviation of values (pixels,) among pixels of like contrast (pixels,), never falling with it.

    Residues of a shift and mixed pixels make the difference of two images noisier where both have edges.
    """
    part = np.digitize(contrast, np.quantile(contrast, np.arange(1, parts) / parts))
    used = [k for k in range(parts) if (part == k).any()]
    sigma = np.maximum.accumulate([MAD_TO_SIGMA * float(np.median(np.abs(values[part == k]))) for k in used])
    return np.interp(contrast, [float(np.median(contrast[part == k])) for k in used], sigma)
