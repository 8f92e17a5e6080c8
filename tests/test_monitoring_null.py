"""The tables of quantiles have the shape and order they claim."""

from __future__ import annotations

import numpy as np
import pytest

from compoundwatch import monitoring, monitoring_null

TABLES = {"MOVING_SUM": monitoring_null.MOVING_SUM, "LASTING_STEP": monitoring_null.LASTING_STEP} | monitoring_null.RUNS


@pytest.mark.parametrize("name", TABLES)
def test_table(name: str | int) -> None:
    table = np.array(TABLES[name])
    n = (len(monitoring_null.VIEWS_BEFORE), len(monitoring_null.VIEWS_AFTER), len(monitoring_null.LEVELS))
    assert table.shape == n
    assert (np.diff(table, axis=2)[table[..., 1:] > 0] > 0).all()
    assert (np.diff(monitoring_null.LEVELS) < 0).all()
    known = monitoring.null_quantiles(TABLES[name], [20, 100], [9, 64])
    rows, columns = (monitoring_null.VIEWS_BEFORE.index(k) for k in (20, 100)), (9, 64)
    for i, row in enumerate(rows):
        for j, column in enumerate(columns):
            expected = table[row, monitoring_null.VIEWS_AFTER.index(column)]
            np.testing.assert_allclose(known[i, j], expected, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("length", monitoring_null.RUNS)
def test_a_row_needs_as_many_views(length: int) -> None:
    """Fewer views hold no such row; as many do with chance 2^(1 - length), a little less where errors are whitened."""
    table = np.array(monitoring_null.RUNS[length])
    for k, views in enumerate(monitoring_null.VIEWS_AFTER):
        if views < length:
            assert (table[:, k] == 0).all()
        if views == length:
            possible = np.array(monitoring_null.LEVELS) < 0.25 * 2.0 ** (1 - length)
            assert (table[:, k][:, possible] > 0).all()
            assert (table[:, k][:, np.array(monitoring_null.LEVELS) > 1.5 * 2.0 ** (1 - length)] == 0).all()
