"""The data that travels between the stages, and the checks at their borders.

Four conventions hold everywhere: ``valid`` is True where a pixel may be used; missing is NaN, NaT or ``None``, never a
number; a positive effect means more of the feature after than before; times are UTC, lengths metres, vector files
longitude and latitude.
"""

from __future__ import annotations

import datetime as dt
import difflib
import hashlib
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal, Protocol

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field

from compoundwatch.errors import ContractError
from compoundwatch.formulas import FloatArray as FloatArray
from compoundwatch.grid import Grid

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr
    from shapely.geometry.base import BaseGeometry

BoolArray = npt.NDArray[np.bool_]


STORE, LOCK, CACHE = "store.gpkg", "store.lock", "cache"
"""What lies in the folder of a workspace and is no part of a result: what it remembers, the lock of the one run that
may be at work in it, and what may be deleted and made again."""


class Role(StrEnum):
    """What a polygon is for: a site is watched, a control shows what happens where nothing was announced."""

    SITE = "site"
    CONTROL = "control"


class State(StrEnum):
    """What the evidence says about a site."""

    UNCHANGED = "UNCHANGED"
    EMPTIED = "EMPTIED"
    BUILDING = "BUILDING"
    DEMOLISHED = "DEMOLISHED"
    REOCCUPIED = "REOCCUPIED"
    LIGHTS_ONLY = "LIGHTS_ONLY"
    NOT_OBSERVABLE = "NOT_OBSERVABLE"


# ---------------------------------------------------------------------------------------------------------- areas


@dataclass(frozen=True)
class Site:
    """One polygon to watch or to compare with.

    ``geometry`` is a valid polygon or multipolygon in longitude and latitude. ``precision_m`` (metres, None = not
    stated) is how far the true place may lie from the outline. ``controls`` are the ids of the areas it is compared
    with. ``source`` and ``source_date`` say who named the place and when. ``properties`` are the other fields of the
    user's file, carried along untouched.
    """

    site_id: str
    name: str
    role: Role
    geometry: BaseGeometry
    controls: tuple[str, ...] = ()
    precision_m: float | None = None
    source: str | None = None
    source_date: dt.date | None = None
    properties: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Event:
    """A dated, sourced fact to compare changes with.

    ``earliest`` and ``latest`` are local calendar days, equal when the day is known. ``scope`` holds the ids of the
    sites it concerns; empty = none of the sites at hand. ``trust`` is the grade of the source: "S" seen in the
    original outlet, "R" republished wire story, "W" weak lead, "D" derived, "K" general knowledge.
    """

    event_id: str
    earliest: dt.date
    latest: dt.date
    place: str
    scope: tuple[str, ...]
    kind: str
    what: str
    source: str
    trust: str


@dataclass(frozen=True)
class AreaOfInterest:
    """The sites and controls of one file, and the events to test them against."""

    area_id: str
    sites: tuple[Site, ...]
    events: tuple[Event, ...] = ()

    @property
    def targets(self) -> tuple[Site, ...]:
        """The polygons with role "site"."""
        return tuple(s for s in self.sites if s.role is Role.SITE)

    @property
    def by_id(self) -> dict[str, Site]:
        """Every polygon by its id."""
        return {s.site_id: s for s in self.sites}


# -------------------------------------------------------------------------------------------------------- sensors


@dataclass(frozen=True)
class Band:
    """One band of a sensor: its name here, the asset keys it has in catalogues (first found wins), pixel size (m).

    ``quality`` bands hold codes. ``nearest`` bands are never interpolated (quality bands are not either). ``layer`` is
    the path of the band inside an HDF5 file; empty where each band has a file of its own.
    """

    name: str
    assets: tuple[str, ...]
    pixel_m: float
    unit: str
    quality: bool = False
    nearest: bool = False
    layer: str = ""


@dataclass(frozen=True)
class Calibration:
    """How stored numbers become physical values: ``value = stored * scale + offset``, ``nodata`` stays missing.

    ``rule`` says in words where scale and offset were read.
    """

    scale: float
    offset: float
    nodata: float | None
    rule: str


@dataclass(frozen=True)
class Feature:
    """One measurement per pixel and date.

    ``formula`` takes the bands of one date (name -> float32 array, NaN = not valid) and gives an array of the same
    shape in ``unit``; ``low`` and ``high`` bound what is plausible; ``increase_suggests`` is a phrase for readers.
    ``restless`` says whether its change from one view to the next tells of activity on the ground (not so where the
    weather moves it).
    """

    name: str
    formula: Callable[[Mapping[str, FloatArray]], FloatArray]
    bands: tuple[str, ...]
    unit: str
    low: float
    high: float
    increase_suggests: str
    restless: bool = True


