"""What holds the house together: imports, versions, clean notebooks."""

import ast
import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
HEAVY = {"torch", "transformers", "bitsandbytes", "accelerate"}
# The import table of the README: which parts may import the heavy packages when imported.
LIGHT = [
    "errors.py",
    "arguments.py",
    "trace.py",
    "trace_file.py",
    "corpus.py",
    "serving.py",
    "sampling.py",
    "steps.py",
    "recipe.py",
    "fingerprint.py",
    "branches.py",
    "stop_strings.py",
    "probes.py",
    "cli.py",
    "checkpoint.py",
    "ascend.py",
    "hub.py",
    "shards.py",
    "__init__.py",
    "__main__.py",
]


def top_level_imports(file: Path) -> set[str]:
    """Packages that importing a file imports; what stands in a function or a type check is left out."""
    found = set()
    for node in ast.parse(file.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found.add(node.module.split(".")[0])
    return found


def light_files() -> list[Path]:
    package = ROOT / "workbench"
    return [
        *(package / name for name in LIGHT),
        *sorted((package / "analysis").glob("*.py")),
        *sorted((package / "views").glob("*.py")),
    ]


@pytest.mark.parametrize("file", light_files(), ids=lambda file: str(file.relative_to(ROOT)))
def test_the_reading_wing_imports_no_torch(file):
    assert not top_level_imports(file) & HEAVY


def test_a_trace_is_read_without_torch():
    code = (
        "import sys, workbench, workbench.traces.trace, workbench.traces.corpus, workbench.analysis, workbench.views\n"
        "print(sorted(name for name in ('torch', 'transformers') if name in sys.modules))"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert result.stdout.strip() == "[]"


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
