"""Routing recorded by a serving engine becomes a Trace: which experts, and nothing else.

Both vLLM and SGLang can return the experts of every token that was run, [token, layer, slot]
(`enable_return_routed_experts`, `return_routed_experts`). The last token of a generation was
sampled and never run: it has no row. Slots come in order of score, here they are put into order of
groups.
"""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from workbench.arguments import whole_number
from workbench.errors import TraceError
from workbench.traces.trace import Trace

Config = Mapping[str, Any] | str | Path
ENCODED = b"\x93NUMPY"  # how a .npy file begins


def import_vllm(
    output: Any,
    config: Config,
    tokenizer: Any = None,
    choice: int = 0,
    prompt_ids: Sequence[int] | None = None,
    **options: Any,
) -> Trace:
    """A trace of what vLLM returned, started with ``enable_return_routed_experts``.

    Parameters
    ----------
    output
        A `RequestOutput` of ``LLM.generate``; or the JSON of its server, a dict, requested with
        ``"return_token_ids": True``. The server sends the ids as a base64 .npy file.
    choice
        Which of several completions.
    prompt_ids
        The prompt's token ids where the output does not hold them.
    config, tokenizer, options
        As in `import_routed_experts`.
    """
    if isinstance(output, Mapping):
        chosen = _choice(output.get("choices") or [], choice)
        answer = chosen.get("token_ids")
        prompt = _first(prompt_ids, chosen.get("prompt_token_ids"), output.get("prompt_token_ids"))
        routed, of_prompt = chosen.get("routed_experts"), output.get("prompt_routed_experts")
    else:
        chosen = _choice(output.outputs, choice)
        answer, routed = chosen.token_ids, getattr(chosen, "routed_experts", None)
        of_prompt = getattr(output, "prompt_routed_experts", None)
        prompt = _first(prompt_ids, output.prompt_token_ids)
    if routed is None:
        raise TraceError(
            "this output of vLLM has no routed_experts; start the engine with "
            "enable_return_routed_experts=True (vllm serve --enable-return-routed-experts)."
        )
    if prompt is None or answer is None:
        raise TraceError(
            "this output of vLLM has no token ids; request it with return_token_ids, and pass "
            "prompt_ids=[…] if the server does not send the prompt's."
        )
    rows = decode_routed_experts(routed)
    if of_prompt is not None:  # some versions send the prompt's rows apart
        rows = np.concatenate([decode_routed_experts(of_prompt), rows])
    return import_routed_experts(
        rows, [*prompt, *answer], config, len(prompt), tokenizer, "vLLM", **options
    )


def import_sglang(
    output: Mapping[str, Any],
    config: Config,
    tokenizer: Any = None,
    token_ids: Sequence[int] | None = None,
    **options: Any,
) -> Trace:
    """A trace of what SGLang's /generate returned for ``return_routed_experts``.

    Parameters
    ----------
    output
        The JSON as a dict; its `meta_info` holds base64 of flat int32 values.
    token_ids
        Of prompt and answer. Left out, they are read from the log-probabilities, which need
        ``return_logprob`` and ``logprob_start_len=0``.
    config, tokenizer, options
        As in `import_routed_experts`.
    """
    info = output.get("meta_info") or {}
    if _first(info.get("routed_experts")) is None:
        raise TraceError(
            "this output of SGLang has no routed_experts; start the server with "
            "--enable-return-routed-experts and request return_routed_experts=True."
        )
    counted = ["prompt_tokens"] + ["completion_tokens"] * (token_ids is None)
    if missing := [name for name in counted if not isinstance(info.get(name), int)]:
        raise TraceError(
            f"this output of SGLang has no {' and no '.join(missing)} in its meta_info; pass the "
            "whole JSON that /generate returned."
        )
    if token_ids is None:
        listed = [
            *(info.get("input_token_logprobs") or []),
            *(info.get("output_token_logprobs") or []),
        ]
        token_ids = [int(entry[1]) for entry in listed]
        expected = info["prompt_tokens"] + info["completion_tokens"]
        if len(token_ids) != expected:
            raise TraceError(
                f"this output of SGLang holds the ids of {len(token_ids)} of its {expected} tokens; "
                "pass token_ids=[…] or request return_logprob=True with logprob_start_len=0."
            )
    start = int(info.get("routed_experts_start_len") or 0)
    options = {"start": start} | options
    return import_routed_experts(
        info["routed_experts"],
        token_ids,
        config,
        info["prompt_tokens"],
        tokenizer,
        "SGLang",
        **options,
    )


