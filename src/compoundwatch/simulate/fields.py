"""Random fields and resampling that the ground and the sky are made of."""

from __future__ import annotations

import copy
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.ndimage import correlate1d, gaussian_filter
from scipy.signal import lfilter

Float32 = npt.NDArray[np.float32]

PSF_SIGMA = 0.41
"""Blur of the 10 m bands beyond the pixel's own square, in pixels: together a contrast of 0.28 at half a cycle a pixel;
the instrument was to have 0.15 to 0.30 (Gascon et al. 2017, doi:10.3390/rs9060584)."""


def aside(rng: np.random.Generator, *names: str) -> np.random.Generator:
    """A generator of its own that depends on the state of ``rng`` and on names, and leaves ``rng`` as it is.

    So a thing can be added to a world without a change of everything that is drawn after it.
    """
    peek = copy.deepcopy(rng).integers(2**32, size=4)
    return np.random.default_rng([*(int(k) for k in peek), *(b for name in names for b in name.encode())])


def cloudy_field(
    rng: np.random.Generator, shape: tuple[int, int], beta: float, largest: float | None = None
) -> Float32:
    """Gaussian field with power ~ frequency^-beta, periodic, mean 0, standard deviation 1: float32 ``shape``.

    ``largest`` is the wavelength in pixels above which power stops growing (None = the size of the field).
    """
    field = np.fft.irfft2(np.fft.rfft2(rng.standard_normal(shape)) * _spectrum(shape, beta, largest), s=shape)
    return np.asarray(field / field.std(), dtype=np.float32)


@lru_cache(maxsize=32)
def _spectrum(shape: tuple[int, int], beta: float, largest: float | None) -> npt.NDArray[np.float64]:
    """Amplitudes of the waves of a field: the same for all that are alike, and dear to work out."""
    rows, cols = shape
    frequency = np.hypot(np.fft.fftfreq(rows)[:, None], np.fft.rfftfreq(cols)[None, :])
    floor = 1.0 / (largest or max(shape))
    weight: npt.NDArray[np.float64] = np.maximum(frequency, floor) ** (-beta / 2)
    weight[0, 0] = 0.0
    weight.flags.writeable = False
    return weight


def wander(rng: np.random.Generator, shape: tuple[int, ...], sd: float, days: float) -> npt.NDArray[np.float64]:
    """Ornstein-Uhlenbeck noise along the first axis (days), with standard deviation ``sd`` and memory ``days``."""
    fade = float(np.exp(-1.0 / days))
    shocks = rng.normal(0.0, sd * np.sqrt(1 - fade**2), shape)
    shocks[0] = rng.normal(0.0, sd, shape[1:])
    return np.asarray(lfilter([1.0], [1.0, -fade], shocks, axis=0), dtype=np.float64)


def block_mean(values: npt.NDArray[Any], factor: int) -> Float32:
    """Mean over ``factor`` x ``factor`` blocks of the last two dimensions."""
    rows, cols = values.shape[-2] // factor, values.shape[-1] // factor
    blocks = values.reshape(*values.shape[:-2], rows, factor, cols, factor)
    return np.asarray(blocks.mean(axis=(-3, -1), dtype=np.float32))


def seen(fine: npt.NDArray[Any], factor: int) -> Float32:
    """What 10 m pixels see of a map with ``factor`` cells a pixel: block means, blurred; extra dimensions first."""
    coarse = block_mean(fine, factor)
    sigma = (0,) * (coarse.ndim - 2) + (PSF_SIGMA, PSF_SIGMA)
    return np.asarray(gaussian_filter(coarse, sigma, mode="nearest"), dtype=np.float32)


def displaced(image: Float32, down: float, right: float) -> Float32:
    """Move an image by up to half a pixel, by the polynomial through seven neighbours in each direction (Lagrange)."""
    nodes = np.arange(-3, 4)
    for axis, by in ((0, down), (1, right)):
        weights = [np.prod([(-by - m) / (n - m) for m in nodes if m != n]) for n in nodes]
        image = correlate1d(image, np.array(weights), axis=axis, mode="nearest")
    return image