@dataclass(frozen=True)
class Sensor:
    """Everything the other stages need to know of one satellite product.

    ``collections`` are the collection ids to ask for, best first. ``valid`` turns quality bands into "may be used";
    None = the product has none, and every value that is there may be used.
    ``calibrate`` reads a band's calibration from a STAC item (dict) and asset key; it raises CatalogError where the
    item does not say. ``unsuited`` says why an item of the collection is not for this sensor, empty where it is.
    ``look`` names the viewing geometry; only equal looks are compared. ``acquisition`` is a text that is equal for two
    processings of one acquisition, ``processing`` the processing version, a text that sorts by age. ``version`` names
    what may make a step between two scenes though nothing changed on the ground: platform, processing baseline.
    ``align_on`` is the band (reflectance) on which scenes are aligned to one another, None where the product is
    geolocated well enough. ``offset_step`` is the reflectance by which a scene is wrong whose item misstates the offset
    of its numbers; None = that cannot happen. ``own_share`` gives the share (0-1) of what is measured over an outline
    (EPSG:4326) that is the place's own, where pixels are larger than places; None = all of it. ``picture`` names the
    bands of a true-colour picture, None where there is none. ``sees`` and ``blind_to`` are phrases for readers.
    """

    name: str
    title: str
    kind: Literal["optical", "radar", "lights"]
    collections: tuple[str, ...]
    bands: tuple[Band, ...]
    features: tuple[Feature, ...]
    valid: Callable[[Mapping[str, npt.NDArray[Any]]], BoolArray] | None
    calibrate: Callable[[Mapping[str, Any], str], Calibration]
    look: Callable[[Mapping[str, Any]], str]
    acquisition: Callable[[Mapping[str, Any]], str]
    processing: Callable[[Mapping[str, Any]], str]
    version: Callable[[Mapping[str, Any]], str]
    unsuited: Callable[[Mapping[str, Any]], str]
    pixel_m: float
    revisit_days: float
    align_on: str | None
    picture: tuple[str, str, str] | None
    sees: str
    blind_to: str
    attribution: str
    offset_step: float | None = None
    own_share: Callable[[BaseGeometry], float] | None = None


# --------------------------------------------------------------------------------------------------------- scenes


@dataclass(frozen=True)
class Access:
    """How the files that a catalogue names are reached over HTTP, which no item can change.

    ``own_hosts`` are hosts that the user named, whose addresses may be private. Files on hosts whose name ends with
    ``signed_hosts`` need a token, which ``token_endpoint`` gives; both are empty where none do.
    """

    own_hosts: frozenset[str] = frozenset()
    token_endpoint: str = ""
    signed_hosts: str = ""


@dataclass(frozen=True)
class Asset:
    """One band's file: where it is, without any token, how it is reached, and how its numbers are read.

    For a layer of an HDF5 file, ``layer`` is its path inside and ``corner`` the longitude and latitude (degrees) of the
    layer's upper left corner with the size of its pixels (degrees): such files do not say where they lie.
    """

    href: str
    calibration: Calibration
    layer: str = ""
    corner: tuple[float, float, float] | None = None
    access: Access = field(default_factory=Access)


@dataclass(frozen=True)
class Scene:
    """One acquisition in a catalogue.

    ``acquired`` is UTC. ``acquisition``, ``look``, ``processing`` and ``version`` are those of the ``Sensor``.
    ``assets`` maps band names to files. ``cloud_percent`` is the catalogue's own figure (0-100, None = not stated).
    ``footprint`` is in longitude and latitude (None = not stated). ``href`` is the address of the catalogue's own
    record of the scene, empty where it states none.
    """

    scene_id: str
    sensor: str
    collection: str
    catalog: str
    acquired: dt.datetime
    acquisition: str
    look: str
    processing: str
    version: str
    cloud_percent: float | None
    assets: Mapping[str, Asset]
    footprint: BaseGeometry | None
    updated: str = ""
    href: str = ""

    @cached_property
    def pixels(self) -> str:
        """A text that differs where the pixels of two scenes may differ."""
        read = ((name, asset.calibration) for name, asset in sorted(self.assets.items(), key=lambda item: item[0]))
        numbers = repr([(name, (c.scale, c.offset, c.nodata, c.rule)) for name, c in read])
        return f"{self.scene_id} {self.processing} {hashlib.sha256(numbers.encode()).hexdigest()[:12]}"


