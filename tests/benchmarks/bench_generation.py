"""What the playground costs: stopping, branching, and tokens a second beside transformers.

All variants of a comparison take turns in one run; the best of the rounds counts, because other
work on the machine only ever adds time.
"""

from __future__ import annotations

import argparse
import json
import statistics
import threading
import time
from collections.abc import Callable

import torch
from bench_tracing import best_of, long_text

import workbench as wb
from workbench.generation import stream as generation
from workbench.generation.stream import Stream
from workbench.pangu import Pangu


def endless(call: Callable[[], object]) -> None:
    """Run with a model that never ends its turn, so that all variants give as many tokens."""
    ends, generation.end_ids = generation.end_ids, lambda _pangu: set()
    try:
        call()
    finally:
        generation.end_ids = ends


def speed(pangu: Pangu, prompt: int, tokens: int, rounds: int) -> None:
    """Tokens a second: transformers' generate alone, and what the playground does."""
    ids = long_text(pangu, prompt)
    batch = torch.tensor([ids], device=pangu.device)
    sampling = wb.Sampling(seed=1)
    prefixes = wb.Prefixes(pangu)
    text = pangu.tokenizer.decode(ids, skip_special=True)
    playground = wb.Playground(pangu, text=text, history=None, max_new_tokens=tokens, seed=1)
    playground.send = lambda content, buffers=None: json.dumps(content)  # as for a page

    def transformers_generate() -> None:
        with pangu.computing():  # on as many threads
            output = pangu.model.generate(
                batch,
                max_new_tokens=tokens,
                min_new_tokens=tokens,
                do_sample=True,
                temperature=sampling.temperature,
                top_k=sampling.top_k,
                top_p=sampling.top_p,
                attention_mask=torch.ones_like(batch),
            )
        assert output.shape[1] == len(ids) + tokens

    def ours(**settings: object) -> None:
        stream = pangu.stream(ids, tokens, sampling, **settings)
        assert sum(1 for _ in stream) == tokens

    def cleared(**settings: object) -> None:
        prefixes.clear()
        ours(prefixes=prefixes, **settings)

    def widget() -> None:
        playground._release()  # nothing that ran before helps
        playground.start()
        made = playground.wait()
        assert made is not None
        assert len(made.steps) == tokens

    seconds = best_of(
        rounds,
        {
            "transformers' generate alone": transformers_generate,
            "pangu.stream": ours,
            "pangu.stream, recorded": lambda: ours(record=True),
            "pangu.stream, recorded, kept for branches": lambda: cleared(record=True),
            "Playground, its messages to the page": widget,
        },
    )
    print(f"\n{pangu.name}, {pangu.bits} bit: {tokens} tokens after {prompt}, best of {rounds}")
    base = seconds["transformers' generate alone"]
    for name, value in seconds.items():
        print(f"  {name:<46} {tokens / value:8.1f} tokens a second  {base / value:5.2f} x")


def stopping(pangu: Pangu, tokens: int) -> None:
    """From Stop to the end of the generation, in tokens."""
    ids = long_text(pangu, 32)
    delays = []
    for number in range(16):
        stop, eighth = threading.Event(), threading.Event()
        stream = pangu.stream(ids, tokens, wb.Sampling(seed=number), stop=stop)

        def run(stream: Stream = stream, eighth: threading.Event = eighth) -> None:
            for count, _ in enumerate(stream):
                if count == 7:
                    eighth.set()

        thread = threading.Thread(target=run)
        thread.start()
        assert eighth.wait(60)
        usual = statistics.median(step.seconds for step in stream.generation.steps[1:])
        time.sleep(usual * number / 16)  # anywhere within a token
        pressed = time.perf_counter()
        stop.set()
        thread.join()
        waited = time.perf_counter() - pressed
        assert stream.finish_reason == "stopped"
        delays.append((waited / usual, 1000 * waited))
    middle, worst = sorted(delays)[len(delays) // 2], max(delays)
    print(f"\n{pangu.name}, {pangu.bits} bit: Stop, {len(delays)} times, until all work has ended")
    print(
        f"  median {middle[0]:.2f} of a token ({middle[1]:.1f} ms), worst {worst[0]:.2f} of a token"
    )


def branching(pangu: Pangu, prompt: int, at: int, rounds: int) -> None:
    """From a click on an alternative to the first new token, with and without what ran before."""
    ids = long_text(pangu, prompt)
    prefixes = wb.Prefixes(pangu)
    trunk = pangu.generate(ids, at + 4, wb.Sampling(seed=1), prefixes=prefixes)
    begun = trunk.begun(at, trunk.steps[at].alternatives[-1].token_id)

    def branch(given: wb.Prefixes | None) -> None:
        next(pangu.stream(ids, 1, wb.Sampling(seed=1), begun=begun, prefixes=given))

    seconds = best_of(
        rounds, {"with the cache": lambda: branch(prefixes), "without": lambda: branch(None)}
    )
    print(
        f"\n{pangu.name}, {pangu.bits} bit: a branch at token {at} after {prompt}, until its first "
        f"token, best of {rounds}"
    )
    for name, value in seconds.items():
        print(f"  {name:<46} {1000 * value:8.1f} ms  {value / seconds['with the cache']:6.1f} x")


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--checkpoint", default="demo")
    parser.add_argument("--bits", type=int, nargs="+", default=[4, 16])
    parser.add_argument("--tokens", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=8)
    options = parser.parse_args()
    for bits in options.bits:
        pangu = wb.load(options.checkpoint, bits=bits)
        endless(lambda pangu=pangu: speed(pangu, 64, options.tokens, options.rounds))
        endless(lambda pangu=pangu: stopping(pangu, 400))
        endless(lambda pangu=pangu: branching(pangu, 256, options.tokens, options.rounds))


if __name__ == "__main__":
    main()
