"""Train the checkpoints that ship: `python -m workbench.demo.train demo --work FOLDER`.

Makes the tokenizer, trains one of the two models and writes it to
`workbench/demo/checkpoints/`. The run is reproducible from its seed and resumes where it was
interrupted: batches depend on the step number alone, and the state is kept in the work folder.
`workbench.demo.evaluate` then measures the result and writes the model card. With glibc, the
environment variables MALLOC_MMAP_THRESHOLD_ and MALLOC_TRIM_THRESHOLD_ at 4294967296 make a step a
third faster: large tensors are then reused and not given back to the system.
"""

from __future__ import annotations

import argparse
import math
from pathlib import Path

import numpy as np
import torch
from torch import nn
from tqdm.auto import tqdm
from transformers import PreTrainedModel

from workbench.demo import corpus
from workbench.demo.export import export
from workbench.demo.grouped_experts import GroupedExperts
from workbench.demo.muon import Muon
from workbench.demo.recipes import BATCH, CONTEXT, RECIPES, Recipe
from workbench.demo.tokenizer import make_tokenizer, tokenized
from workbench.models import (
    PanguEmbeddedConfig,
    PanguEmbeddedForCausalLM,
    PanguProMoEConfig,
    PanguProMoEForCausalLM,
    PanguTokenizer,
)

BALANCE = 0.01  # weight of the balance loss


def batch(streams: dict[str, np.ndarray], recipe: Recipe, step: int) -> torch.Tensor:
    """The sequences of one step, [sequence, token]; the same for the same seed and step."""
    chance = np.random.default_rng([recipe.seed, step])
    mixture = recipe.at(step)[0].mixture
    rows = []
    for domain in chance.choice(list(mixture), size=BATCH, p=list(mixture.values())):
        start = chance.integers(len(streams[domain]) - CONTEXT)
        rows.append(np.asarray(streams[domain][start : start + CONTEXT + 1]).astype(np.int64))
    return torch.from_numpy(np.stack(rows))


def balance_loss(router_logits: torch.Tensor, selected_experts: torch.Tensor) -> torch.Tensor:
    """Σ f·p of one layer (arXiv 2505.21411): 1 when balanced; f is the load ratio, p the mean softmax."""
    num_experts = router_logits.shape[-1]
    counts = torch.bincount(selected_experts.flatten(), minlength=num_experts)
    load_ratio = counts.float() * num_experts / selected_experts.numel()
    return (load_ratio * router_logits.softmax(-1).mean(0)).sum()


def learning_rate(recipe: Recipe, step: int) -> float:
    """Linear warm-up, then a cosine down to a twentieth of the peak."""
    phase, step = recipe.at(step)
    if step < recipe.warmup:
        return phase.peak * (step + 1) / recipe.warmup
    share = (step - recipe.warmup) / max(1, phase.steps - recipe.warmup)
    return phase.peak * (0.05 + 0.95 * 0.5 * (1 + math.cos(math.pi * share)))


def build(name: str, tokenizer: PanguTokenizer) -> PreTrainedModel:
    """The model with fresh weights; its experts are grouped for training."""
    recipe = RECIPES[name]
    torch.manual_seed(recipe.seed)
    ids = {
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }
    if name == "demo":
        model = PanguProMoEForCausalLM(PanguProMoEConfig(**recipe.config, **ids))
        for layer in model.model.layers:
            nn.init.constant_(layer.mlp.router_scale, 4.0)  # the 8 winners weigh about 1/8 at first
            layer.mlp.experts = GroupedExperts(layer.mlp.experts)
    else:
        model = PanguEmbeddedForCausalLM(PanguEmbeddedConfig(**recipe.config, **ids))
    return model


def train(name: str, work: Path) -> None:
    """Train to the end of the recipe, going on from `work` when a state is there, and export."""
    recipe, cache = RECIPES[name], work / "cache"
    corpus.fetch(cache)
    tokenizer = make_tokenizer(work / "tokenizer", cache)
    streams = tokenized(tokenizer, cache, work / "tokenizer")
    model = build(name, tokenizer)
    layers = list(model.model.layers.parameters())
    matrices = [p for p in layers if p.dim() > 1 and p.shape[0] > 1]
    others = set(model.parameters()) - set(matrices)
    optimizers = [
        Muon(matrices),
        torch.optim.AdamW(
            [p for p in model.parameters() if p in others],
            betas=(0.9, 0.95),
            weight_decay=0.0,
            fused=True,
        ),
    ]
    balance: list[torch.Tensor] = []
    if name == "demo":
        for layer in model.model.layers:
            layer.mlp.gate.register_forward_hook(
                lambda _module, _inputs, routed: balance.append(balance_loss(routed[0], routed[2]))
            )
    state_file, first = work / f"{name}.pt", 0
    if state_file.exists():
        state = torch.load(state_file, weights_only=True)
        model.load_state_dict(state["model"])
        for optimizer, values in zip(optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(values)
        first = state["step"]
    with tqdm(range(first, recipe.steps), initial=first, total=recipe.steps, mininterval=10) as bar:
        for step in bar:
            for optimizer in optimizers:
                for group in optimizer.param_groups:
                    group["lr"] = learning_rate(recipe, step)
            ids = batch(streams, recipe, step)
            balance.clear()
            with torch.autocast("cpu", torch.bfloat16):
                logits = model(ids[:, :-1], use_cache=False).logits
            loss = nn.functional.cross_entropy(logits.flatten(0, 1).float(), ids[:, 1:].flatten())
            total = loss + BALANCE * torch.stack(balance).mean() if balance else loss
            total.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            for optimizer in optimizers:
                optimizer.step()
            model.zero_grad(set_to_none=True)
            if step % 20 == 0:
                shown = f" balance {torch.stack(balance).mean():.3f}" if balance else ""
                bar.set_description(f"loss {loss:.3f}{shown}", refresh=False)
            if (step + 1) % 250 == 0 or step + 1 == recipe.steps:
                temporary = state_file.with_suffix(".new")
                torch.save(
                    {
                        "model": model.state_dict(),
                        "optimizers": [optimizer.state_dict() for optimizer in optimizers],
                        "step": step + 1,
                    },
                    temporary,
                )
                temporary.replace(state_file)
    export(name, model, tokenizer)


def main() -> None:
    """Command line: which checkpoint, and the folder for downloads and the training state."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("name", choices=list(RECIPES))
    parser.add_argument("--work", type=Path, required=True, help="folder for downloads and state")
    arguments = parser.parse_args()
    train(arguments.name, arguments.work)


if __name__ == "__main__":
    main()
