"""Four kinds of text that come with the demo, none of which it was trained on.

English (Shakespeare and Milton) and Chinese (poems of the Tang) are held-out documents of
`workbench/demo/corpus.py`, shipped in `texts.json`; Python is the held-out part of the running
Python's standard library; arithmetic is made from a seed.
"""

from __future__ import annotations

import json
from pathlib import Path

from workbench.demo import corpus

SHIPPED = Path(__file__).with_name("texts.json")


def texts(documents: int = 8, characters: int = 1000) -> dict[str, list[str]]:
    """Domain → texts: at most so many documents (8 are shipped), each cut to so many characters.

    The domains are the four of the figures in arXiv 2505.21411, as far as a small model has them:
    Chinese, English, arithmetic and Python.
    """
    found = json.loads(SHIPPED.read_text(encoding="utf-8"))
    for domain in ("arithmetic", "python"):
        found[domain] = corpus.documents(domain, Path(), held_out=True)
    return {
        domain: [text[:characters] for text in parts[:documents]] for domain, parts in found.items()
    }
