"""The wings of the house: who may import whom, without circles, and where torch is kept out.

CONTRIBUTING.md prints the table that is checked here.
"""

import ast
import re
import subprocess
import sys
from dataclasses import dataclass
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "workbench"
FILES = sorted(PACKAGE.rglob("*.py"))
HEAVY = {"torch", "transformers", "bitsandbytes", "accelerate"}
LEAVES = {"errors", "arguments", "conversation", "locks", "wording"}
MOST_LINES = 400
ROW = re.compile(
    r"\| `workbench/(?P<wing>[\w.]+?)/?` \|[^|]*\|(?P<may>[^|]*)\| (?P<torch>yes|no)(?P<but>[^|]*)\|"
)


@dataclass(frozen=True)
class Wing:
    """A row of the table."""

    may_import: frozenset[str]
    has_torch: bool
    others: frozenset[str]  # files of the wing of which the contrary is true

    def is_light(self, file: str) -> bool:
        """Whether importing this file of the wing may not import torch."""
        return self.has_torch == (file in self.others)


@cache
def table() -> dict[str, Wing]:
    """Rows by the name of the wing, or of the file that stands at the top."""
    rows = ROW.finditer((ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8"))
    return {
        row["wing"].removesuffix(".py"): Wing(
            frozenset().union(
                *(
                    LEAVES if name == "leaves" else {name}
                    for name in re.findall(r"`(\w+)`", row["may"])
                )
            ),
            row["torch"] == "yes",
            frozenset(re.findall(r"`(\w+)`", row["but"])),
        )
        for row in rows
    }


def module_of(file: Path) -> str:
    return ".".join(file.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def wing_of(module: str) -> str:
    """The folder right below workbench, or the file that stands there."""
    return [*module.split("."), "__init__"][1]


MODULES = {module_of(file): file for file in FILES}


def imported(file: Path, nodes=ast.walk) -> set[str]:
    """Modules that a file imports; with `ast.walk` also in functions and for types alone."""
    found = set()
    for node in nodes(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}: import from the full name"
            for alias in node.names:
                part = f"{node.module}.{alias.name}"
                found.add(part if part in MODULES else node.module)
    return found


@cache
def graph() -> dict[str, set[str]]:
    """Module → modules of ours that it imports, be it in a function or for types alone."""
    return {module: imported(file) & MODULES.keys() for module, file in MODULES.items()}


def test_every_folder_and_file_at_the_top_is_in_the_table():
    entrances = {"__init__", "__main__"}  # they only open the doors of the others
    assert {wing_of(module) for module in MODULES} - entrances == table().keys()


@pytest.mark.parametrize("module", [name for name in MODULES if wing_of(name) in table()])
def test_a_wing_imports_only_what_the_table_allows(module):
    wing = wing_of(module)
    allowed = table()[wing].may_import | {wing, "__init__"}
    assert sorted({wing_of(other) for other in graph()[module]} - allowed) == []


def test_no_module_imports_itself_through_others():
    own = {module: {"workbench", module.rpartition(".")[0]} for module in MODULES}  # pages of names
    edges = {module: others - own[module] for module, others in graph().items()}
    try:
        TopologicalSorter(edges).prepare()
    except CycleError as error:
        raise AssertionError(" → ".join(error.args[1])) from None


def test_no_wing_imports_itself_through_others():
    edges = {name: wing.may_import - {name} for name, wing in table().items()}
    TopologicalSorter(edges).prepare()


def light() -> list[str]:
    return [
        module
        for module in MODULES
        if wing_of(module) in table()
        and table()[wing_of(module)].is_light(module.rpartition(".")[2])
    ]


def test_what_reads_needs_no_torch():
    lines = [f"import {module}" for module in light()]
    code = "\n".join([*lines, "import sys", f"print(sorted({HEAVY!r} & sys.modules.keys()))"])
    result = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert result.stdout.strip() == "[]"


@pytest.mark.parametrize("module", light())
def test_no_light_file_imports_torch_at_its_top(module):
    tops = {
        name.split(".")[0]
        for name in imported(MODULES[module], lambda tree: ast.iter_child_nodes(tree))
    }
    assert not tops & HEAVY


@pytest.mark.parametrize("wing", sorted(file.parent.name for file in PACKAGE.glob("*/__init__.py")))
def test_every_wing_says_what_lives_in_it(wing):
    told = ast.get_docstring(ast.parse((PACKAGE / wing / "__init__.py").read_text("utf-8")))
    assert told
    for file in re.findall(r"`(\w+\.py)`", told):
        assert list((PACKAGE / wing).rglob(file)), file


@pytest.mark.parametrize(
    "file",
    [*FILES, *sorted((ROOT / "tests").rglob("*.py")), *sorted(PACKAGE.rglob("*.js"))],
    ids=lambda file: str(file.relative_to(ROOT)),
)
def test_a_file_fits_in_a_head(file):
    lines = file.read_text(encoding="utf-8").count("\n")
    assert lines <= MOST_LINES
