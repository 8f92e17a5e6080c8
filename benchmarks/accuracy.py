"""Accuracy of the pair detectors on labelled pairs, beside simple methods.

Usage: python benchmarks/accuracy.py [pair ...] [--alpha 0.01]

The labelled pairs and the simple methods (labelled/score.py) are no part of the project: they are looked for in the
folder named by COMPOUNDWATCH_SHARED, else in ../shared beside the repository. Where the folder is absent, a sentence
says so and nothing is measured. "auto" is the detector that `compare` chooses by itself; nothing is tuned per pair.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import time
from pathlib import Path

import numpy as np
from skimage.filters import threshold_otsu

from compoundwatch import detectors

ROOT = Path(__file__).resolve().parents[1]
COUNTS = ("TP", "FP", "FN", "TN")
PUBLISHED = (
    ("sar_ottawa", "Kappa 93.69", "DDNet, self-supervised (Qu et al. 2022, IEEE GRSL 19, 4013405; authors' notebook)"),
    ("sar_ottawa", "Kappa 93.49", "NR-ELM family (log of qun1128/NBR-SPBL; Kappa computed from its FP and FN)"),
    ("sar_farmland_d", "Kappa 90.66", "DSSN, supervised, includes training pixels (maps of YananZhao0630/SSN)"),
    ("sar_inlandwater", "-", "none found"),
    ("landsat_taizhou", "-", "none found"),
    ("oscd", "F1 54.30", "BTC-B, supervised, the ten TEST cities, not these six (arXiv 2507.03367)"),
)
"""Figures of others, from each pair's SOURCE.md; unlike the simple methods they were not measured here."""


def scorer():
    """The module labelled/score.py, or None."""
    path = Path(os.environ.get("COMPOUNDWATCH_SHARED", ROOT.parent / "shared")) / "data" / "labelled" / "score.py"
    if not path.is_file():
        print(f"Labelled pairs not found ({path}); set COMPOUNDWATCH_SHARED to the folder that holds data/.")
        return None
    spec = importlib.util.spec_from_file_location("labelled_score", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def simple_methods(score, kind, before, after):
    if kind == "sar":
        size = score.logratio(before, after)
        return {"log-ratio, Otsu": size > threshold_otsu(size), "PCA-KMeans": score.pcakmeans(size)}
    size, mad = score.cva(before, after), score.irmad(before, after)
    return {
        "CVA, Otsu": size > threshold_otsu(size),
        "PCA-KMeans": score.pcakmeans(size),
        "IR-MAD, Otsu": mad > threshold_otsu(mad),
    }


def ours(before, after, alpha):
    first, second = (np.atleast_3d(a.T).T.astype(np.float32) for a in (before, after))
    name, _ = detectors.choose_pair(first, second)
    return {f"auto: {name}": detectors.pair_detector(name).compare(first, second, alpha).direction != 0}


def show(pair, method, m, seconds=None):
    took = f"{seconds:7.1f}" if seconds is not None else f"{'':7s}"
    print(
        f"{pair:20s} {method:16s} {100 * m['Kappa']:6.2f} {100 * m['F1']:6.2f} {100 * m['P']:6.2f} {100 * m['R']:6.2f} "
        f"{100 * m['OA']:6.2f} {took}",
        flush=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pairs", nargs="*", help="names of pairs; default: all")
    parser.add_argument("--alpha", type=float, default=0.01)
    options = parser.parse_args()
    score = scorer()
    if score is None:
        return
    pooled: dict[str, np.ndarray] = {}
    print(f"{'pair':20s} {'method':16s} {'Kappa':>6s} {'F1':>6s} {'P':>6s} {'R':>6s} {'OA':>6s} {'seconds':>7s}")
    for pair in options.pairs or score.names():
        kind, before, after, truth, known = score.load(pair)
        start = time.perf_counter()
        found = ours(before, after, options.alpha)
        seconds = {name: time.perf_counter() - start for name in found}
        for method, changed in {**simple_methods(score, kind, before, after), **found}.items():
            measured = score.metrics(changed, truth, known)
            show(pair, method, measured, seconds.get(method))
            if pair.startswith("oscd/"):
                pooled[method] = pooled.get(method, 0) + np.array([measured[c] for c in COUNTS])
    for method, counts in pooled.items():
        show("oscd, pooled", method, score.from_counts(*map(int, counts)))
    print("\nPublished (not measured here):")
    for pair, figure, origin in PUBLISHED:
        print(f"{pair:20s} {figure:12s} {origin}")


if __name__ == "__main__":
    main()
