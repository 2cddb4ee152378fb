#!/usr/bin/env bash
# transformers 5.23.0, gguf 0.19.0: a GGUF file of a Llama 3.1 or later holds its rotary scaling as
# a tensor, rope_freqs.weight, one factor for each angle, and no key of the metadata says so.
# from_pretrained(gguf_file=...) reads the file without a warning and leaves the scaling out: the
# loaded model's rotary angles are unscaled, its config says rope_type "default", and logits differ
# from those of the model that was written, from the first positions on. llama.cpp uses the tensor.
#
# Whoever measures a model loaded from such a file measures another model. Compare inv_freq with
# the factors of the file, or give the model's own config.json.
#
# Seen on Linux, Python 3.11, torch 2.13.0 (CPU), accelerate 1.15.0:
#   scaled: written llama3, lowest frequency 0.00007; loaded default, 0.00237; logits differ by 1.02
#   of the largest. The same of a model without scaling: 0.00000
#
# Exits 0 while that is so, 1 when it changes.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install --quiet torch==2.13.0 transformers==5.23.0 gguf==0.19.0 accelerate==1.15.0

cat > "$folder/look.py" <<'PYTHON'
import math
import sys
from pathlib import Path

import gguf
import numpy as np
import torch
from transformers import AutoModelForCausalLM, LlamaConfig

folder = Path(sys.argv[1])
SCALING = {"rope_type": "llama3", "factor": 32.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
           "original_max_position_embeddings": 64, "rope_theta": 1000.0}


def write(path, model, factors):
    config = model.config
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_freq_base(config.rope_parameters["rope_theta"])
    writer.add_rope_dimension_count(config.head_dim)
    writer.add_key_length(config.head_dim)
    writer.add_value_length(config.head_dim)
    writer.add_vocab_size(config.vocab_size)
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list([f"t{i}" for i in range(config.vocab_size)])
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.LLAMA, config.num_hidden_layers)
    for name, value in model.state_dict().items():
        array = value.numpy()
        if name.endswith(("q_proj.weight", "k_proj.weight")):
            heads = array.shape[0] // config.head_dim
            array = array.reshape(heads, 2, -1, array.shape[1]).swapaxes(1, 2).reshape(array.shape)
        writer.add_tensor(names.get_name(name, (".weight",)), np.ascontiguousarray(array))
    if factors is not None:
        writer.add_tensor("rope_freqs.weight", factors)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def factors_of(config):
    told, found = config.rope_parameters, []
    for k in range(0, config.head_dim, 2):
        turns = told["original_max_position_embeddings"] / (
            2 * math.pi * told["rope_theta"] ** (k / config.head_dim))
        share = (turns - told["low_freq_factor"]) / (
            told["high_freq_factor"] - told["low_freq_factor"])
        share = min(max(share, 0.0), 1.0)
        found.append(1 / ((1 - share) / told["factor"] + share))
    return np.array(found, np.float32)


seen = {}
for label, rope in (("scaled", SCALING), ("plain", {"rope_type": "default", "rope_theta": 1000.0})):
    config = LlamaConfig(
        vocab_size=64, hidden_size=64, intermediate_size=96, num_hidden_layers=2,
        num_attention_heads=4, num_key_value_heads=2, head_dim=16, rope_parameters=rope,
        tie_word_embeddings=False, initializer_range=0.2,
    )
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config).eval()
    write(folder / f"{label}.gguf", model, factors_of(config) if label == "scaled" else None)
    loaded = AutoModelForCausalLM.from_pretrained(
        folder, gguf_file=f"{label}.gguf", dtype=torch.float32).eval()
    ids = torch.randint(64, (1, 48), generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        wanted, got = model(ids).logits, loaded(ids).logits
    difference = ((wanted - got).abs().max() / wanted.abs().max()).item()
    kinds = [m.config.rope_parameters["rope_type"] for m in (model, loaded)]
    lowest = [m.model.rotary_emb.inv_freq.min().item() for m in (model, loaded)]
    print(f"{label}: written {kinds[0]} {lowest[0]:.5f}, loaded {kinds[1]} {lowest[1]:.5f}, "
          f"logits differ by {difference:.5f} of the largest")
    seen[label] = (kinds[1], difference > 1e-2)
sys.exit(seen != {"scaled": ("default", True), "plain": ("default", False)})
PYTHON
"$folder/env/bin/python" "$folder/look.py" "$folder" 2>/dev/null
