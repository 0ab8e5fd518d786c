"""The scripts of views and pages: modules and styles in files of their own, put together as they are needed."""

from __future__ import annotations

import json
import re
from pathlib import Path

VIEWS = Path(__file__).parents[1]
IMPORT = re.compile(r'^import \{[^}]*\} from "(\.[^"]+)";\n', re.MULTILINE)
EXPORT = re.compile(r"^export (?!default)", re.MULTILINE)


def script(folder: str) -> str:
    """The script of a view as the one module that a widget is.

    It is `view.js` of the folder after all that it imports; the styles, `shared.css` and `view.css` of
    the folder, are its constant `STYLES`.
    """
    styles = read("shared/shared.css") + read(f"{folder}/view.css")
    return f"const STYLES = {json.dumps(styles)};\n{assembled(f'{folder}/view.js')}"


def assembled(file: str) -> str:
    """A module in one piece: after all modules that it imports, each once, without `import` and `export`.

    `export default` stays.
    """
    parts: dict[Path, str] = {}

    def add(path: Path) -> None:
        code = path.read_text(encoding="utf-8")
        for imported in IMPORT.findall(code):
            part = (path.parent / imported).resolve()
            if part not in parts:
                add(part)
        parts[path] = EXPORT.sub("", IMPORT.sub("", code))

    add(VIEWS / file)
    return "\n".join(parts.values())


def read(file: str) -> str:
    """A file in the folder of the views."""
    return (VIEWS / file).read_text(encoding="utf-8")
