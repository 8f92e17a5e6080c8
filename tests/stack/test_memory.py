"""What a place remembers of its imagery: it comes back to the last bit, and nothing of it is read again."""

from __future__ import annotations

from dataclasses import replace

import xarray as xr

from compoundwatch import stack
from compoundwatch.model import Scene
from compoundwatch.sensors.sentinel2 import SENSOR
from tests.stack.test_survey import SITE, write_days

TILES = tuple(SITE.part(tile) for tile in SITE.tiles(16))


def test_days_of_several_tiles_come_back_without_their_files(tmp_path):
    """A new date is read; of the earlier ones no file is left."""
    days = write_days(tmp_path, [(0, 0)] * 4)
    whole = [stack.load(days, SENSOR, tile)[0] for tile in TILES]
    memory = stack.Memory()
    for tile in TILES:
        stack.recalled(days[:3], SENSOR, tile, 2, memory)
    for file in tmp_path.rglob("*.tif"):
        if days[3].scene_id not in file.parts:
            file.unlink()
    again = stack.from_arrays(stack.to_arrays(memory, "a key"), "a key")
    for tile, all_at_once in zip(TILES, whole, strict=True):
        found, left_out = stack.recalled(days, SENSOR, tile, 2, again)
        assert left_out == []
        xr.testing.assert_identical(found, all_at_once)
    assert len(TILES) == 4
    assert all(cube["valid"].any() for cube in whole)


def test_what_depends_on_something_else_is_not_recalled(tmp_path):
    days = write_days(tmp_path, [(0, 0)] * 2)
    memory = stack.Memory()
    stack.recalled(days, SENSOR, SITE, 2, memory)
    kept = stack.to_arrays(memory, "a key")
    key = (SITE.key, days[0].scenes[0].pixels)
    assert key in stack.from_arrays(kept, "a key").days
    assert key not in stack.from_arrays(kept, "another key").days


def test_a_scene_is_another_one_where_its_pixels_may_be(tmp_path):
    (day,) = write_days(tmp_path, [(0, 0)])
    (scene,) = day.scenes
    name, asset = next(iter(scene.assets.items()))

    def with_calibration(**changed: object) -> Scene:
        other = replace(asset, calibration=replace(asset.calibration, **changed))
        return replace(scene, assets={**scene.assets, name: other})

    same = replace(scene, cloud_percent=99.0, assets=dict(reversed(scene.assets.items())))
    assert same.pixels == scene.pixels
    others = [
        replace(scene, scene_id="another"),
        replace(scene, processing="another"),
        with_calibration(scale=2.0),
        with_calibration(offset=-0.1),
        with_calibration(nodata=1.0),
        with_calibration(rule="another"),
    ]
    assert len({scene.pixels, *(s.pixels for s in others)}) == 7
