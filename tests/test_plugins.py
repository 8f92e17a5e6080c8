"""Plug-ins are found in our folders and in other packages; a name taken twice is an error."""

from __future__ import annotations

import importlib
import sys

import pytest

from compoundwatch import plugins
from compoundwatch.errors import SettingsError


@pytest.fixture
def package(tmp_path, monkeypatch):
    folder = tmp_path / "made_for_this_test"
    folder.mkdir()
    (folder / "__init__.py").write_text("")
    (folder / "_hidden.py").write_text("raise RuntimeError('must not be imported')")
    for name in ("beta", "alpha"):
        (folder / f"{name}.py").write_text(f"class C:\n    name = '{name}'\nTHING = C()\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    yield importlib.import_module("made_for_this_test")
    for name in [m for m in sys.modules if m.startswith("made_for_this_test")]:
        del sys.modules[name]


class Entry:
    def __init__(self, name):
        self.name = name

    def load(self):
        return type("Loaded", (), {"name": self.name})()


def test_folder(package):
    assert list(plugins.find(package, "THING", "no.such.group")) == ["alpha", "beta"]


def test_other_packages(package, monkeypatch):
    monkeypatch.setattr(plugins, "entry_points", lambda group: [Entry("gamma")])
    assert list(plugins.find(package, "THING", "g")) == ["alpha", "beta", "gamma"]
    monkeypatch.setattr(plugins, "entry_points", lambda group: [Entry("beta")])
    with pytest.raises(SettingsError, match="the same name"):
        plugins.find(package, "THING", "g")
