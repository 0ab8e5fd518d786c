"""How the scripts of views are put together from their modules."""

import re
import shutil
import subprocess
import tomllib
from collections import Counter
from pathlib import Path

import pytest

from workbench.views.shared.scripts import IMPORT, VIEWS, assembled, script

FOLDERS = sorted(file.parent.name for file in VIEWS.glob("*/view.js"))
TOP_LEVEL = re.compile(r"^(?:async )?(?:const|let|function|class) (\w+)", re.MULTILINE)


def test_a_module_comes_once_and_before_those_that_import_it(tmp_path, monkeypatch):
    files = {
        "one/view.js": 'import { b } from "./b.js";\nimport { c } from "../shared/c.js";\n\nexport default { b, c };\n',
        "one/b.js": 'import { c } from "../shared/c.js";\nexport const b = c + 1;\n',
        "shared/c.js": "const hidden = 1;\nexport function c() {}\n",
    }
    for name, code in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(code, encoding="utf-8")
    monkeypatch.setattr("workbench.views.shared.scripts.VIEWS", tmp_path)
    assert assembled("one/view.js").split() == (
        "const hidden = 1; function c() {} const b = c + 1; export default { b, c };".split()
    )


@pytest.mark.parametrize("folder", FOLDERS)
def test_no_two_modules_of_a_view_use_one_name(folder):
    names = Counter(TOP_LEVEL.findall(script(folder)))
    assert len(names) > 10
    assert [name for name, count in names.items() if count > 1] == []


@pytest.mark.parametrize("folder", FOLDERS)
def test_a_script_in_one_piece_is_a_module_without_imports(folder, tmp_path):
    code = script(folder)
    assert not re.search(r"^(?:import|export (?!default))\b", code, re.MULTILINE)
    assert code.count("\nexport default {") == 1
    if node := shutil.which("node"):
        file = tmp_path / "view.mjs"
        file.write_text(code, encoding="utf-8")
        checked = subprocess.run([node, "--check", file], capture_output=True, text=True)
        assert checked.returncode == 0, checked.stderr


def used_by(files: list[Path]) -> set[Path]:
    """These modules, and all that they import."""
    found = set()
    while files:
        file = files.pop()
        if file not in found:
            found.add(file)
            code = file.read_text(encoding="utf-8")
            files += [(file.parent / part).resolve() for part in IMPORT.findall(code)]
    return found


def test_every_module_and_style_is_used():
    pages = [VIEWS / "shared" / name for name in ("page.js", "linked_page.js")]
    modules = used_by([*VIEWS.glob("*/view.js"), *pages])
    assert modules == set(VIEWS.rglob("*.js"))
    styles = {"shared/shared.css", "shared/linked_page.css", *(f"{name}/view.css" for name in FOLDERS)}  # fmt: skip
    assert {str(file.relative_to(VIEWS)) for file in VIEWS.rglob("*.css")} == styles


def test_every_module_and_style_is_in_the_package():
    project = tomllib.loads((VIEWS.parents[1] / "pyproject.toml").read_text(encoding="utf-8"))
    patterns = project["tool"]["setuptools"]["package-data"]["workbench"]
    packaged = {file for pattern in patterns for file in VIEWS.parent.glob(pattern)}
    assert packaged >= {*VIEWS.rglob("*.js"), *VIEWS.rglob("*.css")}
