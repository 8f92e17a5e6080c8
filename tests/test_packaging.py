"""What is said twice about the package is said alike: versions, what it needs, and the oldest that will do."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import compoundwatch

ROOT = Path(__file__).resolve().parents[1]
NEEDS = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["dependencies"]


def test_the_version_is_one() -> None:
    for name, pattern in (("CITATION.cff", r"^version: (.+)$"), ("conda/recipe.yaml", r'^  version: "(.+)"$')):
        found = re.search(pattern, (ROOT / name).read_text(encoding="utf-8"), re.MULTILINE)
        assert found, name
        assert found[1] == compoundwatch.__version__, name


def test_conda_asks_for_what_pip_asks_for() -> None:
    recipe = (ROOT / "conda" / "recipe.yaml").read_text(encoding="utf-8")
    listed = re.findall(r"^    - (\S+) (\S+)$", recipe.partition("  run:\n")[2].partition("\ntests:")[0], re.MULTILINE)
    asked = {name.removesuffix("-base") + limits for name, limits in listed if name != "python"}
    assert asked == set(NEEDS)


def test_the_oldest_environment_has_the_lower_limits() -> None:
    lines = (ROOT / "constraints" / "minimum.txt").read_text(encoding="utf-8").splitlines()
    wanted = [re.sub(r"^([\w-]+)>=(\d+\.\d+).*", r"\1==\2.*", need) for need in NEEDS]
    assert [line for line in lines if not line.startswith("#")] == wanted


def test_the_package_says_that_it_is_typed() -> None:
    assert (Path(compoundwatch.__file__).parent / "py.typed").is_file()