@dataclass(frozen=True)
class Skipped:
    """Something that was left out, at which stage, and why, in a sentence for readers.

    ``routine`` is True for what every run leaves out (clouds, older processings); it does not make a result incomplete.
    """

    item_id: str
    stage: str
    reason: str
    routine: bool = False


# ------------------------------------------------------------------------------------------------------ detection


@dataclass(frozen=True)
class PixelChange:
    """What a series detector says, one value per pixel, every array of shape (n_pixels,).

    ``statistic`` float32, signed, the detector's own scale. ``p_value`` float32 0-1, NaN = not tested. ``effect`` and
    ``effect_se`` float32, unit of the feature. ``day``, ``day_earliest``, ``day_latest`` float64, days since
    1970-01-01: first view of the change, last view before it, first view after; NaN = no date. ``n_before`` and
    ``n_after`` int32 counts of views.
    """

    statistic: FloatArray
    p_value: FloatArray
    effect: FloatArray
    effect_se: FloatArray
    day: FloatArray
    day_earliest: FloatArray
    day_latest: FloatArray
    n_before: npt.NDArray[np.int32]
    n_after: npt.NDArray[np.int32]


@dataclass(frozen=True)
class PairChange:
    """What a pair detector says, every array of shape (rows, cols).

    ``statistic`` float32, signed where the method knows a sign. ``p_value`` float32 0-1, NaN = not tested.
    ``direction`` int8: +1 more after, -1 less after, 0 no change or not tested. A method without a p-value of its own
    gives NaN only where a pixel was not tested and says in its docs page what its p-value means.
    """

    statistic: FloatArray
    p_value: FloatArray
    direction: npt.NDArray[np.int8]


class SeriesDetector(Protocol):
    """Tests each pixel's series for a change after ``reference_end``.

    ``unit`` is the unit that the values must have, None = any.
    """

    kind: Literal["series"]
    name: str
    title: str
    source: str
    unit: str | None
    min_before: int
    min_after: int

    def test(self, values: FloatArray, days: npt.NDArray[np.int64], reference_end: int) -> PixelChange:
        """Test float32 values (n_dates, n_pixels), NaN = no view, at sorted days since 1970-01-01."""
        ...


class PairDetector(Protocol):
    """Compares two co-registered images."""

    kind: Literal["pair"]
    name: str
    title: str
    source: str
    suits: tuple[Literal["optical", "radar"], ...]

    def compare(self, before: FloatArray, after: FloatArray, alpha: float) -> PairChange:
        """Compare float32 images (bands, rows, cols), NaN = no view, at significance level ``alpha``."""
        ...


# --------------------------------------------------------------------------------------------------------- scores

SERIES_COLUMNS: Mapping[str, str] = {
    "site_id": "str",
    "sensor": "str",
    "feature": "str",
    "look": "str",
    "scene_id": "str",
    "acquired": "datetime64[ns, UTC]",
    "value": "float64",
    "spread": "float64",
    "valid_fraction": "float64",
    "n_valid": "int64",
}
"""Columns of the table of site series: ``value`` in the feature's unit, ``spread`` its robust pixel spread,
``valid_fraction`` 0-1, ``n_valid`` pixels."""


@dataclass(frozen=True)
class SiteEffect:
    """How one feature moved at one site against its controls, from one look.

    ``effect``, ``std_error``, ``low``, ``high`` (95 %) in ``unit``. ``day`` is the best date of the step. ``p_value``
    is the chance of a step this large at any date where nothing happened; None = not tested. ``n_controls`` 0 means
    that the site was compared with its own past alone. ``pre_trend_p`` asks whether site and controls ran parallel
    before (None = not tested).
    """

    site_id: str
    sensor: str
    feature: str
    look: str
    unit: str
    effect: float | None
    std_error: float | None
    low: float | None
    high: float | None
    day: dt.date | None
    p_value: float | None
    n_controls: int
    n_before: int
    n_after: int
    pre_trend_p: float | None


