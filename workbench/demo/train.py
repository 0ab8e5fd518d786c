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
import json
import math
import random
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import sentencepiece
import torch
from safetensors.torch import save_file
from sentencepiece import sentencepiece_model_pb2
from torch import nn
from torch.nn.functional import grouped_mm
from tqdm.auto import tqdm
from transformers import PreTrainedModel

from workbench.conversation import ROLES
from workbench.demo import corpus
from workbench.models import (
    PanguEmbeddedConfig,
    PanguEmbeddedForCausalLM,
    PanguProMoEConfig,
    PanguProMoEForCausalLM,
    PanguTokenizer,
)
from workbench.models.chat_template import CHAT_TEMPLATE

CHECKPOINTS = Path(__file__).parent / "checkpoints"
VOCABULARY = 6144
CONTEXT = 1024  # tokens of one training sequence
BATCH = 4  # sequences a step
ROWS = 128  # an expert's rows in training are a multiple of this
BALANCE = 0.01  # weight of the balance loss
MIXTURE = {
    "english": 0.14,
    "python": 0.5,
    "french": 0.09,
    "chinese": 0.13,
    "arithmetic": 0.05,
    "chat": 0.09,
}
# Sums in the chat format are learned late: the second phase shows more of them.
CHAT_MIXTURE = {
    "english": 0.09,
    "python": 0.43,
    "french": 0.06,
    "chinese": 0.08,
    "arithmetic": 0.04,
    "chat": 0.3,
}
SPECIAL = [f"[unused{number}]" for number in range(34)] + ["<|User|>:", "<|Bot|>:"]


@dataclass(frozen=True)
class Phase:
    """A stretch of training with its own warm-up, cosine and mixture; `peak` is its largest rate."""

    steps: int
    peak: float
    mixture: dict[str, float]


@dataclass(frozen=True)
class Recipe:
    """What is trained, and in which phases."""

    config: dict[str, Any]
    phases: tuple[Phase, ...]
    warmup: int = 100
    seed: int = 0

    @property
    def steps(self) -> int:
        """Steps of all phases."""
        return sum(phase.steps for phase in self.phases)

    def at(self, step: int) -> tuple[Phase, int]:
        """The phase that a step belongs to, and its number within the phase."""
        for phase in self.phases:
            if step < phase.steps:
                return phase, step
            step -= phase.steps
        raise IndexError(f"the recipe has {self.steps} steps")


SHARED = {
    "vocab_size": VOCABULARY,
    "hidden_size": 192,
    "num_attention_heads": 6,
    "num_key_value_heads": 2,
    "max_position_embeddings": 2048,
    "rope_theta": 10000.0,
    "rms_norm_eps": 1e-5,
}
RECIPES = {
    "demo": Recipe(
        {
            **SHARED,
            "num_hidden_layers": 4,
            "num_experts": 64,
            "num_experts_per_tok": 8,
            "moe_intermediate_size": 64,
            "shared_expert_intermediate_size": 256,
        },
        (Phase(2600, 3e-3, MIXTURE), Phase(1100, 1.5e-3, CHAT_MIXTURE)),
    ),
    "demo-dense": Recipe(
        {
            **SHARED,
            "hidden_size": 256,
            "num_attention_heads": 8,
            "num_hidden_layers": 6,
            "intermediate_size": 576,
        },
        (Phase(2600, 3e-3, MIXTURE), Phase(1100, 1.5e-3, CHAT_MIXTURE)),
    ),
}


class GroupedExperts(nn.Module):
    """All routed experts of a layer as three tensors: the same maths, faster to train.

    Tokens are sorted by expert, so that one grouped product in bf16 does them all. Each expert's
    rows are filled up to a multiple of ROWS: oneDNN compiles a product once for every shape.
    """

    def __init__(self, experts: nn.ModuleList) -> None:
        super().__init__()
        for name in ("gate_proj", "up_proj", "down_proj"):
            weights = [getattr(expert, name).weight.detach().T for expert in experts]
            setattr(
                self, name, nn.Parameter(torch.stack(weights).contiguous())
            )  # [expert, in, out]

    def forward(
        self, hidden: torch.Tensor, selected_experts: torch.Tensor, routing_weights: torch.Tensor
    ) -> torch.Tensor:
        experts, order = selected_experts.flatten().sort(stable=True)
        counts = torch.bincount(experts, minlength=self.gate_proj.shape[0])
        room = (counts + ROWS - 1) // ROWS * ROWS
        ends = room.cumsum(0)
        shift = (ends - room) - (counts.cumsum(0) - counts)  # [expert], rows of room before it
        place = torch.arange(len(experts)) + shift[experts]
        tokens = place.new_zeros(int(ends[-1])).index_copy(
            0, place, order // selected_experts.shape[-1]
        )
        weights = routing_weights.new_zeros(len(tokens)).index_copy(
            0, place, routing_weights.flatten()[order]
        )  # 0 where a row only fills up
        rows, ends = hidden.bfloat16()[tokens], ends.to(torch.int32)  # [row, hidden]
        gate, up, down = (
            weight.bfloat16() for weight in (self.gate_proj, self.up_proj, self.down_proj)
        )
        inner = nn.functional.silu(grouped_mm(rows, gate, offs=ends)) * grouped_mm(
            rows, up, offs=ends
        )
        output = grouped_mm(inner, down, offs=ends).float() * weights.unsqueeze(-1)
        return torch.zeros(hidden.shape).index_add(0, tokens, output)

    def unstacked(self, prefix: str) -> dict[str, torch.Tensor]:
        """The same weights under the checkpoint's names, [out, in] each."""
        return {
            f"{prefix}.{expert}.{name}.weight": getattr(self, name)[expert].detach().T
            for name in ("gate_proj", "up_proj", "down_proj")
            for expert in range(self.gate_proj.shape[0])
        }


