"""Modules without numbers: on the meta device, and without the time that drawing numbers takes."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from transformers.initialization import no_init_weights


@contextmanager
def empty_modules() -> Iterator[None]:
    """Modules made inside hold shapes only. (The 72B has 38,000 weights; torch would draw each.)"""
    with torch.device("meta"), no_init_weights():
        yield
