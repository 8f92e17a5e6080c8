"""Areas of interest: reads sites and controls from GeoJSON, loud about every fault, and proposes controls.

``read_areas`` and ``to_feature_collection`` know what a file of areas looks like; ``propose_controls``,
``rank_by_land_cover`` and ``town_places`` find control areas for sites that have none.
"""

from compoundwatch.aoi._controls import propose_controls, rank_by_land_cover, town_places
from compoundwatch.aoi._properties import KNOWN as KNOWN_FIELDS
from compoundwatch.aoi._read import MAX_BYTES, read_areas, to_feature_collection

__all__ = [
    "KNOWN_FIELDS",
    "MAX_BYTES",
    "propose_controls",
    "rank_by_land_cover",
    "read_areas",
    "to_feature_collection",
    "town_places",
]