@dataclass(frozen=True)
class SiteState:
    """The answer for one site.

    ``probability`` gives every state's probability (0-1, sum 1; empty where NOT_OBSERVABLE). ``score`` is
    100 x (1 - P(UNCHANGED)), None where not observable. ``change_date`` with ``change_date_earliest`` and
    ``change_date_latest`` (90 % interval) is None where no change is called. ``p_value`` and ``q_value`` 0-1, None =
    not tested. ``change_dates`` is the probability of each date tried, given that the state is right (sum 1; empty
    where no change is called); ``back_date`` the day on which a REOCCUPIED site was used again (None = not known, or
    another state). ``contributions`` tells what each measurement (sensor, look, feature) adds to the log odds of the
    state, or of the likeliest change where none is called, against no change. ``n_views``, ``n_before``, ``n_after``
    count usable dates of all sensors; ``valid_fraction`` is how much of the site was seen on them (0-1, None = none).
    ``min_detectable`` is the smallest fall of activity (fraction 0-1) that would have been seen; None = not measured.
    ``reason`` is one sentence for readers.
    """

    site_id: str
    as_of: dt.date
    state: State
    probability: Mapping[State, float]
    score: float | None
    change_date: dt.date | None
    change_date_earliest: dt.date | None
    change_date_latest: dt.date | None
    p_value: float | None
    q_value: float | None
    n_views: int
    n_before: int
    n_after: int
    n_controls: int
    valid_fraction: float | None
    min_detectable: float | None
    sensors: tuple[str, ...]
    reason: str
    change_dates: Mapping[dt.date, float] = field(default_factory=dict)
    back_date: dt.date | None = None
    contributions: Mapping[str, float] = field(default_factory=dict)


# ---------------------------------------------------------------------------------------------- against dated events


class Timing(StrEnum):
    """When a site changed, seen from a dated event."""

    BEFORE = "BEFORE"
    AT = "AT"
    AFTER = "AFTER"
    UNDATED = "UNDATED"
    NONE = "NONE"
    INCONCLUSIVE = "INCONCLUSIVE"
    NOT_OBSERVABLE = "NOT_OBSERVABLE"


@dataclass(frozen=True)
class VerdictSettings:
    """How sites are held against events.

    A change ``at_days`` (days, 0 or more) or less from the event is "at" it. Another event that confounds counts when
    it lies at most ``reach_days`` (days) away. "No change" needs ``min_views_after`` usable dates after the event. A
    timing is called when its probability reaches ``probability_called`` (0.5-1). Intervals hold ``level`` (0-1).
    """

    at_days: int = 1
    reach_days: int = 45
    min_views_after: int = 4
    probability_called: float = 0.8
    level: float = 0.9


@dataclass(frozen=True)
class Verdict:
    """One site against one event.

    ``probability`` holds BEFORE, AT, AFTER, UNDATED (a change may have come, no date can be given) and NONE (0-1, sum
    1); empty where the site, or the time around the event, was not observable. ``timing`` is the one that is called,
    INCONCLUSIVE where none is.
    ``days`` is the median of change minus event in days (negative = the change came first), ``days_low`` and
    ``days_high`` its interval, given that the site changed; None = no dated change. ``change_first`` is the probability
    that the site changed on a day before the event, ``departure_first`` that its activity fell before it; None = not
    observable. ``confounded_by`` holds the ids of events that may explain the measurements otherwise. ``reason`` is one
    sentence for readers.
    """

    site_id: str
    event_id: str
    event_kind: str
    state: State
    timing: Timing
    probability: Mapping[Timing, float]
    days: float | None
    days_low: int | None
    days_high: int | None
    change_first: float | None
    departure_first: float | None
    confounded_by: tuple[str, ...]
    reason: str


@dataclass(frozen=True)
class EventStudyBin:
    """Mean difference of sites to controls in one span of days relative to an event.

    Days run from ``day_from`` to before ``day_to``, 0 = first day of the event. ``effect``, ``std_error``, ``low`` and
    ``high`` (95 %) are in the unit of the feature, relative to the reference days; None = fewer than two sites seen.
    """

    day_from: int
    day_to: int
    effect: float | None
    std_error: float | None
    low: float | None
    high: float | None
    n_sites: int


@dataclass(frozen=True)
class EventStudy:
    """How the sites of one event moved against their controls, pooled.

    ``effect`` is the mean over ``site_ids`` of the difference after the event minus that of the reference days (unit of
    the feature; negative = less), with ``std_error`` clustered by site, ``low`` and ``high`` (95 %) and ``p_value``.
    ``pre_trend_p`` asks whether sites and controls ran parallel before; ``placebo_p`` is the rank of the effect among
    ``placebo_effects`` at dates on which nothing was announced. All None where ``testable`` is False; ``pre_trend_p``
    and ``placebo_p`` also where the series before are too short. ``reason`` is one sentence for readers.
    """

    event_id: str
    sensor: str
    feature: str
    site_ids: tuple[str, ...]
    testable: bool
    bins: tuple[EventStudyBin, ...]
    effect: float | None
    std_error: float | None
    low: float | None
    high: float | None
    p_value: float | None
    pre_trend_p: float | None
    placebo_p: float | None
    placebo_effects: tuple[float, ...]
    reason: str


