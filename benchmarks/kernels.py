"""Speed and memory of the series detectors beside a plain copy of the same cube, and beside peers where installed.

    python benchmarks/kernels.py [threads, default 2]

The cube: 300 x 300 pixels, 180 irregular dates of 2019 to 2023 (146 before 2023), float32 NDVI with 30 % missing and a
fall of 0.30 on 2023-03-01 in one half. Best of several runs in one process, after a first run that compiles (the time
of that first run is printed: near zero when an earlier run of this installation left its kernels on disk). Peers
(zeit-cdts, nrt) are measured in the same process if they can be imported; install them in an environment of their own.
"""

from __future__ import annotations

import datetime as dt
import importlib.util
import os
import sys
import time
from collections.abc import Callable

THREADS = sys.argv[1] if len(sys.argv) > 1 else "2"
os.environ.setdefault("NUMBA_NUM_THREADS", THREADS)

import numpy as np  # noqa: E402

from compoundwatch import monitoring, online  # noqa: E402
from compoundwatch.detectors.ccdc import Ccdc  # noqa: E402
from compoundwatch.detectors.harmonic_cusum import HarmonicCusum  # noqa: E402
from compoundwatch.detectors.harmonic_mosum import HarmonicMosum  # noqa: E402
from compoundwatch.detectors.omnibus import Omnibus  # noqa: E402
from compoundwatch.detectors.welch import Welch  # noqa: E402

DATES, ROWS, COLS = 180, 300, 300
BREAK = np.datetime64("2023-03-01")
REFERENCE_END = int(np.datetime64("2023-01-01").astype("datetime64[D]").astype(np.int64))


