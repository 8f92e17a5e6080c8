"""Controls judged as if they were sites: which, and what the rank among them says."""

from __future__ import annotations

import pytest
from shapely.geometry import box

from compoundwatch.model import AreaOfInterest, Role, Site
from compoundwatch.score import placebo_p, placebo_sites

PLACE = box(103, 10, 103.01, 10.01)


def area(*controls_of_sites):
    sites = [Site(f"s{k}", f"s{k}", Role.SITE, PLACE, ids) for k, ids in enumerate(controls_of_sites)]
    ids = dict.fromkeys(c for one in controls_of_sites for c in one)
    return AreaOfInterest("area", (*sites, *(Site(c, c, Role.CONTROL, PLACE) for c in ids)))


def test_controls_are_taken_in_turn_from_the_sites_and_once():
    given = area(("a", "b", "c"), ("b", "d", "e", "f"), ("g", "h"))
    found = placebo_sites(given, 4)
    assert [p.site_id for p in found] == ["a", "b", "d", "c"], "two controls are too few: one would be left"
    assert all(p.role is Role.SITE for p in found)
    assert [p.controls for p in found] == [("b", "c"), ("d", "e", "f"), ("b", "e", "f"), ("a", "b")]
    assert len(placebo_sites(given, 100)) == 6
    assert placebo_sites(given, 0) == ()


def test_rank_by_hand():
    """25 controls: the two highest are left out (8 %), so 23 remain, of which one scores 50 or more."""
    placebos = [99.0, 97.0, 60.0, *range(22)]
    assert placebo_p(50, placebos) == pytest.approx(2 / 24)
    assert placebo_p(70, placebos) == pytest.approx(1 / 24)
    assert placebo_p(10, placebos) == pytest.approx((1 + 1 + 12) / 24)
    assert placebo_p(50, [60.0, 10.0]) == pytest.approx(2 / 3), "of two, none is left out"
    assert placebo_p(50, []) is None
