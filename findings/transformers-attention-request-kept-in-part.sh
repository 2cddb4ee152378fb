#!/usr/bin/env bash
# transformers 5.23.0: set_attn_implementation returns without an exception for models whose
# attention does not take part in the registry, and they go on with the one they had. For Llama a
# registered function is used. For Falcon nothing changes but a logged line. For MPT nothing
# changes either, yet the config of its attention, attn_config, says from then on that the
# requested one is in use: the record and the computation differ.
#
# Whoever times or checks an attention function of their own over several families must look at
# whether it was called, not at whether the request was accepted or what a config says.
#
# Seen on Linux, Python 3.11, torch 2.13.0 (CPU):
#   llama: accepted, top config says counted, function called
#   falcon: accepted, top config says sdpa, function not called
#   mpt: accepted, top config says eager, attention's config says counted, function not called
#
# Exits 0 while that is so, 1 when it changes.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install --quiet torch==2.13.0 transformers==5.23.0

cat > "$folder/look.py" <<'PYTHON'
import sys

import torch
from transformers import AttentionInterface, AutoModelForCausalLM, FalconConfig, LlamaConfig, MptConfig
from transformers.integrations.sdpa_attention import sdpa_attention_forward

calls = []


def counted(module, query, key, value, attention_mask, **options):
    calls.append(type(module).__name__)
    return sdpa_attention_forward(module, query, key, value, None, scaling=options.get("scaling"))


AttentionInterface.register("counted", counted)
configs = {
    "llama": LlamaConfig(
        vocab_size=64, hidden_size=32, intermediate_size=64, num_hidden_layers=1, num_attention_heads=2
    ),
    "falcon": FalconConfig(
        vocab_size=64, hidden_size=32, num_hidden_layers=1, num_attention_heads=2, multi_query=False
    ),
    "mpt": MptConfig(vocab_size=64, d_model=32, n_layers=1, n_heads=2, max_seq_len=16),
}
seen = {}
for name, config in configs.items():
    model = AutoModelForCausalLM.from_config(config).eval()
    calls.clear()
    model.set_attn_implementation("counted")  # no exception in any of the three
    with torch.no_grad():
        model(torch.arange(8)[None])
    inner = getattr(model.config, "attn_config", None)
    seen[name] = (
        model.config._attn_implementation,
        getattr(inner, "_attn_implementation", None),
        bool(calls),
    )
    print(f"{name}: top config says {seen[name][0]}, attention's config says {seen[name][1]}, "
          f"function {'called' if calls else 'not called'}")
expected = {
    "llama": ("counted", None, True),
    "falcon": ("sdpa", None, False),
    "mpt": ("eager", "counted", False),
}
sys.exit(seen != expected)
PYTHON
"$folder/env/bin/python" "$folder/look.py"