@dataclass(frozen=True)
class Spell:
    """How long the stillness of one site lasted.

    The true duration lies between ``shortest`` and ``longest`` days, because neither its first nor its last day is
    known exactly. ``ended`` is True where activity came back, on ``revived`` (None = not back, or the day not known);
    False = it had not when the site was last judged, and the duration is longer than these. ``began`` is the likeliest
    first day, ``last_judged`` the day of the last statement that counts.
    """

    site_id: str
    began: dt.date
    ended: bool
    revived: dt.date | None
    last_judged: dt.date
    shortest: float
    longest: float


@dataclass(frozen=True)
class Holding:
    """Share of still sites that stay still for so many days or longer.

    ``days`` are the days asked for, ``share`` the Kaplan-Meier estimate (0-1) at each, ``low`` and ``high`` its
    interval at ``level`` (None = unlimited on that side for want of sites), ``at_risk`` the sites followed so long.
    ``median_days`` is None where more than half stay still throughout. Of ``n_sites`` spells ``n_ended`` ended;
    ``n_interval_censored`` have a duration known only within an interval of more than a day.
    """

    days: tuple[int, ...]
    share: tuple[float, ...]
    low: tuple[float | None, ...]
    high: tuple[float | None, ...]
    at_risk: tuple[float, ...]
    level: float
    median_days: float | None
    n_sites: int
    n_ended: int
    n_interval_censored: int


@dataclass(frozen=True)
class Receiver:
    """One site where activity rose most within the window of a displacement test.

    ``rise`` is its standardised rise (in units of its own usual wandering), ``km`` the distance to ``nearest``, the
    closest site of the event. It ranks sites; by itself it proves nothing of one of them.
    """

    site_id: str
    rise: float
    nearest: str
    km: float


@dataclass(frozen=True)
class Displacement:
    """Did the sites of an event fall while others rose?

    ``p_fall`` and ``p_rise`` (0-1) rank fall and rise among ``n_random_dates`` draws of random dates, ``p_labels``
    ranks them among ``n_relabellings`` choices of the sites that the event concerns; ``p_value`` is the largest of the
    three. ``fall`` and ``rise`` are standardised and pooled (positive = as expected). ``fall_days`` is the offset in
    days of the fall from the first day of the event (negative = before), ``lag_days`` that of the rise from the fall,
    with ``lag_low`` and ``lag_high`` (90 %). ``km`` is the mean distance of the rises from the nearest site of the
    event, weighted by their size. None everywhere where ``testable`` is False. ``receivers`` are sorted, largest rise
    first. ``reason`` is one sentence for readers.
    """

    event_id: str
    sensor: str
    feature: str
    treated: tuple[str, ...]
    others: tuple[str, ...]
    testable: bool
    p_value: float | None
    p_fall: float | None
    p_rise: float | None
    p_labels: float | None
    fall: float | None
    rise: float | None
    fall_days: int | None
    lag_days: int | None
    lag_low: int | None
    lag_high: int | None
    km: float | None
    n_random_dates: int
    n_relabellings: int
    receivers: tuple[Receiver, ...]
    reason: str


@dataclass(frozen=True)
class Count:
    """How many of ``of`` sites something holds for.

    ``expected`` is the sum of their probabilities, ``low`` and ``high`` the interval of their number that these
    uncertain single answers leave. ``at_most`` adds every site without an answer to ``high``: no answer excludes more.
    """

    expected: float
    low: int
    high: int
    of: int
    at_most: int


@dataclass(frozen=True)
class EventSummary:
    """The sites that one event concerns, by the timing of their change.

    ``verdicts`` holds one per site. ``fell`` counts falls of activity by timing (BEFORE, AT, AFTER, UNDATED) among the
    sites whose time around the event was observable; ``fell_first`` those on any day before the event. ``confounded``
    are the ids of sites whose measurements another event may explain. ``study`` and ``displacement`` pool the series.
    ``sentence`` may be quoted together with ``caveat``.
    """

    event: Event
    verdicts: tuple[Verdict, ...]
    fell: Mapping[Timing, Count]
    fell_first: Count
    confounded: tuple[str, ...]
    study: EventStudy
    displacement: Displacement
    sentence: str
    caveat: str


