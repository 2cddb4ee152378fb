#!/usr/bin/env bash
# transformers 5.23.0, gguf 0.19.0: the tokenizer that AutoTokenizer builds of a GGUF file with a
# byte-level vocabulary (tokenizer.ggml.model gpt2: Llama 3, Qwen, SmolLM and most others) goes
# through GPT2Tokenizer, whose default special token <|endoftext|> is added where the vocabulary has
# none, as in Llama 3's. Its id is the number of tokens in the file: one more than the model embeds.
# The text "<|endoftext|>" then becomes that id, and looking it up in the embedding fails.
#
# Whoever checks a tokenizer against a model by vocab_size sees nothing; compare the largest id of
# get_vocab() with the rows of the embedding.
#
# Seen on Linux, Python 3.11, torch 2.13.0 (CPU):
#   file: 260 tokens; vocab_size 260, largest id 260; "a<|endoftext|>" -> ids with 260 among them
#
# Exits 0 while that is so, 1 when it changes.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install --quiet torch==2.13.0 transformers==5.23.0 gguf==0.19.0 accelerate==1.15.0

cat > "$folder/look.py" <<'PYTHON'
import sys

import gguf
import numpy as np
from transformers import AutoTokenizer
from transformers.convert_slow_tokenizer import bytes_to_unicode

folder = sys.argv[1]
tokens = ["<|begin_of_text|>", "<|end_of_text|>", "<|eot_id|>", *bytes_to_unicode().values(), "he"]
writer = gguf.GGUFWriter(f"{folder}/m.gguf", "llama")
writer.add_context_length(64)
writer.add_embedding_length(8)
writer.add_block_count(1)
writer.add_feed_forward_length(8)
writer.add_head_count(2)
writer.add_head_count_kv(2)
writer.add_layer_norm_rms_eps(1e-5)
writer.add_vocab_size(len(tokens))
writer.add_tokenizer_model("gpt2")
writer.add_tokenizer_pre("llama-bpe")
writer.add_token_list(tokens)
writer.add_token_types([3, 3, 3] + [1] * (len(tokens) - 3))
writer.add_token_merges(["h e"])
writer.add_bos_token_id(0)
writer.add_eos_token_id(1)
writer.add_tensor("token_embd.weight", np.zeros((len(tokens), 8), np.float32))
writer.write_header_to_file()
writer.write_kv_data_to_file()
writer.write_tensors_to_file()
writer.close()

tokenizer = AutoTokenizer.from_pretrained(folder, gguf_file="m.gguf")
largest = max(tokenizer.get_vocab().values())
ids = tokenizer("a<|endoftext|>", add_special_tokens=False).input_ids
print(f"file: {len(tokens)} tokens; vocab_size {tokenizer.vocab_size}, largest id {largest}; "
      f"ids of 'a<|endoftext|>': {ids}")
sys.exit((tokenizer.vocab_size, largest, len(tokens) in ids) != (len(tokens), len(tokens), True))
PYTHON
"$folder/env/bin/python" "$folder/look.py" "$folder" 2>/dev/null
