#!/usr/bin/env bash
# mlx-lm 0.32.2: a config.json that transformers 5 has saved is read without its rotary base. It now
# stands in rope_parameters, where mlx-lm looks for it in some families (Qwen 3) and not in others:
# of Llama, OLMo 2, Phi 3, Qwen 2 and Gemma 3 the default of their class is taken, without a word,
# and of Gemma 3 the pattern of windows too (it stands in layer_types). The model loads, runs, and is
# another one.
#
# Whoever saves for mlx-lm must write the old names (rope_theta, rope_scaling, rope_local_base_freq,
# sliding_window_pattern) beside the new ones.
#
# Seen on Linux, Python 3.11, transformers 5.23.0, without torch:
#   llama: saved with 500000, read as 10000
#   olmo2: saved with 500000, read as 10000
#   phi3: saved with 500000, read as 10000
#   qwen2: saved with 500000, read as 1000000
#   gemma3_text: saved with 500000, read as 1000000
#   gemma3_text: every 2nd block saved as seeing all, every 6th read so
#   qwen3: saved with 500000, read as 500000
#
# Exits 0 while that is so, 1 when it changes.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install --quiet "mlx[cpu]==0.32.4" mlx-lm==0.32.2 transformers==5.23.0

cat > "$folder/look.py" <<'PYTHON'
import sys
from pathlib import Path

import transformers as hf
from mlx_lm.utils import load_model

BASE, EVERY = 500000.0, 2
OTHERS = {"llama": "Llama", "olmo2": "Olmo2", "phi3": "Phi3", "qwen2": "Qwen2",
          "gemma3_text": "Gemma3Text", "qwen3": "Qwen3"}
SMALL = {"hidden_size": 32, "intermediate_size": 32, "num_attention_heads": 2,
         "num_key_value_heads": 2, "vocab_size": 40, "pad_token_id": 0}

as_seen = True
for name, family in OTHERS.items():
    rope = {"rope_type": "default", "rope_theta": BASE}
    more = {}
    if name == "gemma3_text":
        rope = {"full_attention": rope, "sliding_attention": rope}
        more = {"layer_types": ["sliding_attention", "full_attention"] * 3, "head_dim": 16}
    config = getattr(hf, f"{family}Config")(
        num_hidden_layers=6, rope_parameters=rope, **SMALL, **more
    )
    folder = Path(sys.argv[1]) / name
    config.save_pretrained(folder)
    model, _ = load_model(folder, lazy=True, strict=False)
    print(f"{name}: saved with {BASE:.0f}, read as {model.args.rope_theta:.0f}")
    as_seen &= (model.args.rope_theta == BASE) == (name == "qwen3")
    if more:
        every = model.args.sliding_window_pattern
        print(f"{name}: every {EVERY}nd block saved as seeing all, every {every}th read so")
        as_seen &= every != EVERY
sys.exit(not as_seen)
PYTHON
"$folder/env/bin/python" "$folder/look.py" "$folder" 2>/dev/null