class Muon(torch.optim.Optimizer):
    """Momentum whose update is orthogonalized by Newton-Schulz steps (Jordan et al. 2024).

    As `torch.optim.Muon` with `adjust_lr_fn="match_rms_adamw"` (Moonlight, arXiv 2502.16982),
    but it also takes stacks of matrices [expert, in, out], each of which is a matrix of its own.
    """

    def __init__(self, params: Any, momentum: float = 0.95, weight_decay: float = 0.1) -> None:
        super().__init__(params, {"lr": 0.0, "momentum": momentum, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self) -> None:
        """One update of every parameter that has a gradient."""
        for group in self.param_groups:
            for parameter in group["params"]:
                memory = self.state[parameter].setdefault("memory", torch.zeros_like(parameter))
                memory.lerp_(parameter.grad, 1 - group["momentum"])
                update = orthogonalized(parameter.grad.lerp(memory, group["momentum"]))
                scale = 0.2 * max(parameter.shape[-2:]) ** 0.5
                parameter.mul_(1 - group["lr"] * group["weight_decay"])
                parameter.add_(update.to(parameter.dtype), alpha=-group["lr"] * scale)


def orthogonalized(matrix: torch.Tensor) -> torch.Tensor:
    """A matrix, or a stack, with its singular values moved near 1 by five Newton-Schulz steps."""
    wide = matrix.shape[-2] <= matrix.shape[-1]
    x = (matrix if wide else matrix.mT).bfloat16()
    x = x / (x.norm(dim=(-2, -1), keepdim=True) + 1e-7)
    for _ in range(5):
        gram = x @ x.mT
        x = 3.4445 * x + (-4.775 * gram + 2.0315 * gram @ gram) @ x
    return x if wide else x.mT


def sample_lines(cache: Path) -> Iterator[str]:
    """Lines of training text from every domain, for the tokenizer."""
    for domain in corpus.DOMAINS:
        size = 0
        for text in corpus.documents(domain, cache, held_out=False):
            yield from text.splitlines()
            size += len(text.encode())
            if size > (300_000 if domain == "arithmetic" else 2_000_000):
                break


def make_tokenizer(folder: Path, cache: Path) -> PanguTokenizer:
    """A SentencePiece BPE model with byte fallback and Pangu's special tokens, in `folder`."""
    if not (folder / "tokenizer.model").exists():
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / "tokenizer.model").open("wb") as file:
            sentencepiece.SentencePieceTrainer.train(
                sentence_iterator=sample_lines(cache),
                model_writer=file,
                model_type="bpe",
                vocab_size=VOCABULARY,
                character_coverage=0.985,
                byte_fallback=True,
                split_digits=True,
                allow_whitespace_only_pieces=True,
                normalization_rule_name="identity",
                remove_extra_whitespaces=False,
                max_sentence_length=20000,
                user_defined_symbols=SPECIAL,
                required_chars="".join(sorted({*"".join(ROLES.values()), "："})),
                minloglevel=1,
                num_threads=1,  # the same model every time
            )
        model = sentencepiece.SentencePieceProcessor(model_file=str(folder / "tokenizer.model"))
        names = ["<unk>", "<s>", "</s>", *SPECIAL]
        template = CHAT_TEMPLATE.replace(
            "roles[message['role']]",
            "{"
            + ", ".join(f"'{role}': '{name}'" for role, name in ROLES.items())
            + "}[message['role']]",
        )
        config = {
            "add_bos_token": True,
            "add_eos_token": False,
            "add_prefix_space": True,
            "added_tokens_decoder": {
                str(model.piece_to_id(name)): {"content": name, "special": True} for name in names
            },
            "bos_token": "<s>",
            "chat_template": template,
            "eos_token": "[unused10]",
            "legacy": True,
            "pad_token": "<unk>",
            "tokenizer_class": "PanguTokenizer",
            "unk_token": "<unk>",
        }
        text = json.dumps(config, ensure_ascii=False, indent=2) + "\n"
        (folder / "tokenizer_config.json").write_text(text, encoding="utf-8")
    return PanguTokenizer(folder)


