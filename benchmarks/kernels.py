"""Speed and memory of the series detectors beside a plain copy of the same cube, and beside peers where installed.

    python benchmarks/kernels.py [threads, default 2] [rounds, default 15]

The cube: 300 x 300 pixels, 180 irregular dates of 2019 to 2023 (146 before 2023), float32 NDVI with 30 % missing and a
fall of 0.30 on 2023-03-01 in one half. In every round everything is run once, so that all meet the same neighbours on
the machine; the best of all rounds counts. A first run before them compiles (its time is printed: near zero when an
earlier run of this installation left its kernels on disk). Peers (zeit-cdts, nrt) are measured in the same rounds if
they can be imported; install them in an environment of their own. zeit-cdts supposes one view per regular step, so it
is given a cube of the same size whose dates are regular.
"""

from __future__ import annotations

import datetime as dt
import importlib.util
import os
import sys
import time
from collections.abc import Callable

THREADS = sys.argv[1] if len(sys.argv) > 1 else "2"
ROUNDS = int(sys.argv[2]) if len(sys.argv) > 2 else 15
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
COPY, ZEIT, CUSUM, NRT = (
    "copy of the cube",
    "zeit-cdts bfast_monitor",
    "online update of one image",
    "nrt CuSum, one image",
)


def make_cube(regular: bool = False) -> tuple[np.ndarray, np.ndarray]:
    """Values float32 (dates, rows, cols) and days since 1970-01-01."""
    rng = np.random.default_rng(20231)
    offset = np.sort(rng.choice(1826, DATES, replace=False))
    if regular:
        offset = np.round(np.arange(DATES) * 365.25 / 36).astype(np.int64)
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


def seconds(run: Callable[[], object]) -> float:
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def jobs(cube: np.ndarray, days: np.ndarray) -> dict[str, tuple[int, Callable[[], object]]]:
    """What is measured: name -> number of pixels x dates, and the call."""
    values = cube.reshape(DATES, -1)
    radar = 17_000 + 12 * np.arange(60)
    bands = [np.random.default_rng(1).standard_gamma(4.4, (60, values.shape[1])).astype(np.float32) for _ in range(2)]
    n = int(np.searchsorted(days, REFERENCE_END))
    state = online.start(values[:n], days[:n], REFERENCE_END)
    made: dict[str, tuple[int, Callable[[], object]]] = {COPY: (cube.size, values.copy)}
    for rounds in (0, 3):
        made[f"season + moving sums, {rounds} Huber rounds, no p"] = (
            cube.size,
            lambda r=rounds: monitoring.monitor(values, days, REFERENCE_END, windows=(4, 8, 16, 32), rounds=r),
        )
    for detector in (HarmonicMosum(), HarmonicCusum(), Ccdc(), Welch()):
        made[detector.name] = (cube.size, lambda d=detector: d.test(values, days, REFERENCE_END))
    omnibus = Omnibus()
    made["omnibus, 60 dates x 2 bands"] = (
        2 * bands[0].size,
        lambda: [omnibus.test(band, radar, int(radar[30])) for band in bands],
    )
    made[CUSUM] = (values.shape[1], lambda: online.update(state, values[n], int(days[n])))
    if importlib.util.find_spec("zeit"):
        import zeit

        even, even_days = make_cube(regular=True)
        dates = even_days.astype("datetime64[D]").astype("datetime64[ns]")
        made[ZEIT] = (cube.size, lambda: zeit.bfast_monitor(even, "2023-01-01", dates=dates, n_jobs=int(THREADS)))
    else:
        print("zeit-cdts is not installed: not measured")
    if importlib.util.find_spec("nrt"):
        made[NRT] = (values.shape[1], nrt_update(cube, days, n))
    else:
        print("nrt is not installed: not measured")
    return made


def nrt_update(cube: np.ndarray, days: np.ndarray, n: int) -> Callable[[], object]:
    """One more image for nrt's CuSum, which was fitted to the first ``n``."""
    import xarray as xr
    from nrt.monitor.cusum import CuSum

    coords = {
        "time": days[:n].astype("datetime64[D]").astype("datetime64[ns]"),
        "y": np.arange(ROWS)[::-1] * 10.0,
        "x": np.arange(COLS) * 10.0,
    }
    monitor = CuSum(trend=True)
    monitor.fit(xr.DataArray(cube[:n], dims=("time", "y", "x"), coords=coords), method="OLS")
    date = dt.datetime.fromisoformat(str(days[n].astype("datetime64[D]")))
    return lambda: monitor.monitor(array=cube[n], date=date)


def main() -> None:
    cube, days = make_cube()
    print(f"{DATES} dates, {ROWS * COLS} pixels, {cube.nbytes / 1e6:.0f} MB, {THREADS} threads, {ROUNDS} rounds")
    made = jobs(cube, days)
    first, grown = {}, {}
    for name, (_, run) in made.items():
        first[name] = seconds(run)
        before = peak_mb(reset=True)
        run()
        grown[name] = peak_mb() - before
    best = dict.fromkeys(made, np.inf)
    for _ in range(ROUNDS):
        for name, (_, run) in made.items():
            best[name] = min(best[name], seconds(run))
    rate = {name: size / best[name] for name, (size, _) in made.items()}
    print(f"load of the machine at the end {os.getloadavg()[0]:.1f}")
    for name in made:
        peer = f"{rate[name] / rate[ZEIT]:5.1f} x zeit" if ZEIT in made else ""
        print(
            f"{name:44s} {1e3 * best[name]:8.2f} ms {rate[name] / 1e6:6.0f} M pixel-dates/s "
            f"{rate[name] / rate[COPY]:6.1%} of copy {peer}  first run {first[name]:6.2f} s  "
            f"memory +{grown[name]:4.0f} MB"
        )
    if NRT in made:
        print(f"online update takes 1/{best[NRT] / best[CUSUM]:.1f} of nrt's time")
    found = HarmonicMosum().test(cube.reshape(DATES, -1), days, REFERENCE_END)
    called = (found.p_value < 0.01).reshape(ROWS, COLS)
    late = found.day.reshape(ROWS, COLS)[:, COLS // 2 :] - int(BREAK.astype(np.int64))
    print(
        f"harmonic_mosum at 0.01: found {called[:, COLS // 2 :].mean():.4f}, false alarms "
        f"{called[:, : COLS // 2].mean():.4f}, date {np.median(late):.0f} days late in the median"
    )


if __name__ == "__main__":
    main()
