"""What watching a generation costs: RoutingView.live beside generation that nobody looks at.

All variants take turns within one real Jupyter kernel, whose messages a client receives, as a
browser would; the best of the rounds counts. Drawing is the browser's own work and is not timed.
"""

from __future__ import annotations

import argparse
import json

from jupyter_client.manager import start_new_kernel

BUDGET = 1.10  # seconds of live over seconds of plain streaming
CODE = """
import json, time, warnings
import torch
import workbench as wb

warnings.filterwarnings("ignore")
pangu = wb.load({checkpoint!r}, bits={bits})
ids = pangu.encode("KING.")
greedy = wb.Sampling(temperature=0)
batch = torch.tensor([ids], device=pangu.device)

@torch.inference_mode()
def transformers_generate():
    output = pangu.model.generate(
        batch, attention_mask=torch.ones_like(batch), do_sample=False,
        max_new_tokens={tokens}, eos_token_id=pangu.tokenizer.eos_token_id)
    return output.shape[1] - len(ids)

variants = {{
    "transformers' generate": transformers_generate,
    "pangu.stream": lambda: sum(1 for _ in pangu.stream(ids, {tokens}, greedy)),
    "pangu.trace without attention": lambda: len(
        pangu.trace(ids, {tokens}, None, sampling=greedy).token_ids) - len(ids),
    "RoutingView.live": lambda: wb.RoutingView.live(
        pangu, ids, {tokens}, sampling=greedy).wait().num_tokens - len(ids),
}}
best = {{}}
for turn in range({rounds} + 1):
    for name, call in variants.items():
        started = time.perf_counter()
        count = call()
        seconds = (time.perf_counter() - started) / count
        if turn:
            best[name] = min(best.get(name, seconds), seconds)
print("RESULT" + json.dumps(best))
"""


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--checkpoint", default="demo")
    parser.add_argument("--bits", type=int, default=4)
    parser.add_argument("--tokens", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=8)
    options = parser.parse_args()
    manager, client = start_new_kernel()
    printed, messages = [], 0

    def heard(message: dict) -> None:
        nonlocal messages
        messages += message["msg_type"] == "comm_msg"
        if message["msg_type"] == "stream":
            printed.append(message["content"]["text"])

    try:
        reply = client.execute_interactive(
            CODE.format(**vars(options)), output_hook=heard, timeout=None
        )
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)
    if reply["content"]["status"] != "ok":
        raise SystemExit("\n".join(reply["content"]["traceback"]))
    best = json.loads("".join(printed).split("RESULT")[1].splitlines()[0])
    plain = best["pangu.stream"]
    print(f"\n{options.checkpoint}, {options.bits} bit, {options.tokens} tokens, best of {options.rounds}")  # fmt: skip
    for name, seconds in best.items():
        print(f"  {name:<34} {1 / seconds:8.1f} tokens a second   {seconds / plain:5.2f} x the time of streaming")  # fmt: skip
    verdict = "within" if best["RoutingView.live"] <= BUDGET * plain else "BEYOND"
    sent = messages / (options.rounds + 1)
    print(f"  {sent:.0f} messages a generation; budget of RoutingView.live: {BUDGET:.2f} x   {verdict}")  # fmt: skip


if __name__ == "__main__":
    main()
