"""Checkpoints that are written for measurements are read like any other."""

import numpy as np
import pytest

from tests.helpers.synthetic import SHAPES, write_checkpoint
from workbench import load, open_checkpoint

SMALL = {"hidden_size": 256, "num_hidden_layers": 2, "vocab_size": 600}
SMALL_OF = {
    "7b": {**SMALL, "intermediate_size": 320, "num_attention_heads": 4, "num_key_value_heads": 2},
    "72b": {
        **SMALL,
        "num_attention_heads": 8,
        "num_key_value_heads": 4,
        "moe_intermediate_size": 64,
        "shared_expert_intermediate_size": 128,
    },
}


@pytest.mark.parametrize("stored", ["bf16", "nf4", "int8"])
@pytest.mark.parametrize("which", ["7b", "72b"])
def test_a_synthetic_checkpoint_is_loaded_and_traced(which, stored, tmp_path):
    config = {**SHAPES[which], **SMALL_OF[which]}
    write_checkpoint(tmp_path, config, stored, shard_bytes=1_000_000)
    assert open_checkpoint(tmp_path).stored == stored
    pangu = load(tmp_path, bits={"bf16": 16, "nf4": 4, "int8": 8}[stored], device="cpu")
    trace = pangu.trace([1, 45, 590, 7])
    assert np.isfinite(trace.arrays["top_logprobs"]).all()
    assert (trace.arrays["top_logprobs"][:, 0] < -0.1).all()  # no collapse


def test_the_released_sizes_are_those_of_the_published_models():
    from tests.helpers.tiny import tensor_shapes

    seven, seventy = (tensor_shapes(SHAPES[which]) for which in ("7b", "72b"))
    assert len(seven) + 34 == 479  # with the index's 34 rotary_emb.inv_freq
    assert len(seventy) == 9939
    assert sum(int(np.prod(shape)) for shape in seventy.values()) == 71_988_781_056
