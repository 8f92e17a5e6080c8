"""Rows carry every field of their layer, and belong to the right site."""

from __future__ import annotations

import pytest

from compoundwatch.model import WatchResult
from compoundwatch.outputs.fields import LAYERS
from compoundwatch.outputs.rows import concerns, watch_layers
from compoundwatch.outputs.vector import patches


def test_rows_have_exactly_the_fields(result: WatchResult) -> None:
    kept = patches(result.changes[0], result.area.sites[0].geometry).kept
    layers = watch_layers(result, kept)
    assert list(layers) == list(LAYERS)
    for name, layer in layers.items():
        for _, row in layer.rows:
            assert list(row) == [f.name for f in LAYERS[name]], name


@pytest.mark.parametrize(
    ("item", "site", "wanted"),
    [("a", "a", True), ("a: S2_x", "a", True), ("ab: S2_x", "a", False), ("S2_a", "a", False), ("a:b: x", "a", False)],
)
def test_what_was_left_out_belongs_to_its_site(item: str, site: str, wanted: bool) -> None:
    assert concerns(item, site) is wanted
