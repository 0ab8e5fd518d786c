"""What looking costs: tracing beside a plain forward pass, and recorded decoding beside plain.

All variants of a comparison take turns in one run; the best of the rounds counts, because other
work on the machine only ever adds time.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from pathlib import Path

import torch

import workbench as wb
from workbench.demo import __file__ as demo_file
from workbench.pangu import Pangu


def best_of(rounds: int, variants: dict[str, Callable[[], object]]) -> dict[str, float]:
    """Seconds of the fastest round of each variant, after one round to warm up."""
    best = dict.fromkeys(variants, float("inf"))
    for turn in range(rounds + 1):
        for name, call in variants.items():
            started = time.perf_counter()
            call()
            if turn:
                best[name] = min(best[name], time.perf_counter() - started)
    return best


def long_text(pangu: Pangu, tokens: int) -> list[int]:
    """So many tokens of real text: this package's own source."""
    source = Path(demo_file).with_name("train.py").read_text(encoding="utf-8")
    return pangu.encode(source)[:tokens]


def reading(pangu: Pangu, tokens: int, rounds: int) -> None:
    """A prompt read plainly, traced, and with eager attention maps."""
    ids = long_text(pangu, tokens)
    batch = torch.tensor([ids])
    model = pangu.model

    def plain() -> None:
        with pangu.computing():  # on as many threads
            model(batch, use_cache=False)

    def eager() -> None:
        model.set_attn_implementation("eager")
        try:
            with pangu.computing():
                model(batch, use_cache=False, output_attentions=True)
        finally:
            model.set_attn_implementation("sdpa")

    seconds = best_of(
        rounds,
        {
            "plain forward pass": plain,
            "trace: routing, queries and keys of all layers": lambda: pangu.trace(ids),
            "output_attentions=True in eager mode": eager,
        },
    )
    print(f"\n{pangu.name}, {pangu.bits} bit, reading {len(ids)} tokens, best of {rounds}")
    for name, value in seconds.items():
        ratio = value / seconds["plain forward pass"]
        print(f"  {name:<50} {1000 * value:8.1f} ms  {ratio:5.2f} x")


def decoding(pangu: Pangu, tokens: int, rounds: int) -> None:
    """Greedy tokens a second: transformers' generate, ours, and ours recorded."""
    ids = long_text(pangu, 32)
    batch = torch.tensor([ids])
    greedy = wb.Sampling(temperature=0)
    produced: dict[str, int] = {}

    def note(name: str, count: int) -> None:
        produced[name] = count

    def transformers_generate() -> None:
        with pangu.computing():
            output = pangu.model.generate(
                batch,
                max_new_tokens=tokens,
                do_sample=False,
                attention_mask=torch.ones_like(batch),
                eos_token_id=pangu.tokenizer.eos_token_id,
            )
        note("transformers' generate", output.shape[1] - len(ids))

    seconds = best_of(
        rounds,
        {
            "transformers' generate": transformers_generate,
            "pangu.generate": lambda: note(
                "pangu.generate", len(pangu.generate(ids, tokens, greedy).steps)
            ),
            "pangu.trace, recording everything": lambda: note(
                "pangu.trace, recording everything",
                pangu.trace(ids, max_new_tokens=tokens).num_tokens - len(ids),
            ),
        },
    )
    print(f"\n{pangu.name}, {pangu.bits} bit, decoding, best of {rounds}")
    base = produced["transformers' generate"] / seconds["transformers' generate"]
    for name, value in seconds.items():
        rate = produced[name] / value
        print(f"  {name:<50} {rate:8.1f} tokens a second  {rate / base:5.2f} x")


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--checkpoint", default="demo")
    parser.add_argument("--bits", type=int, nargs="+", default=[4, 16])
    parser.add_argument("--tokens", type=int, default=512, help="length of the prompt")
    parser.add_argument("--rounds", type=int, default=10)
    options = parser.parse_args()
    for bits in options.bits:
        pangu = wb.load(options.checkpoint, bits=bits)
        reading(pangu, options.tokens, options.rounds)
        decoding(pangu, 32, options.rounds)


if __name__ == "__main__":
    main()
