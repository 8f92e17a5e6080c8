"""The numbers behind every probability, read from ``parameters.toml`` beside this file."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import files
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from compoundwatch.errors import SettingsError
from compoundwatch.model import State


class Model(BaseModel):
    """How much measurements may say; each is explained in ``parameters.toml``."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    temper: float = Field(gt=0, le=1)
    energy_temper: float = Field(gt=0, le=1)
    few_dates: float = Field(ge=0)
    unaccompanied: float = Field(ge=0, lt=1)
    date_temper: float = Field(gt=0, le=1)
    measurement_cap: float = Field(gt=0)
    sensor_cap: float = Field(gt=0)
    alone: float = Field(gt=0)
    support: float = Field(ge=0)
    artefact_share: float = Field(ge=0, lt=1)
    outage_share: float = Field(ge=0, lt=1)
    unchanged: float = Field(gt=0.5, lt=1)
    unexplained: float = Field(gt=0, lt=1)
    whole_share: float = Field(gt=0, le=1)


class Expected(BaseModel):
    """What a state does to one measurement: mean and spread of its size (white noise of the site), chance to show.

    The sign of ``mean`` is the only one allowed.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    mean: float
    spread: float = Field(gt=0)
    shows: float = Field(gt=0, le=1)


@dataclass(frozen=True)
class Class:
    """What speaks for one state: its way of changing, and measurements by name (kind of sensor, dot, feature).

    ``signs`` change all in the same way at the same date; those ``later`` follow at any later date. ``structural``
    changes need more than one measurement.
    """

    shape: str
    structural: bool
    signs: Mapping[str, Expected]
    later: Mapping[str, Expected]


@dataclass(frozen=True)
class Parameters:
    """Everything in ``parameters.toml``: ``prior`` sums to 1; ``classes`` holds every state but UNCHANGED."""

    model: Model
    prior: Mapping[State, float]
    classes: Mapping[State, Class]


@lru_cache(maxsize=4)
def parameters(path: Path | None = None) -> Parameters:
    """Read the parameters that come with the package, or those of another file of the same form.

    Raises
    ------
    SettingsError : the file is not of that form; the message says where.
    """
    place = path or files("compoundwatch.score") / "parameters.toml"
    try:
        return from_table(tomllib.loads(place.read_text(encoding="utf-8")))
    except (OSError, tomllib.TOMLDecodeError, ValidationError, KeyError, ValueError, TypeError) as error:
        text = str(error).splitlines()[0]
        raise SettingsError(f"parameters {place}: expected the form of parameters.toml, found: {text}") from error


def from_table(table: Mapping[str, Any]) -> Parameters:
    """Parameters from the tables of the file."""
    prior = {State(name): float(value) for name, value in table["prior"].items()}
    if abs(sum(prior.values()) - 1) > 1e-6:
        raise ValueError(f"priors that sum to {sum(prior.values())} instead of 1")
    classes: dict[State, Class] = {}
    for state in prior:
        if state is State.UNCHANGED:
            continue
        rows = dict(table[str(state)])
        shape, structural = str(rows.pop("shape")), bool(rows.pop("structural", False))
        later = {k: Expected.model_validate(v) for k, v in rows.pop("later", {}).items()}
        classes[state] = Class(shape, structural, {k: Expected.model_validate(v) for k, v in rows.items()}, later)
    return Parameters(Model.model_validate(table["model"]), prior, classes)
