"""The demo's tokenizer, made of its own texts, and the texts as token ids."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import sentencepiece
from sentencepiece import sentencepiece_model_pb2
from tqdm.auto import tqdm

from workbench.conversation import ROLES
from workbench.demo import corpus
from workbench.demo.recipes import VOCABULARY
from workbench.models import PanguTokenizer
from workbench.models.chat_template import CHAT_TEMPLATE

SPECIAL = [f"[unused{number}]" for number in range(34)] + ["<|User|>:", "<|Bot|>:"]


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
