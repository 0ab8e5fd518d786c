"""Which keys of a `config.json` may be unknown to a Pangu configuration without changing the maths."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from transformers import GenerationConfig

from workbench.errors import CheckpointError

# Bookkeeping of transformers and of those who saved the file: never part of the maths.
HARMLESS_KEYS = frozenset(
    "_attn_implementation _attn_implementation_autoset _commit_hash _from_auto _from_model_config "
    "_name_or_path attn_implementation auto_map experts_implementation model_type name_or_path "
    "num_labels output_attentions quantization_config tokenizer_class torch_dtype".split()
) | frozenset(GenerationConfig._get_default_generation_params())
# Keys of other architectures, at the value that means "not used here".
NEUTRAL_VALUES: dict[str, tuple[Any, ...]] = {
    "decoder_sparse_step": (1,),
    "first_k_dense_replace": (0,),
    "mlp_only_layers": ([],),
    "moe_layer_freq": (1,),
    "norm_topk_prob": (False,),
    "partial_rotary_factor": (1, 1.0),
    "routed_scaling_factor": (1, 1.0),
    "use_sliding_window": (False,),
}


def refuse_unknown_keys(model_type: str, keys: Mapping[str, Any]) -> None:
    """Raise for the keys that a configuration does not know and that could change the maths.

    Parameters
    ----------
    model_type
        The configuration's `model_type`, for the message.
    keys
        What `config.json` holds beyond the configuration's own fields.

    Raises
    ------
    CheckpointError
        Naming every such key and its value. A key that is null, or stands at the value that
        switches its feature off, is accepted.
    """
    unknown = {
        key: value
        for key, value in keys.items()
        if key not in HARMLESS_KEYS
        and value is not None
        and value not in NEUTRAL_VALUES.get(key, ())
    }
    if unknown:
        listed = ", ".join(f"{key}={value!r}" for key, value in sorted(unknown.items()))
        raise CheckpointError(
            f"config.json of this {model_type} model holds {listed}, which the released model does "
            "not have and which could change its maths. Expected only the released keys. If the "
            "model does not use them, remove them from config.json."
        )


def require_plain_rotary_embedding(model_type: str, rope_parameters: Mapping[str, Any]) -> None:
    """Raise if the rotary embedding is scaled or partial: no released Pangu of this type is."""
    theta = rope_parameters.get("rope_theta", 1.0)
    require_positive_number(model_type, "rope_theta", theta)
    extra = {
        key: value
        for key, value in rope_parameters.items()
        if not (
            key in ("rope_theta",)
            or (key, value) in (("rope_type", "default"), ("type", "default"))
        )
        and not (key == "partial_rotary_factor" and value == 1)
    }
    if extra:
        raise CheckpointError(
            f"config.json of this {model_type} model scales its rotary embedding ({dict(extra)!r}). "
            "Expected a plain one with only rope_theta, as in the released models; "
            "remove rope_scaling from config.json if it is not used."
        )


def require_positive_integers(model_type: str, sizes: Mapping[str, Any]) -> None:
    """Raise for the first size that is not a whole number of 1 or more."""
    for key, value in sizes.items():
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise CheckpointError(
                f"config.json of this {model_type} model says {key}={value!r}; expected a whole "
                "number of 1 or more. Download it again."
            )


def require_positive_number(model_type: str, key: str, value: Any) -> None:
    """Raise for a value that is no finite number above 0."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < math.inf:
        raise CheckpointError(
            f"config.json of this {model_type} model says {key}={value!r}; expected a number above "
            "0. Download it again."
        )


def require_booleans(model_type: str, flags: Mapping[str, Any]) -> None:
    """Raise for the first flag that is neither true nor false."""
    for key, value in flags.items():
        if not isinstance(value, bool):
            raise CheckpointError(
                f"config.json of this {model_type} model says {key}={value!r}; expected true or "
                "false. Download it again."
            )
