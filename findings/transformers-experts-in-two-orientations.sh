#!/usr/bin/env bash
# transformers 5.23.0: experts of a mixture are one parameter of three dimensions, and families keep
# it in two orientations under the same names. Mixtral and Qwen3-MoE keep mlp.experts.gate_up_proj
# as (experts, out, in), as linears are; GPT-OSS and Llama 4 keep gate_up_proj as (experts, in, out).
# The experts' module has a flag, is_transposed, in GPT-OSS; in Llama 4 nothing says it.
#
# Whoever rounds experts row by row, as linears are rounded, gives an output's scale to an input in
# half of these families, and nothing fails: shapes fit, and where width and inner width are equal
# nothing can be seen from them.
#
# Seen on Linux, Python 3.11, torch 2.13.0 (CPU), width 8, inner width 12, 3 experts:
#   Mixtral: gate_up_proj 3 x 24 x 8, (out, in); is_transposed False
#   Qwen3Moe: gate_up_proj 3 x 24 x 8, (out, in); is_transposed False
#   GptOss: gate_up_proj 3 x 8 x 24, (in, out); is_transposed True
#   Llama4: gate_up_proj 3 x 8 x 24, (in, out); is_transposed None
#
# Exits 0 while that is so, 1 when it changes.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install --quiet torch==2.13.0 transformers==5.23.0

cat > "$folder/look.py" <<'PYTHON'
import sys

from transformers import (
    GptOssConfig,
    GptOssForCausalLM,
    Llama4ForCausalLM,
    Llama4TextConfig,
    MixtralConfig,
    MixtralForCausalLM,
    Qwen3MoeConfig,
    Qwen3MoeForCausalLM,
)

common = {
    "vocab_size": 32,
    "hidden_size": 8,
    "intermediate_size": 12,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
    "head_dim": 4,
    "pad_token_id": 0,
}
models = {
    "Mixtral": MixtralForCausalLM(MixtralConfig(**common, num_local_experts=3)),
    "Qwen3Moe": Qwen3MoeForCausalLM(
        Qwen3MoeConfig(**common, num_experts=3, num_experts_per_tok=1, moe_intermediate_size=12)
    ),
    "GptOss": GptOssForCausalLM(GptOssConfig(**common, num_local_experts=3, num_experts_per_tok=1)),
    "Llama4": Llama4ForCausalLM(
        Llama4TextConfig(**common, num_local_experts=3, intermediate_size_mlp=12)
    ),
}
seen = {}
for name, model in models.items():
    (experts,) = (m for m in model.modules() if type(m).__name__.endswith("Experts"))
    shape = tuple(experts.gate_up_proj.shape)
    seen[name] = shape, getattr(experts, "is_transposed", None)
    order = "(out, in)" if shape[-1] == 8 else "(in, out)"
    print(f"{name}: gate_up_proj {' x '.join(map(str, shape))}, {order}; "
          f"is_transposed {seen[name][1]}")
sys.exit(seen != {
    "Mixtral": ((3, 24, 8), False),
    "Qwen3Moe": ((3, 24, 8), False),
    "GptOss": ((3, 8, 24), True),
    "Llama4": ((3, 8, 24), None),
})
PYTHON
"$folder/env/bin/python" "$folder/look.py"