def import_routed_experts(
    routed_experts: np.ndarray | Sequence | str,
    token_ids: Sequence[int],
    config: Config,
    prompt_length: int | None = None,
    tokenizer: Any = None,
    engine: str = "a serving engine",
    start: int = 0,
    moe_layers: Sequence[int] | None = None,
    num_groups: int | None = None,
) -> Trace:
    """A trace of recorded expert ids.

    Parameters
    ----------
    routed_experts
        [token, layer, slot] integers, as an array, as lists, or encoded as the engines send it; see
        `decode_routed_experts`.
    token_ids
        Of all tokens; one more than rows, whose last was sampled and not run, is dropped.
    config
        The model's config.json: a dict, the file, or its folder. It needs num_experts (or, as
        some models call it, n_routed_experts), num_experts_per_tok and num_hidden_layers.
    prompt_length
        Tokens of the prompt; all of them by default.
    tokenizer
        A `PanguTokenizer`, for the pieces and the spans; without one the pieces are the ids.
    engine
        Who recorded it, for messages.
    start
        The token of the first row, where the engine was asked to leave out earlier ones.
    moe_layers
        The layers to keep, where the recording has rows for dense layers too.
    num_groups
        By default as many as experts per token for Pangu Pro MoE, and 1 for other models.

    Returns
    -------
    A trace with token_ids and selected_experts. Asking it for anything that was not recorded, such
    as router_logits, raises `TraceError`; so do the measures that need it.

    Raises
    ------
    TraceError
        If shapes, ids or groups do not fit: in a MoGE model every token uses exactly one expert of
        each group.
    """
    values = _config(config)
    experts, slots = values["num_experts"], values["num_experts_per_tok"]
    if num_groups is None:
        num_groups = slots if values.get("model_type") == "PanguProMoE" else 1
    if experts % num_groups or slots % num_groups:
        raise TraceError(f"{experts} experts, {slots} per token, do not fit {num_groups} groups.")
    rows = decode_routed_experts(routed_experts, values["num_hidden_layers"], slots)
    if moe_layers is not None:
        last = rows.shape[1] - 1
        expected = f"a layer of the recording, 0 to {last}"
        moe_layers = [
            whole_number("an item of moe_layers", layer, TraceError, expected)
            for layer in moe_layers
        ]
        if outside := [layer for layer in moe_layers if not 0 <= layer <= last]:
            raise TraceError(f"moe_layers names layer {outside[0]}; expected {expected}.")
        rows = rows[:, moe_layers]
    ids = np.asarray(token_ids, dtype=np.int64)[start:]
    if len(rows) not in (len(ids), len(ids) - 1) or not len(rows):
        raise TraceError(
            f"{len(rows)} rows of experts for {len(ids)} tokens from token {start} on; expected "
            f"{len(ids)}, or {len(ids) - 1} if the last token was sampled and not run."
        )
    if moe_layers is None and rows.shape[1] != values["num_hidden_layers"]:
        raise TraceError(
            f"the recording has {rows.shape[1]} layers and the model {values['num_hidden_layers']}; "
            "is it of another model?"
        )
    ids = ids[: len(rows)]
    prompt = len(ids) if prompt_length is None else min(max(0, prompt_length - start), len(ids))
    chosen = _checked(rows.transpose(1, 0, 2), experts, slots, num_groups)  # [layer, token, slot]
    meta = {
        "model_name": str(values.get("_name_or_path") or values.get("model_type", "a model")),
        "model_type": values.get("model_type"),
        "config": {key: value for key, value in values.items() if _is_plain(value)},
        "origin": engine,
        "num_groups": num_groups,
        "moe_layers": list(range(len(chosen))) if moe_layers is None else moe_layers,
        "attention_layers": [],
        "prompt_length": prompt,
        "vocabulary": {},
        "special_ids": [],
        "receipt": {},
        "sampling": None,
        "versions": {},
    } | _words(ids.tolist(), prompt, tokenizer)
    return Trace({"token_ids": ids.astype(np.int32), "selected_experts": chosen}, meta)


