"""Season fitted on the reference period, then the likelihood of a lasting step in the prediction errors after it.

Method, limits and measured false-alarm rates: docs/detectors/harmonic_cusum.md.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from compoundwatch.model import FloatArray, PixelChange
from compoundwatch.monitoring import SeasonMonitor
from compoundwatch.monitoring_null import LASTING_STEP


class HarmonicCusum(SeasonMonitor):
    """Looks for a step of the level that lasts to the end of the series.

    Settings: ``clip_sigma``, standard deviations of the reference period beyond which an error counts as this many;
    ``huber_sigma``, the same for the fit of the season. The p-value holds for the default settings.
    """

    name = "harmonic_cusum"
    title = "Season and cumulative sums (lasting changes)"
    source = (
        "weighted cumulative sums of recursive residuals, the largest likelihood ratio of a step (Brown et al. 1975, "
        "doi:10.1111/j.2517-6161.1975.tb01532.x; Andrews 1993, doi:10.2307/2951764)"
    )
    windows = ()
    table = LASTING_STEP

    def test(self, values: FloatArray, days: npt.NDArray[np.int64], reference_end: int) -> PixelChange:
        """Test each pixel for a lasting step on or after ``reference_end``.

        Parameters
        ----------
        values : float32 (n_dates, n_pixels), any unit, NaN = no view.
        days : int64 (n_dates,), days since 1970-01-01, sorted.
        reference_end : first day (since 1970-01-01) that may hold a change.

        Returns
        -------
        PixelChange. ``statistic`` is the largest standardised step over all its possible dates, positive for a rise.
        ``day`` is the first view after the step, ``day_earliest`` the last view before it, ``day_latest`` = ``day``:
        the change lies after ``day_earliest`` and not after ``day_latest``. ``effect`` is the mean from ``day`` on of
        value minus season of the reference period. All are NaN for a pixel with fewer than ``min_before`` or
        ``min_after`` views.
        """
        return PixelChange(**self.changes(values, days, reference_end))


DETECTOR = HarmonicCusum()
