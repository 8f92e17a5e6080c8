"""True sizes of the pair detectors: how often unchanged pixels are called, whatever makes two images differ.

    python benchmarks/pair_sizes.py [detector ...] [--pairs 30] [--rows 150] [--cols 220]

Simulated pairs of one ground (fields of several brightnesses with sharp outlines, rough in themselves) in which nothing
happens. Radar: two polarisations in linear power, of so many looks of speckle, whose values neighbours share over so
many pixels. Optical: six bands in which the noise of each image is the only difference; is shared by neighbours; has
the heavy tails of Student's t with three degrees of freedom; or comes with a shift of a third of a pixel, light that
differs over slopes, haze over half of the image, or gains and offsets.

Printed is the share of pixels with p < 0.05 and p < 0.01, and of those called at 0.01, each with three standard errors
from the spread among pairs; and in how many pairs anything was called.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from scipy import ndimage

from compoundwatch import detectors

ALPHA = 0.01
RADAR = {
    "radar, 1 look": (1, 0.0),
    "radar, 1 look, shared over 1 pixel": (1, 1.0),
    "radar, 4.4 looks": (4.4, 0.0),
    "radar, 4 looks, shared over 1 pixel": (4, 1.0),
    "radar, 10 looks": (10, 0.0),
}
"""Looks, and the width of the Gaussian window that correlates them (pixels)."""
OPTICAL = ("noise", "shared noise", "heavy tails", "shift", "light", "haze", "gain")
Pair = tuple[Any, Any]


def fields(rng: np.random.Generator, shape: tuple[int, int], bands: int, low: float, high: float) -> Any:
    """Ground of five kinds in patches, rough by a twentieth: (bands, rows, cols)."""
    patches = ndimage.gaussian_filter(rng.normal(size=shape), 7)
    kind = np.digitize(patches, np.quantile(patches, (0.2, 0.4, 0.6, 0.8)))
    ground = np.exp(rng.uniform(np.log(low), np.log(high), (bands, 5)))[:, kind]
    return ndimage.gaussian_filter(ground * np.exp(0.05 * rng.normal(size=(bands, *shape))), (0, 0.7, 0.7))


def radar(rng: np.random.Generator, shape: tuple[int, int], looks: float, shared: float) -> Pair:
    ground = fields(rng, shape, 2, 0.01, 0.2)
    if not shared:
        return tuple(ground * rng.gamma(looks, 1 / looks, ground.shape) for _ in range(2))
    waves = ndimage.gaussian_filter(rng.normal(size=(2, int(looks), 2, *ground.shape)), (0, 0, 0, 0, shared, shared))
    speckle = (waves**2).sum(axis=2).mean(axis=1)
    return tuple(ground * s / speckle.mean() for s in speckle)


def optical(rng: np.random.Generator, shape: tuple[int, int], kind: str) -> Pair:
    ground = fields(rng, shape, 6, 500, 3000)
    after, bands = ground.copy(), len(ground)
    waves = ndimage.gaussian_filter(rng.normal(size=shape), 12)
    waves /= waves.std()
    if kind == "shift":
        after = ndimage.shift(after, (0, 0.3, -0.2), order=3, mode="nearest")
    elif kind == "light":
        after *= 0.8 + 0.05 * waves
    elif kind == "haze":
        veil = np.linspace(0.08, 0.03, bands)[:, None, None] / (1 + np.exp(-3 * waves))
        after = after * (1 - veil) + 3000 * veil
    elif kind == "gain":
        after = after * rng.uniform(0.5, 2, (bands, 1, 1)) + 100
    noise = rng.standard_t(3, (2, *ground.shape)) if kind == "heavy tails" else rng.normal(size=(2, *ground.shape))
    if kind == "shared noise":
        noise = ndimage.gaussian_filter(noise, (0, 0, 1.2, 1.2))
    noise *= 60 / noise.std()
    return ground + noise[0], after + noise[1]


def worlds(suits: tuple[str, ...]) -> Iterator[tuple[str, Callable[..., Pair], tuple[Any, ...]]]:
    if "radar" in suits:
        yield from ((name, radar, settings) for name, settings in RADAR.items())
    if "optical" in suits:
        yield from ((f"optical, {kind}", optical, (kind,)) for kind in OPTICAL)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    pairs = sorted(name for name, d in detectors.available().items() if d.kind == "pair")
    parser.add_argument("detectors", nargs="*", default=pairs, metavar="detector")
    parser.add_argument("--pairs", type=int, default=30)
    parser.add_argument("--rows", type=int, default=150)
    parser.add_argument("--cols", type=int, default=220)
    options = parser.parse_args()
    print(f"{options.pairs} pairs of {options.rows} x {options.cols} pixels a line")
    print(
        "\n| detector | pairs | p < 0.05 | p < 0.01 | called at 0.01 | pairs with any call |\n|---|---|---|---|---|---|"
    )
    for name in options.detectors:
        detector = detectors.pair_detector(name)
        for world, make, settings in worlds(detector.suits):
            shares = []
            for seed in range(options.pairs):
                images = make(np.random.default_rng((11, seed)), (options.rows, options.cols), *settings)
                found = detector.compare(*(x.astype(np.float32) for x in images), ALPHA)
                shares.append(
                    [(found.p_value < 0.05).mean(), (found.p_value < 0.01).mean(), (found.direction != 0).mean()]
                )
            mean = np.mean(shares, axis=0)
            error = 3 * np.std(shares, axis=0, ddof=1) / np.sqrt(len(shares))
            cells = " | ".join(f"{m:.4f} ± {e:.4f}" for m, e in zip(mean, error, strict=True))
            any_call = sum(share[2] > 0 for share in shares)
            print(f"| {name} | {world} | {cells} | {any_call} of {len(shares)} |", flush=True)


if __name__ == "__main__":
    main()