def decode_routed_experts(
    routed_experts: np.ndarray | Sequence | str,
    num_layers: int | None = None,
    num_experts_per_tok: int | None = None,
) -> np.ndarray:
    """[token, layer, slot] integers, from an array, nested lists, or base64.

    vLLM's server sends base64 of a .npy file, which knows its shape; SGLang base64 of flat int32
    values, for which the number of layers and of slots must be given.

    Raises
    ------
    TraceError
        If the values are no integers or do not have that shape.
    """
    values = routed_experts
    if isinstance(values, str):
        try:
            content = base64.b64decode(values, validate=True)
        except ValueError as error:
            raise TraceError(f"routed_experts is a text that is not base64 ({error}).") from error
        if content.startswith(ENCODED):
            try:
                values = np.load(io.BytesIO(content), allow_pickle=False)
            except ValueError as error:
                raise TraceError(f"routed_experts is a damaged .npy file ({error}).") from error
        elif num_layers is None or num_experts_per_tok is None:
            raise TraceError("flat routed_experts need the number of layers and of slots.")
        else:
            row = num_layers * num_experts_per_tok
            if len(content) % (4 * row):
                raise TraceError(
                    f"routed_experts holds {len(content)} bytes, not a multiple of 4 · {num_layers} "
                    f"layers · {num_experts_per_tok} slots; is it of another model?"
                )
            values = np.frombuffer(content, "<i4").reshape(-1, num_layers, num_experts_per_tok)
    array = np.asarray(values)
    if array.ndim != 3 or array.dtype.kind not in "iu":
        raise TraceError(
            f"routed_experts has shape {array.shape} and type {array.dtype}; expected integers, "
            "[token, layer, slot]."
        )
    return array


# -- inside -------------------------------------------------------------------------------------


def _checked(chosen: np.ndarray, experts: int, slots: int, groups: int) -> np.ndarray:
    """[layer, token, slot], in order of groups where there are any."""
    if chosen.shape[-1] != slots:
        raise TraceError(
            f"the recording has {chosen.shape[-1]} experts per token and the model {slots}."
        )
    if ((chosen < 0) | (chosen >= experts)).any():
        layer, token, slot = map(int, np.argwhere((chosen < 0) | (chosen >= experts))[0])
        raise TraceError(
            f"layer {layer}, token {token} names expert {int(chosen[layer, token, slot])}; the model "
            f"has experts 0 to {experts - 1}. Engines fill what they did not record with such values."
        )
    ordered = np.sort(chosen.astype(np.int64), axis=-1)
    if (twice := (ordered[..., 1:] == ordered[..., :-1]).any(-1)).any():
        layer, token = map(int, np.argwhere(twice)[0])
        raise TraceError(
            f"layer {layer}, token {token} names an expert twice ({chosen[layer, token].tolist()}). "
            "Rows of zeros are layers without experts, which moe_layers=[…] leaves out, or were "
            "never recorded."
        )
    if groups > 1:
        group = ordered // (experts // groups)
        wrong = (group != np.repeat(np.arange(groups), slots // groups)).any(-1)
        if wrong.any():
            layer, token = map(int, np.argwhere(wrong)[0])
            counts = np.bincount(group[layer, token], minlength=groups).tolist()
            raise TraceError(
                f"layer {layer}, token {token} uses {counts} experts of the {groups} groups; a MoGE "
                f"model uses {slots // groups} of each. {wrong.mean():.0%} of all rows are so: the "
                "engine chose without groups, or the recording is of another model."
            )
        chosen = ordered
    return np.ascontiguousarray(chosen).astype(np.uint8 if experts <= 256 else np.int16)


def _config(config: Config) -> dict[str, Any]:
    if not isinstance(config, Mapping):
        path = Path(config)
        path = path / "config.json" if path.is_dir() else path
        try:
            config = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise TraceError(f"{path} cannot be read as a config.json ({error}).") from error
    config = dict(config)
    if "num_experts" not in config and "n_routed_experts" in config:
        config["num_experts"] = config["n_routed_experts"]
    names = ("num_experts", "num_experts_per_tok", "num_hidden_layers")
    if missing := [name for name in names if not isinstance(config.get(name), int)]:
        raise TraceError(
            f"the config has no {', '.join(missing)}; pass the config.json of the model that ran."
        )
    return config


def _words(ids: list[int], prompt: int, tokenizer: Any) -> dict[str, Any]:
    if tokenizer is not None:
        return {
            "text": tokenizer.decode(ids, skip_special=True),
            "pieces": tokenizer.pieces(ids),
            "offsets": tokenizer.offsets(ids),
            "spans": tokenizer.spans(ids, prompt),
        }
    ends = [("prompt", 0, prompt), ("answer", prompt, len(ids))]
    return {
        "text": "",
        "pieces": [str(token) for token in ids],
        "offsets": [[0, 0]] * len(ids),
        "spans": [{"kind": k, "start": a, "end": b} for k, a, b in ends if a < b],
    }


def _first(*values: Any) -> Any:
    """The first of lists, arrays or texts that is there and not empty."""
    return next((value for value in values if value is not None and len(value)), None)


def _choice(choices: Sequence[Any], number: int) -> Any:
    if not 0 <= number < len(choices):
        raise TraceError(f"there is no choice {number}; the output has {len(choices)}.")
    return choices[number]


def _is_plain(value: Any) -> bool:
    return value is None or isinstance(value, str | int | float | list)
