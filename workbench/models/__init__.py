"""The Pangu architectures as transformers classes, registered under their own `model_type`.

One file an architecture: `pangu_embedded.py` (dense) and `pangu_pro_moe.py` (grouped experts), which
know nothing of quantization. `tokenization_pangu.py` is the tokenizer, of `vocabulary.py`,
`text_encoder.py` and `text_decoder.py`; `chat_template.py` renders conversations. Start with
`pangu_embedded.py`.

May import the leaves.
"""

from transformers import AutoConfig, AutoModel, AutoModelForCausalLM

from workbench.models.pangu_embedded import (
    PanguEmbeddedConfig,
    PanguEmbeddedForCausalLM,
    PanguEmbeddedModel,
)
from workbench.models.pangu_pro_moe import (
    PanguProMoEConfig,
    PanguProMoEForCausalLM,
    PanguProMoEModel,
)
from workbench.models.tokenization_pangu import PanguTokenizer

for _config, _model, _causal_lm in (
    (PanguEmbeddedConfig, PanguEmbeddedModel, PanguEmbeddedForCausalLM),
    (PanguProMoEConfig, PanguProMoEModel, PanguProMoEForCausalLM),
):
    AutoConfig.register(_config.model_type, _config, exist_ok=True)
    AutoModel.register(_config, _model, exist_ok=True)
    AutoModelForCausalLM.register(_config, _causal_lm, exist_ok=True)

CLASSES = {"PanguProMoE": PanguProMoEForCausalLM, "PanguEmbedded": PanguEmbeddedForCausalLM}

__all__ = [
    "CLASSES",
    "PanguEmbeddedConfig",
    "PanguEmbeddedForCausalLM",
    "PanguEmbeddedModel",
    "PanguProMoEConfig",
    "PanguProMoEForCausalLM",
    "PanguProMoEModel",
    "PanguTokenizer",
]
