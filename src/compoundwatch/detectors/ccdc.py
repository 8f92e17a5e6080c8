"""Consecutive anomalies after a season: six views in a row on one side of the prediction.

Method, limits and measured false-alarm rates: docs/detectors/ccdc.md.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from compoundwatch.errors import SettingsError
from compoundwatch.model import FloatArray, PixelChange
from compoundwatch.monitoring import SeasonMonitor
from compoundwatch.monitoring_null import RUNS


class Ccdc(SeasonMonitor):
    """Looks for ``consecutive`` views in a row that all err to the same side, and asks how rare that is by chance.

    ``consecutive`` is a number of views, one of those for which there are null quantiles. The size of an anomaly is
    that of the smallest of the row.

    Raises
    ------
    SettingsError : there are no null quantiles for this number of views; the message lists those there are.
    """

    name = "ccdc"
    title = "Season and consecutive anomalies"
    source = "after Zhu and Woodcock 2014, doi:10.1016/j.rse.2014.01.011"

    def __init__(self, consecutive: int = 6) -> None:
        super().__init__(clip_sigma=4.0)
        if consecutive not in RUNS:
            known = ", ".join(str(length) for length in RUNS)
            raise SettingsError(
                f"ccdc knows the law of rows of {known} views, not of {consecutive}; choose one of them"
            )
        self.consecutive = self.run = self.min_after = consecutive
        self.table = RUNS[consecutive]

    def test(self, values: FloatArray, days: npt.NDArray[np.int64], reference_end: int) -> PixelChange:
        """Test each pixel for a change on or after ``reference_end``.

        Parameters
        ----------
        values : float32 (n_dates, n_pixels), any unit, NaN = no view.
        days : int64 (n_dates,), days since 1970-01-01, sorted.
        reference_end : first day (since 1970-01-01) that may hold a change.

        Returns
        -------
        PixelChange. ``statistic`` is the size of the smallest of the ``consecutive`` standardised prediction errors, in
        the row where it is largest, positive for a rise; what an error inherits from the one before it is taken off.
        ``day`` is the first view of the new level, ``day_earliest`` the last view before it, ``day_latest`` = ``day``.
        ``effect`` is the mean of value minus season of the reference period, from then on to the end of the series or
        of a spell that passes. All are NaN for a pixel with fewer than ``min_before`` or ``min_after`` views.
        """
        return PixelChange(**self.changes(values, days, reference_end))


DETECTOR = Ccdc()