@dataclass(frozen=True)
class Summary:
    """What is said about all sites together.

    ``counts`` maps each state but NOT_OBSERVABLE to the number of sites consistent with it, among ``n_answered`` of
    ``n_sites``; ``unseen`` sites had too few views, ``inconclusive`` ones had views but no clear answer: neither is "no
    change". ``spells`` and ``holding`` say how long stillness lasted (None = no site was called EMPTIED); of the sites
    ``withdrawn`` it was said once and is not any more. ``as_of_earliest`` and ``as_of_latest`` are the days on which
    the sites were judged. Intervals hold ``level`` (0-1). ``sentence`` may be quoted together with ``caveat``. Of the
    ``n_called`` sites that were called changed, ``n_expected_false`` are expected not to have changed (the sum of their
    probabilities). ``placebo_p`` ranks the score of a site among those of ``n_placebos`` controls judged as sites
    (0-1); both empty where that was not asked for.
    """

    as_of_earliest: dt.date
    as_of_latest: dt.date
    level: float
    n_sites: int
    n_answered: int
    unseen: tuple[str, ...]
    inconclusive: tuple[str, ...]
    counts: Mapping[State, Count]
    spells: tuple[Spell, ...]
    withdrawn: tuple[str, ...]
    holding: Holding | None
    events: tuple[EventSummary, ...]
    sentence: str
    caveat: str
    n_called: int
    n_expected_false: float
    n_placebos: int = 0
    placebo_p: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class InputFile:
    """A file of the user that a run read: what it was for, its name without folders, its size and its SHA-256."""

    role: str
    name: str
    bytes: int
    sha256: str


@dataclass(frozen=True)
class Provenance:
    """Which software, settings and inputs made a result; written into every output.

    ``created`` is the time at which the run began (UTC). ``inputs`` are what was asked for, in words.
    """

    run_id: str
    created: dt.datetime
    software: Mapping[str, str]
    settings: Mapping[str, Any]
    settings_key: str
    inputs: Mapping[str, str]
    input_files: tuple[InputFile, ...] = ()


@dataclass(frozen=True)
class Picture:
    """A true-colour picture of a site: uint8 (rows, cols, 3), with its date, scene and place.

    Pixels that were not seen are ``seen`` False (bool (rows, cols)).
    """

    scene_id: str
    sensor: str
    acquired: dt.datetime
    grid: Grid
    rgb: npt.NDArray[np.uint8]
    seen: BoolArray


@dataclass(frozen=True)
class SiteChange:
    """One change map of one site: which sensor, feature and grid, and the Dataset of ``check_change_map``."""

    site_id: str
    sensor: str
    feature: str
    unit: str
    detector: str
    alpha: float
    grid: Grid
    change_map: xr.Dataset


@dataclass(frozen=True)
class WatchResult:
    """Everything one run of the main job found.

    ``series`` has the columns of SERIES_COLUMNS. ``pictures`` maps a site id to its last clear picture before and its
    last clear picture after the reference period (either may be None); ``frames`` maps it to clear pictures spread over
    the time watched, oldest first, those two among them. ``fresh`` is False where nothing was new since the last run
    into the same folder, whose files stand.
    """

    area: AreaOfInterest
    sensors: tuple[Sensor, ...]
    reference_end: dt.date
    as_of: dt.date
    scenes: tuple[Scene, ...]
    series: pd.DataFrame
    effects: tuple[SiteEffect, ...]
    states: tuple[SiteState, ...]
    changes: tuple[SiteChange, ...]
    pictures: Mapping[str, tuple[Picture | None, Picture | None]]
    skipped: tuple[Skipped, ...]
    provenance: Provenance
    frames: Mapping[str, tuple[Picture, ...]] = field(default_factory=dict)
    fresh: bool = True

    @property
    def complete(self) -> bool:
        """False when a scene or site was left out or a site could not be seen."""
        return all(k.routine for k in self.skipped) and all(s.state is not State.NOT_OBSERVABLE for s in self.states)


# ------------------------------------------------------------------------------------------------------- settings


