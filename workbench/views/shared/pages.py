"""A page of several widgets that share their selection, without kernel or network."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence

from workbench.views.shared.widget import STAND_IN, Static, for_script

STYLE = """
:root { color-scheme: light dark; }
body { margin: 12px auto; max-width: 1180px; padding: 0 10px; font: 13px/1.45 system-ui, sans-serif; color: light-dark(#1f1f1f, #e4e4e4); background: light-dark(#fff, #15171a); }
nav { display: flex; gap: 6px; flex-wrap: wrap; align-items: center; position: sticky; top: 0; z-index: 9; padding: 6px 0; background: inherit; border-bottom: 1px solid light-dark(#d5d5d5, #3b3f45); }
nav button { font: inherit; color: inherit; background: none; border: 1px solid light-dark(#b5b5b5, #555b63); border-radius: 4px; padding: 2px 12px; cursor: pointer; }
nav button[aria-pressed=true] { border-color: light-dark(#1565c0, #64b5f6); box-shadow: inset 0 -2px light-dark(#1565c0, #64b5f6); font-weight: 600; }
header p { margin: 2px 0; }
main > section { margin: 10px 0 22px; }
"""
PAGE = (
    """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>{title}</title><style>{style}</style></head>
<body><header></header><nav aria-label="panels"></nav><main></main>
<script type="module">
const widgets = [{widgets}];
"""
    + STAND_IN
    + """
const parts = [{parts}];
const sharing = {sharing};
for (const note of {notes}) document.querySelector("header").append(Object.assign(document.createElement("p"), {{ textContent: note }}));
const nav = document.querySelector("nav"), main = document.querySelector("main");
for (const part of parts) {{
  part.section = document.createElement("section");
  part.section.setAttribute("aria-label", part.title);
  const button = document.createElement("button");
  button.textContent = part.title;
  button.setAttribute("aria-pressed", "true");
  button.addEventListener("click", () => {{
    part.section.hidden = !part.section.hidden;
    button.setAttribute("aria-pressed", String(!part.section.hidden));
  }});
  nav.append(button);
  main.append(part.section);
}}
for (const [name, ends] of Object.entries(sharing))
  parts.forEach(({{ model }}, from) => ends[from] && model.on("change:" + name, () => {{
    const value = model.get(name);
    parts.forEach((other, to) => {{ if (to !== from && ends[to]?.includes(value)) other.model.set(name, value); }});
  }}));
for (const part of parts) widgets[part.widget].render({{ model: part.model, el: part.section }});
</script></body></html>
"""
)


def linked_page(
    titles: Sequence[str],
    parts: Sequence[Static],
    sharing: Mapping[str, Sequence[list[int] | None]],
    notes: Sequence[str] = (),
) -> str:
    """A page of all parts under each other, each with a button that hides it.

    Parameters
    ----------
    titles
        One per part.
    sharing
        Trait → for each part the values that it can take, None if it has no such trait.
    notes
        Lines of text above the parts.
    """
    scripts = list(dict.fromkeys(part.script for part in parts))
    described = [
        f"{{title: {for_script(title)}, widget: {scripts.index(part.script)}, "
        f"...standIn({part.values}, {part.answers})}}"
        for title, part in zip(titles, parts, strict=True)
    ]
    return PAGE.format(
        title=html.escape(" · ".join(titles)),
        style=STYLE,
        widgets=",\n".join(
            f"(() => {{\n{script.replace('export default', 'return')}\n}})()" for script in scripts
        ),
        parts=",\n".join(described),
        sharing=for_script(sharing),
        notes=for_script(list(notes)),
    )
