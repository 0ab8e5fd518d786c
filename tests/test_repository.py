"""What holds the house together: versions, clean notebooks, no machine's names."""

import json
import re
import subprocess
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def pins(lines: list[str], separator: str) -> dict[str, str]:
    found = {}
    for line in lines:
        match = re.fullmatch(rf"\s*-?\s*([\w-]+){separator}([\w.]+)", line)
        if match:
            found[match[1]] = match[2]
    return found


def test_constraints_and_environment_hold_the_same_versions():
    constraints = pins((ROOT / "constraints.txt").read_text().splitlines(), "==")
    lines = (ROOT / "environment.yml").read_text().splitlines()
    environment = pins(lines, "=") | pins(lines, "==")
    environment["torch"] = environment.pop("pytorch")
    environment.pop("python")
    assert environment == constraints


def test_every_dependency_is_pinned():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    constraints = pins((ROOT / "constraints.txt").read_text().splitlines(), "==")
    wanted = [*project["dependencies"], *project["optional-dependencies"]["test"]]
    for requirement in wanted:
        name, least = re.fullmatch(r"([\w-]+)>=([\d.]+)", requirement).groups()
        pinned = [int(part) for part in constraints[name].split(".")]
        assert pinned >= [int(part) for part in least.split(".")], requirement
    assert constraints["torch"] == "2.13.0"


@pytest.mark.parametrize("file", sorted((ROOT / "notebooks").glob("*.ipynb")), ids=lambda f: f.stem)
def test_notebooks_are_committed_without_outputs_but_for_lines_that_are_compared(file):
    for cell in json.loads(file.read_text(encoding="utf-8"))["cells"]:
        if cell["cell_type"] != "code":
            continue
        compared = "nbval-check-output" in cell["metadata"].get("tags", [])
        assert bool(cell["outputs"]) == compared
        assert (cell["execution_count"] is not None) == compared  # nbval compares only what ran
        for output in cell["outputs"]:
            assert output["output_type"] == "stream"


def test_no_file_names_a_machine():
    listed = subprocess.run(
        ["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False
    ).stdout.split()
    if not listed:
        pytest.skip("not a git checkout")
    places = re.compile(
        r"/(?:wor" r"k|ho" r"me|ro" r"ot|op" r"t)/|pypi\.or" r"g|registry\.np" r"mjs"
    )
    for name in listed:
        if not name.endswith((".safetensors", ".model", ".png")):
            assert not places.search((ROOT / name).read_text(encoding="utf-8")), name