class _Group(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class SearchSettings(_Group):
    """Which scenes are asked for."""

    max_cloud_percent: float = Field(80.0, ge=0, le=100, description="leave out scenes the catalogue calls cloudier")
    max_scenes: int = Field(10_000, ge=1, description="stop with an error beyond this many scenes per site")
    timeout_s: float = Field(60.0, gt=0, description="seconds to wait for one answer of a catalogue")
    look_back_days: int = Field(90, ge=0, description="days before the last run asked for again, for late scenes")
    recheck_days: int = Field(30, ge=0, description="days after which the whole time is asked for again")
    budget_s: float = Field(300.0, gt=0, description="seconds for one search of a catalogue, with all it asks again")


class LoadSettings(_Group):
    """How pixels are read."""

    margin_m: float = Field(60.0, ge=0, le=5000, description="width of the rim read around each outline, in metres")
    tile_pixels: int = Field(256, ge=32, le=4096, description="side of the pieces that are held in memory at once")
    threads: int = Field(32, ge=1, le=64, description="files read at the same time")
    cache_mb: float = Field(2000.0, ge=0, description="megabytes of pixels kept in the workspace; 0 = none")
    min_valid_fraction: float = Field(0.4, gt=0, le=1, description="share of a site that must be clear for a view")


class DetectSettings(_Group):
    """How pixels are tested."""

    detector: str = Field("harmonic_mosum", description="name of the series detector")
    alpha: float = Field(0.001, gt=0, lt=0.5, description="false-alarm rate per pixel")
    reference_end: dt.date | None = Field(None, description="first day that may hold a change; default: half-way")
    min_patch_m2: float = Field(400.0, ge=0, description="smallest changed patch that is drawn, in square metres")


class ScoreSettings(_Group):
    """How a site's evidence becomes a state."""

    min_views_before: int = Field(12, ge=4, description="usable dates needed before the reference period ends")
    min_views_after: int = Field(4, ge=2, description="usable dates needed after it")
    probability_called: float = Field(0.9, gt=0.5, lt=1, description="probability above which a change is called")
    max_min_detectable: float = Field(0.4, gt=0, le=1, description="largest fall of activity that may go unseen")
    centre: Literal["median", "weighted"] = Field(
        "median", description="a site is compared with the median of its controls, or a mean of those that ran like it"
    )


class ExportSettings(_Group):
    """What is written."""

    rasters: bool = Field(True, description="write the change maps as cloud-optimised GeoTIFF")
    report: bool = Field(True, description="write report.html")
    frames: int = Field(10, ge=0, le=60, description="clear pictures kept per site, spread over time; 0 = two at most")
    hash_imagery: bool = Field(True, description="write the SHA-256 of every local file of imagery into the manifest")


class Settings(_Group):
    """All settings; a TOML file holds the same groups, and an unknown key is an error."""

    search: SearchSettings = Field(default_factory=SearchSettings)  # type: ignore[arg-type]
    load: LoadSettings = Field(default_factory=LoadSettings)  # type: ignore[arg-type]
    detect: DetectSettings = Field(default_factory=DetectSettings)  # type: ignore[arg-type]
    score: ScoreSettings = Field(default_factory=ScoreSettings)  # type: ignore[arg-type]
    export: ExportSettings = Field(default_factory=ExportSettings)  # type: ignore[arg-type]


# --------------------------------------------------------------------------------------------------------- checks

CHANGE_VARIABLES: tuple[str, ...] = (
    "statistic",
    "p_value",
    "effect",
    "effect_se",
    "direction",
    "date",
    "date_earliest",
    "date_latest",
    "n_before",
    "n_after",
)
"""Variables of a change map, dims (y, x): the fields of PixelChange, with ``direction`` int8 -1, 0, +1 (0 also where
``p_value`` is NaN, that is, not tested) and the dates datetime64 (NaT = no date)."""


def check_stack(stack: xr.Dataset) -> None:
    """Refuse a stack that breaks the contract: dims (time, y, x), sorted days, float32 features, bool ``valid``.

    A stack has one float32 variable per feature (NaN = not valid), ``valid`` bool, and along ``time``: ``day`` (int64,
    days since 1970-01-01), ``scene_id``, ``look`` and ``version``; attrs ``grid_key`` and ``sensor``. A stack that was
    read from files also has ``shift_x_m`` and ``shift_y_m`` (float32, metres to the east and north that the day's
    pictures lie off those of the other days, NaN = not measured) and ``aligned`` (bool: as read, the day lies on them).

    Raises
    ------
    ContractError : with the variable and what is wrong with it.
    """
    for name in ("day", "scene_id", "look", "version", "valid"):
        if name not in stack:
            raise ContractError(f"a stack needs the variable '{name}'; it has {sorted(map(str, stack.variables))}")
    for name in ("grid_key", "sensor"):
        if name not in stack.attrs:
            raise ContractError(f"a stack needs the attribute '{name}'")
    for name, dtype in (("shift_x_m", np.float32), ("shift_y_m", np.float32), ("aligned", np.bool_)):
        if name in stack and (stack[name].dims != ("time",) or stack[name].dtype != dtype):
            raise ContractError(
                f"stack variable '{name}' must be {np.dtype(dtype)} along time, found {stack[name].dtype} along "
                f"{stack[name].dims}"
            )
    if np.any(np.diff(stack["day"].values) < 0):
        raise ContractError("a stack must be sorted by day")
    for key, variable in stack.data_vars.items():
        name = str(key)
        if variable.dims == ("time",):
            continue
        if variable.dims != ("time", "y", "x"):
            raise ContractError(f"stack variable '{name}' must have dims (time, y, x), found {variable.dims}")
        wanted = np.bool_ if name == "valid" else np.float32
        if variable.dtype != wanted:
            raise ContractError(f"stack variable '{name}' must be {np.dtype(wanted)}, found {variable.dtype}")
        chunks = variable.chunks
        if chunks is not None and len(chunks[0]) > 1:
            raise ContractError(f"stack variable '{name}' is cut along time; time must be one chunk")


def check_change_map(change_map: xr.Dataset) -> None:
    """Refuse a change map without the variables of CHANGE_VARIABLES on dims (y, x).

    Raises
    ------
    ContractError : with the variable and what is wrong with it.
    """
    for name in CHANGE_VARIABLES:
        if name not in change_map:
            raise ContractError(f"a change map needs the variable '{name}'")
        if change_map[name].dims != ("y", "x"):
            raise ContractError(f"change map variable '{name}' must have dims (y, x), found {change_map[name].dims}")
    p = change_map["p_value"].values
    if np.any((p < 0) | (p > 1)):
        raise ContractError("p-values of a change map must lie between 0 and 1")
    if np.any((change_map["direction"].values != 0) & np.isnan(p)):
        raise ContractError("a pixel that was not tested cannot have a direction")


def check_series(series: pd.DataFrame) -> None:
    """Refuse a table of site series without the columns of SERIES_COLUMNS.

    Raises
    ------
    ContractError : with the columns that are missing.
    """
    missing = [c for c in SERIES_COLUMNS if c not in series.columns]
    if missing:
        raise ContractError(f"a table of site series needs the columns {missing}")


def stated_number(asset: Mapping[str, Any], name: str) -> float | None:
    """The number that an asset of a STAC item gives its band under ``name``, None where it gives none.

    In STAC 1.0 that stands in ``raster:bands``, in 1.1 in ``bands`` or the asset itself, where the name may begin with
    ``raster:``.
    """
    places = (asset, *(asset.get("raster:bands") or ()), *(asset.get("bands") or ()))
    found = (p[key] for p in places if isinstance(p, Mapping) for key in (name, f"raster:{name}") if key in p)
    number = next(found, None)
    return None if number is None else float(number)


def by_name(items: Sequence[Any]) -> dict[str, Any]:
    """Items with a ``name``, keyed by it.

    Raises
    ------
    ContractError : two items have the same name.
    """
    named = {item.name: item for item in items}
    if len(named) != len(items):
        raise ContractError(f"a name is taken twice among {[item.name for item in items]}")
    return named


# ------------------------------------------------------------------------------------------- text in files of users

SAFE_ID = r"[A-Za-z0-9](?:[A-Za-z0-9._~-]{0,98}[A-Za-z0-9_~-])?"
"""Pattern of an id that is also a safe file name: 1-100 letters a-z, digits, dot, underscore, hyphen or tilde."""


def shown(value: object, length: int = 60) -> str:
    """A value of a user's file as it may stand in a message: one line, nothing unprintable, not too long."""
    text = repr(value) if isinstance(value, str | int | float | bool | None) else type(value).__name__
    return text if len(text) <= length else f"{text[: length - 4]}...{text[-1]}"


def nearest(word: str, known: Iterable[str]) -> str | None:
    """The known word that a mistyped word most resembles, None if it resembles none."""
    found = difflib.get_close_matches(word.lower(), list(known), n=1, cutoff=0.6)
    return found[0] if found else None


def parse_day(text: str) -> dt.date | None:
    """A calendar day from ``YYYY-MM-DD`` exactly, None for any other text or a day that does not exist."""
    if not re.fullmatch(r"[0-9]{4}-[0-9]{2}-[0-9]{2}", text):
        return None
    try:
        return dt.date.fromisoformat(text)
    except ValueError:
        return None
