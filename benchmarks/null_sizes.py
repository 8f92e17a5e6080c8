"""True sizes of the series detectors: how often unchanged pixels are called, whatever their noise.

    python benchmarks/null_sizes.py [detector ...] [--pixels 1000000] [--before 60] [--after 30] [--step 0]

Simulated pixels in which nothing happens: irregular dates, two years before the reference end and one after it, 30 % of
the views missing at random, a yearly season where the feature has one. The noise is

- independent: normal;
- correlated: normal, first-order autoregression of so much between one view of a pixel and the next;
- ndvi: normal, and one view in twenty lowered by 0.1 to 0.4 (cloud or shadow that the mask missed);
- radar: decibels of speckle of 4.4 looks;
- lights: logarithm of radiance with Student's t of four degrees of freedom;
- temperature: normal, and one view in ten lowered by 4 K on average (exponential: cloud).

Printed is the share called at 0.05 and at 0.01 with three standard errors. Welch's test knows no season and is given
none; the omnibus test is given speckle in linear power only, correlated through a normal variable of the stated
correlation. With ``--step`` the level changes by so many standard deviations a third into the time after the reference
end, to the end: the shares are then those found.
"""

from __future__ import annotations

import argparse

import numpy as np
from scipy import stats

from compoundwatch import detectors

LOOKS = 4.4
MISSING = 0.3
CHUNK = 50_000
LEVELS = (0.05, 0.01)


def autoregression(rng: np.random.Generator, seen: np.ndarray, rho: float) -> np.ndarray:
    """Standard normal noise, correlated from one view of a pixel to its next."""
    noise = rng.standard_normal(seen.shape, dtype=np.float32)
    if rho:
        last = noise[0].copy()
        for t in range(1, len(noise)):
            noise[t] = np.float32(rho) * last + np.float32(np.sqrt(1 - rho**2)) * noise[t]
            last = np.where(seen[t], noise[t], last)
    return noise


def speckle(normal: np.ndarray) -> np.ndarray:
    """Intensities of mean 1 from standard normal values, looked up in a fine table."""
    grid = np.linspace(-6, 6, 20_001)
    return np.interp(normal, grid, stats.gamma.ppf(stats.norm.cdf(grid), LOOKS, scale=1 / LOOKS)).astype(np.float32)


def lowered(rng: np.random.Generator, noise: np.ndarray, share: float, by: np.ndarray) -> np.ndarray:
    return noise - np.where(rng.random(noise.shape, dtype=np.float32) < share, by, 0).astype(np.float32)


def ndvi(rng: np.random.Generator, seen: np.ndarray) -> np.ndarray:
    by = rng.uniform(0.1, 0.4, seen.shape)
    return lowered(rng, 0.04 * rng.standard_normal(seen.shape, dtype=np.float32), 0.05, by)


def temperature(rng: np.random.Generator, seen: np.ndarray) -> np.ndarray:
    by = rng.exponential(4, seen.shape)
    return lowered(rng, 2 * rng.standard_normal(seen.shape, dtype=np.float32), 0.1, by)


WORLDS = {
    "independent": (0.04, 0.1, lambda rng, seen: 0.04 * autoregression(rng, seen, 0.0)),
    "correlated 0.2": (0.04, 0.1, lambda rng, seen: 0.04 * autoregression(rng, seen, 0.2)),
    "correlated 0.4": (0.04, 0.1, lambda rng, seen: 0.04 * autoregression(rng, seen, 0.4)),
    "ndvi": (0.04, 0.15, ndvi),
    "radar": (2.2, 0.0, lambda rng, seen: 10 * np.log10(speckle(autoregression(rng, seen, 0.0)))),
    "lights": (0.35, 0.0, lambda rng, seen: 0.25 * rng.standard_t(4, seen.shape)),
    "temperature": (2.0, 8.0, temperature),
}
"""Standard deviation and amplitude of the season in the feature's unit, and the noise."""
CORRELATIONS = {"independent": 0.0, "correlated 0.2": 0.2, "correlated 0.4": 0.4}
"""Worlds of the omnibus test, all of speckle."""


def values_of(
    world: str, name: str, days: np.ndarray, seen: np.ndarray, step_from: int, step: float, rng: np.random.Generator
) -> np.ndarray:
    sd, season, noise = WORLDS[world]
    if name == "omnibus":
        values = speckle(autoregression(rng, seen, CORRELATIONS[world]))
        values[step_from:] *= np.float32(10 ** (step * 0.22))
    else:
        values = noise(rng, seen).astype(np.float32)
        values[step_from:] += np.float32(step * sd)
        if name != "welch":
            phase = rng.uniform(0, 2 * np.pi, seen.shape[1])
            wave = np.cos(2 * np.pi * days[:, None] / 365.25 + phase)
            values += np.float32(season) * wave.astype(np.float32)
    values[~seen] = np.nan
    return values


def called(world: str, names: list[str], options: argparse.Namespace) -> dict[str, np.ndarray]:
    """Numbers of pixels tested, and called at each level, for every detector."""
    rng = np.random.default_rng((7, list(WORLDS).index(world)))
    counts = {name: np.zeros(1 + len(LEVELS), np.int64) for name in names}
    for _ in range(max(1, options.pixels // CHUNK)):
        before, after = rng.choice(730, options.before, replace=False), rng.choice(365, options.after, replace=False)
        days = 18_000 + np.r_[np.sort(before), 730 + np.sort(after)].astype(np.int64)
        seen = rng.random((days.size, CHUNK), dtype=np.float32) >= MISSING
        step_from = options.before + options.after // 3
        shared = {}
        for name in names:
            key = name if name in ("omnibus", "welch") else "season"
            if key not in shared:
                shared[key] = values_of(world, key, days, seen, step_from, options.step, rng)
            p = detectors.series_detector(name).test(shared[key], days, int(days[options.before])).p_value
            counts[name] += [np.isfinite(p).sum(), *(np.sum(p < level) for level in LEVELS)]
    return counts


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    series = sorted(name for name, d in detectors.available().items() if d.kind == "series")
    parser.add_argument("detectors", nargs="*", default=series, metavar="detector")
    parser.add_argument("--pixels", type=int, default=1_000_000)
    parser.add_argument("--before", type=int, default=60)
    parser.add_argument("--after", type=int, default=30)
    parser.add_argument("--step", type=float, default=0.0)
    options = parser.parse_args()
    print(f"{options.before} dates before, {options.after} after, {MISSING:.0%} of the views missing")
    print("\n| detector | noise | pixels | " + " | ".join(f"p < {level}" for level in LEVELS) + " |")
    print("|---|---|---|" + "---|" * len(LEVELS))
    for world in WORLDS:
        names = [name for name in options.detectors if name != "omnibus" or world in CORRELATIONS]
        for name, (tested, *found) in called(world, names, options).items():
            shares = np.array(found) / tested
            errors = 3 * np.sqrt(shares * (1 - shares) / tested)
            cells = " | ".join(f"{share:.4f} ± {error:.4f}" for share, error in zip(shares, errors, strict=True))
            print(f"| {name} | {world} | {tested} | {cells} |", flush=True)


if __name__ == "__main__":
    main()
