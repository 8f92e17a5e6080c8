"""What changed between two images of one place: GeoTIFFs of any sensor that lie on the same pixels.

python examples/two_dates.py before.tif after.tif result
"""

from __future__ import annotations

import sys

import numpy as np

import compoundwatch as cw


def main(before: str, after: str, out: str) -> None:
    """Compare, and print how much of what could be tested changed."""
    result = cw.compare(before, after, out=out)
    tested = np.isfinite(result.change.p_value)
    print(f"detector {result.detector}: {result.why}")
    direction = result.change.direction[tested]
    print(f"more {(direction > 0).mean():.1%}, less {(direction < 0).mean():.1%}")
    print(f"not tested {(~tested).mean():.1%}; open {out}/direction.tif in QGIS")


if __name__ == "__main__":
    main(*sys.argv[1:])
