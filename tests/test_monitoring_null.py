"""The tables of quantiles have the shape and order they claim."""

from __future__ import annotations

import numpy as np
import pytest

from compoundwatch import monitoring, monitoring_null


@pytest.mark.parametrize("name", ["MOVING_SUM", "LASTING_STEP"])
def test_table(name: str) -> None:
    table = np.array(getattr(monitoring_null, name))
    n = (len(monitoring_null.VIEWS_BEFORE), len(monitoring_null.VIEWS_AFTER), len(monitoring_null.LEVELS))
    assert table.shape == n
    assert (np.diff(table, axis=2) > 0).all()
    assert (np.diff(monitoring_null.LEVELS) < 0).all()
    known = monitoring.null_quantiles(getattr(monitoring_null, name), [20, 100], [8, 64])
    rows, columns = (monitoring_null.VIEWS_BEFORE.index(k) for k in (20, 100)), (8, 64)
    for i, row in enumerate(rows):
        for j, column in enumerate(columns):
            np.testing.assert_allclose(known[i, j], table[row, monitoring_null.VIEWS_AFTER.index(column)], rtol=1e-6)
