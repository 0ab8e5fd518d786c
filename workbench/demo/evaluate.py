"""Measure the demo checkpoints on held-out text and write their model cards.

`python -m workbench.demo.evaluate --work FOLDER`, with the folder that `workbench.demo.train` used.
"""

from __future__ import annotations

import argparse
import lzma
import math
import random
from pathlib import Path

import numpy as np
import pandas as pd
from tqdm.auto import tqdm

from workbench.analysis import domain_divergence, expert_load
from workbench.demo import corpus
from workbench.demo.recipes import BATCH, CHECKPOINTS, CONTEXT, RECIPES
from workbench.generation.sampling import Sampling
from workbench.pangu import Pangu, load
from workbench.traces.trace import Trace

CARD = """# {name}

{what}

* **Made by** `workbench.demo.train`, from scratch, with seed {seed}: {steps} steps of {step_tokens}
  tokens ({tokens:.1f} M tokens), in bf16 on a CPU. The file is {size:.1f} MB.
* **Text**: see the table in `workbench/demo/corpus.py` for packages and licences: English verse and
  drama (public domain), Python's standard library (PSF-2.0), the French Debian handbook
  (CC-BY-SA-3.0 or GPL-2+), Chinese poems of the Tang (MIT; public domain), and sums made from a
  seed. None of Huawei's weights or text is in it.
* **Licence** of the weights: Apache-2.0 for what is ours to license; the sources' licences above
  hold for the text.

## Held-out text

Bits per byte of UTF-8 on documents that were not trained on, read in windows of {context} tokens;
`xz` is `xz -9` on the same text.

{table}

{routing}
## Sums in the chat format

Greedy answers to {sums} questions drawn with another seed than the training's; with two-digit
numbers, so most of the 8,100 pairs were seen in training: {right_slow} right with thinking,
{right_fast} right after `/no_think`.

## Limits

A toy of its size: it has learned what its five kinds of text look like and little else, and it repeats
itself. Sequences longer than {context} tokens were not trained on. It exists to be inspected.
"""
WHAT = {
    "demo": "A small Pangu Pro MoE model in the released layout: 4 layers, 64 experts in 8 groups of "
    "which each token uses one a group, and a shared expert; 12.8 M parameters.",
    "demo-dense": "A small dense model in the layout of openPangu-Embedded 7B: 6 layers, "
    "6.9 M parameters.",
}


def windows(pangu: Pangu, text: str) -> list[list[int]]:
    """A document as sequences of at most CONTEXT tokens, each with its own BOS."""
    ids = pangu.tokenizer.encode(text, add_bos=False)
    size = CONTEXT - 1
    return [
        [pangu.tokenizer.bos_token_id, *ids[start : start + size]]
        for start in range(0, len(ids), size)
    ]


def read(pangu: Pangu, texts: list[str]) -> tuple[float, list[Trace]]:
    """Bits per byte of the texts, and the traces of their windows."""
    traces = [
        pangu.trace(window, attention=None, top_k=1)
        for text in tqdm(texts, desc=f"reading in {pangu.bits} bit")
        for window in windows(pangu, text)
    ]
    nats = -sum(float(np.nansum(trace.chosen_logprobs)) for trace in traces)
    return nats / math.log(2) / sum(len(text.encode()) for text in texts), traces


def right_sums(pangu: Pangu, thinking: str, count: int) -> int:
    """How many of `count` sums are answered rightly."""
    chance, right = random.Random("held out"), 0
    for _ in range(count):
        question, _, answer, _ = corpus.sum_in_chat(chance)
        messages = [{"role": "user", "content": question}]
        said = pangu.generate(messages, 80, Sampling(temperature=0), thinking=thinking)
        right += said.answer == answer
    return right


def card(name: str, cache: Path) -> str:
    """Measure one checkpoint and return its model card."""
    frame, traces, labels = pd.DataFrame(), [], []
    loaded = {bits: load(CHECKPOINTS / name, bits=bits, device="cpu") for bits in (16, 8, 4)}
    for domain in corpus.DOMAINS:
        texts = corpus.documents(domain, cache, held_out=True)
        content = "\n".join(texts).encode()
        row = {"text": domain, "bytes": f"{sum(len(text.encode()) for text in texts):,}"}
        for bits, pangu in loaded.items():
            value, found = read(pangu, texts)
            row[f"{bits} bit"] = f"{value:.3f}"
            if bits == 16:
                traces += found
                labels += [domain] * len(found)
        row["xz"] = f"{len(lzma.compress(content, preset=9)) * 8 / len(content):.3f}"
        frame = pd.concat([frame, pd.DataFrame([row])], ignore_index=True)
    recipe, sums = RECIPES[name], 100
    return CARD.format(
        name=name,
        what=WHAT[name],
        seed=recipe.seed,
        steps=f"{recipe.steps:,}",
        step_tokens=f"{BATCH * CONTEXT:,}",
        tokens=recipe.steps * BATCH * CONTEXT / 1e6,
        size=(CHECKPOINTS / name / "model.safetensors").stat().st_size / 1e6,
        context=CONTEXT,
        table=_markdown(frame),
        routing=_routing(traces, labels) if traces[0].is_moe else "",
        sums=sums,
        right_slow=right_sums(loaded[16], "slow", sums),
        right_fast=right_sums(loaded[16], "fast", sums),
    )


def _routing(traces: list[Trace], labels: list[str]) -> str:
    divergence = domain_divergence(traces, labels)
    loads = pd.concat([expert_load(trace) for trace in traces])
    share = loads.groupby(["layer", "expert"])["count"].sum().groupby("layer")
    divergence["least_load_ratio"] = share.apply(lambda n: n.min() / n.mean()).to_numpy()
    divergence["largest_load_ratio"] = share.apply(lambda n: n.max() / n.mean()).to_numpy()
    return (
        "## Routing on that text\n\nJensen-Shannon divergence between the five kinds, in bits, and "
        "with labels shuffled over windows; the least and the most used expert, 1 being uniform. "
        "No expert is dead where the least load ratio is above 0.\n\n"
        + _markdown(divergence.round(4).astype(str))
        + "\n\n"
    )


def _markdown(frame: pd.DataFrame) -> str:
    rows = [list(frame.columns), ["---"] * len(frame.columns), *frame.to_numpy().tolist()]
    return "\n".join("| " + " | ".join(map(str, row)) + " |" for row in rows)


def main() -> None:
    """Command line: the folder that training used."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--work", type=Path, required=True, help="folder with the downloads")
    arguments = parser.parse_args()
    for name in RECIPES:
        text = card(name, arguments.work / "cache")
        (CHECKPOINTS / name / "README.md").write_text(text, encoding="utf-8")
        print(text)


if __name__ == "__main__":
    main()