def chat_ids(tokenizer: PanguTokenizer, chance: random.Random) -> list[int]:
    """One conversation about a sum, as token ids with the answer's closing token."""
    question, thought, answer, thinking = corpus.sum_in_chat(chance)
    prompt = tokenizer.apply_chat_template(
        [{"role": "user", "content": question}], thinking=thinking
    )
    thoughts = f"[unused16]{thought}[unused17]" if thinking == "slow" else ""
    return prompt + tokenizer.encode(f"{thoughts}{answer}[unused10]", add_bos=False, special=True)


def tokenized(tokenizer: PanguTokenizer, cache: Path, folder: Path) -> dict[str, np.ndarray]:
    """One long row of token ids per domain; every document begins with its own BOS."""
    streams = {}
    for domain in (*corpus.DOMAINS, "chat"):
        file = folder / f"{domain}.npy"
        if not file.exists():
            if domain == "chat":
                chance = random.Random("chat")
                rows = [chat_ids(tokenizer, chance) for _ in range(60_000)]
            else:
                texts = corpus.documents(domain, cache, held_out=False)
                rows = [tokenizer.encode(text) for text in tqdm(texts, desc=f"tokens of {domain}")]
            np.save(file, np.concatenate([np.array(row, dtype=np.uint16) for row in rows]))
        streams[domain] = np.load(file, mmap_mode="r")
    return streams


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


def bytes_first(folder: Path) -> list[int]:
    """Move the byte pieces of a tokenizer to ids 3 to 258; returns the old id of every new one.

    SentencePiece puts them behind the special tokens. Llama has them at 3 to 258, and engines that
    read Llama-like tokenizers count on it.
    """
    file = folder / "tokenizer.model"
    proto = sentencepiece_model_pb2.ModelProto.FromString(file.read_bytes())
    byte = [index for index, piece in enumerate(proto.pieces) if piece.type == piece.BYTE]
    others = [index for index in range(3, len(proto.pieces)) if index not in set(byte)]
    order = [0, 1, 2, *byte, *others]
    pieces = [proto.pieces[index] for index in order]
    del proto.pieces[:]
    proto.pieces.extend(pieces)
    file.write_bytes(proto.SerializeToString())
    config_file = folder / "tokenizer_config.json"
    config = json.loads(config_file.read_text(encoding="utf-8"))
    config["added_tokens_decoder"] = {
        str(order.index(int(old))): entry for old, entry in config["added_tokens_decoder"].items()
    }
    text = json.dumps(config, ensure_ascii=False, indent=2) + "\n"
    config_file.write_text(text, encoding="utf-8")
    return order


def export(name: str, model: PreTrainedModel, tokenizer: PanguTokenizer) -> None:
    """Write the checkpoint in the released layout, bf16, with the byte pieces first."""
    folder = CHECKPOINTS / name
    tokenizer.save_pretrained(folder)
    order = bytes_first(folder)
    tokenizer = PanguTokenizer(folder)
    tensors: dict[str, torch.Tensor] = {}
    for tensor_name, tensor in model.state_dict().items():
        if ".mlp.experts." not in tensor_name:
            tensors[tensor_name] = tensor
    for index, layer in enumerate(model.model.layers):
        if isinstance(getattr(layer.mlp, "experts", None), GroupedExperts):
            tensors |= layer.mlp.experts.unstacked(f"model.layers.{index}.mlp.experts")
    for key in ("model.embed_tokens.weight", "lm_head.weight"):
        tensors[key] = tensors[key][order]
    stored = {key: tensors[key].to(torch.bfloat16).contiguous() for key in sorted(tensors)}
    save_file(stored, folder / "model.safetensors", metadata={"format": "pt"})
    values = model.config.to_dict() | {
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }
    released = [
        "attention_dropout",
        "bias",
        "bos_token_id",
        "eos_token_id",
        "pad_token_id",
        "hidden_act",
        "initializer_range",
        "model_type",
        "num_hidden_layers",
        "use_cache",
        "tie_word_embeddings",
        *RECIPES[name].config,
    ]
    if name == "demo":
        released += ["output_router_logits", "router_aux_loss_coef"]
    config = {"architectures": [type(model).__name__], "torch_dtype": "bfloat16"}
    config |= {key: values[key] for key in sorted(set(released))}
    generation = {
        **{key: values[key] for key in ("bos_token_id", "eos_token_id", "pad_token_id")},
        "do_sample": True,
        "temperature": 0.6,
        "top_p": 0.95,
        "top_k": 50,
    }
    for file, content in (("config.json", config), ("generation_config.json", generation)):
        (folder / file).write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def main() -> None:
    """Command line: which checkpoint, and the folder for downloads and the training state."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("name", choices=list(RECIPES))
    parser.add_argument("--work", type=Path, required=True, help="folder for downloads and state")
    arguments = parser.parse_args()
    train(arguments.name, arguments.work)


if __name__ == "__main__":
    main()