def make_cube() -> tuple[np.ndarray, np.ndarray]:
    """Values float32 (dates, rows, cols) and days since 1970-01-01."""
    rng = np.random.default_rng(20231)
    offset = np.sort(rng.choice(1826, DATES, replace=False))
    dates = np.datetime64("2019-01-01") + offset.astype("timedelta64[D]")
    t = offset / 365.25
    amplitude, phase = rng.uniform(0.08, 0.18, (ROWS, COLS)), rng.uniform(-0.4, 0.4, (ROWS, COLS))
    level = rng.uniform(0.45, 0.65, (ROWS, COLS))
    cube = np.empty((DATES, ROWS, COLS), np.float32)
    for k in range(DATES):
        season = amplitude * np.cos(2 * np.pi * t[k] + phase) + 0.3 * amplitude * np.sin(4 * np.pi * t[k])
        cube[k] = level + season + rng.normal(0, 0.03, (ROWS, COLS))
    cube[dates >= BREAK, :, COLS // 2 :] -= 0.30
    cube[rng.random(cube.shape, dtype=np.float32) < 0.30] = np.nan
    return cube, dates.astype("datetime64[D]").astype(np.int64)


def peak_mb(reset: bool = False) -> float:
    """Largest resident memory of this process so far, or since the last reset (Linux), in MB."""
    try:
        if reset:
            with open("/proc/self/clear_refs", "w") as f:
                f.write("5")
        with open("/proc/self/status") as f:
            return next(int(line.split()[1]) / 1024 for line in f if line.startswith("VmHWM"))
    except OSError:
        return float("nan")


def best(run: Callable[[], object], times: int = 15) -> float:
    """Shortest of several runs, in seconds."""
    took = []
    for _ in range(times):
        start = time.perf_counter()
        run()
        took.append(time.perf_counter() - start)
    return min(took)


def row(
    name: str, pixel_dates: int, run: Callable[[], object], copy_rate: float | None = None, times: int = 15
) -> float:
    start = time.perf_counter()
    run()
    first = time.perf_counter() - start
    before = peak_mb(reset=True)
    run()
    grown = peak_mb() - before
    rate = pixel_dates / best(run, times)
    share = f"{rate / copy_rate:6.1%} of copy" if copy_rate else ""
    print(f"{name:44s} {rate / 1e6:8.0f} M pixel-dates/s {share:16s} first run {first:6.2f} s  memory +{grown:4.0f} MB")
    return rate


def peers(cube: np.ndarray, days: np.ndarray) -> None:
    if importlib.util.find_spec("zeit"):
        import zeit

        dates = np.linspace(days[0], days[-1], DATES).round().astype("datetime64[D]").astype("datetime64[ns]")
        run = lambda: zeit.bfast_monitor(cube, "2023-01-01", dates=dates, n_jobs=int(THREADS))  # noqa: E731
        row("zeit-cdts bfast_monitor (regular dates)", cube.size, run, times=3)
    else:
        print("zeit-cdts is not installed: not measured")
    if importlib.util.find_spec("nrt"):
        import xarray as xr
        from nrt.monitor.cusum import CuSum

        n = int(np.searchsorted(days, REFERENCE_END))
        stamps = days.astype("datetime64[D]").astype("datetime64[ns]")
        coords = {"time": stamps[:n], "y": np.arange(ROWS)[::-1] * 10.0, "x": np.arange(COLS) * 10.0}
        monitor = CuSum(trend=True)
        monitor.fit(xr.DataArray(cube[:n], dims=("time", "y", "x"), coords=coords), method="OLS")
        took = []
        for k in range(n, DATES):
            start = time.perf_counter()
            monitor.monitor(array=cube[k], date=dt.datetime.fromisoformat(str(days[k].astype("datetime64[D]"))))
            took.append(time.perf_counter() - start)
        print(f"nrt CuSum, one more image of {ROWS} x {COLS}: {1e3 * min(took):.2f} ms")
    else:
        print("nrt is not installed: not measured")


def main() -> None:
    cube, days = make_cube()
    values = cube.reshape(DATES, -1)
    print(
        f"{DATES} dates, {values.shape[1]} pixels, {cube.nbytes / 1e6:.0f} MB, {THREADS} threads, "
        f"load {os.getloadavg()[0]:.1f}"
    )
    copy = row("copy of the cube", cube.size, values.copy)
    for rounds in (0, 3):
        run = lambda r=rounds: monitoring.monitor(values, days, REFERENCE_END, windows=(4, 8, 16, 32), rounds=r)  # noqa: E731
        row(f"season + moving sums, {rounds} Huber rounds, no p", cube.size, run, copy)
    for detector in (HarmonicMosum(), HarmonicCusum(), Ccdc(), Welch()):
        row(f"detector {detector.name}", cube.size, lambda d=detector: d.test(values, days, REFERENCE_END), copy)

    rng = np.random.default_rng(1)
    bands = [rng.standard_gamma(4.4, (60, values.shape[1])).astype(np.float32) for _ in range(2)]
    radar = 17_000 + 12 * np.arange(60)
    both = lambda: [Omnibus().test(b, radar, int(radar[30])) for b in bands]  # noqa: E731
    row("detector omnibus, 60 dates x 2 bands", 2 * bands[0].size, both, copy)

    n = int(np.searchsorted(days, REFERENCE_END))
    state = online.start(values[:n], days[:n], REFERENCE_END)
    online.update(state, values[n], int(days[n]))
    took = best(lambda: online.update(state, values[n], int(days[n])), 30)
    print(f"online update of one image of {ROWS} x {COLS}: {1e3 * took:.2f} ms")
    peers(cube, days)

    found = HarmonicMosum().test(values, days, REFERENCE_END)
    called = (found.p_value < 0.01).reshape(ROWS, COLS)
    late = found.day.reshape(ROWS, COLS)[:, COLS // 2 :] - int(BREAK.astype(np.int64))
    print(
        f"harmonic_mosum at 0.01: found {called[:, COLS // 2 :].mean():.4f}, false alarms "
        f"{called[:, : COLS // 2].mean():.4f}, date {np.median(late):.0f} days late in the median"
    )


if __name__ == "__main__":
    main()
