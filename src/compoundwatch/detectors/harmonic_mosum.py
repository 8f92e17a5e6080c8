"""Season fitted on the reference period, then moving sums of the prediction errors after it.

Method, limits and measured false-alarm rates: docs/detectors/harmonic_mosum.md.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from compoundwatch.model import FloatArray, PixelChange
from compoundwatch.monitoring import SeasonMonitor
from compoundwatch.monitoring_null import MOVING_SUM


class HarmonicMosum(SeasonMonitor):
    """Looks for a spell of 4, 8, 16 or 32 views that its own season does not explain.

    Settings: ``clip_sigma``, standard deviations of the reference period beyond which an error counts as this many;
    ``huber_sigma``, the same for the fit of the season. The p-value holds for the default settings.
    """

    name = "harmonic_mosum"
    title = "Season and moving sums (temporary and lasting changes)"
    source = (
        "after Verbesselt et al. 2012, doi:10.1016/j.rse.2012.02.022, with recursive residuals (Brown et al. 1975, "
        "doi:10.1111/j.2517-6161.1975.tb01532.x)"
    )
    table = MOVING_SUM

    def test(self, values: FloatArray, days: npt.NDArray[np.int64], reference_end: int) -> PixelChange:
        """Test each pixel for a change on or after ``reference_end``.

        Parameters
        ----------
        values : float32 (n_dates, n_pixels), any unit, NaN = no view.
        days : int64 (n_dates,), days since 1970-01-01, sorted.
        reference_end : first day (since 1970-01-01) that may hold a change.

        Returns
        -------
        PixelChange. ``statistic`` is the largest standardised sum of prediction errors, positive for a rise. ``day`` is
        the first view of the spell, ``day_earliest`` the last view before it, ``day_latest`` = ``day``: the change lies
        after ``day_earliest`` and not after ``day_latest``. ``effect`` is the mean over the spell of value minus season
        of the reference period. All are NaN for a pixel with fewer than ``min_before`` or ``min_after`` views.
        """
        return PixelChange(**self.changes(values, days, reference_end))


DETECTOR = HarmonicMosum()
