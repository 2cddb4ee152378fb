#!/usr/bin/env bash
# transformers 5.23.0: AutoTokenizer rebuilds some tokenizers from their class and takes only
# vocabulary and merges from tokenizer.json. What the file says of normalisation and of spaces is
# left out, without a warning. With tokenizer_class LlamaTokenizer or GemmaTokenizer an NFKC in the
# file is not done (the ligature U+FB01 and the numeral U+2163 become bytes); with LlamaTokenizer a
# space is put in front of a text to which the file puts none, as in files of Yi's kind.
# PreTrainedTokenizerFast reads the same folders as the tokenizers library does.
#
# Whoever measures text by tokens must cut a few lines with tokenizers.Tokenizer.from_file too, and
# compare.
#
# Seen on Linux, Python 3.11:
#   LlamaTokenizer, NFKC: AutoTokenizer differs from the file, PreTrainedTokenizerFast agrees
#   GemmaTokenizer, NFKC: AutoTokenizer differs from the file, PreTrainedTokenizerFast agrees
#   LlamaTokenizer, no space in front: AutoTokenizer differs from the file, PreTrainedTokenizerFast agrees
#
# Exits 0 while that is so, 1 when it changes.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install --quiet transformers==5.23.0 tokenizers==0.23.3

cat > "$folder/look.py" <<'PYTHON'
import json
import os
import sys
import tempfile

from tokenizers import Tokenizer, normalizers
from tokenizers.models import BPE
from tokenizers.trainers import BpeTrainer
from transformers import AutoTokenizer, PreTrainedTokenizerFast

LINES = ["the cat sat on the mat", "it rains in spain", "five fine words IV"] * 9
SPACES = normalizers.Replace(" ", "\u2581")
CASES = [
    ("LlamaTokenizer", "NFKC", normalizers.Sequence([normalizers.NFKC(), SPACES]), "a \ufb01ne \u2163"),
    ("GemmaTokenizer", "NFKC", normalizers.Sequence([normalizers.NFKC(), SPACES]), "a \ufb01ne \u2163"),
    ("LlamaTokenizer", "no space in front", SPACES, "the cat sat"),
]
SPECIAL = ["<unk>", "<s>", "</s>", *(f"<0x{i:02X}>" for i in range(256))]
as_stated = True
for name, what, normalizer, text in CASES:
    folder = tempfile.mkdtemp(dir=os.path.dirname(__file__))
    engine = Tokenizer(BPE(unk_token="<unk>", byte_fallback=True, fuse_unk=True))
    engine.normalizer = normalizer
    engine.train_from_iterator(LINES, BpeTrainer(vocab_size=300, special_tokens=SPECIAL))
    engine.save(f"{folder}/tokenizer.json")
    with open(f"{folder}/tokenizer_config.json", "w") as file:
        json.dump({"tokenizer_class": name, "bos_token": "<s>", "eos_token": "</s>"}, file)
    with open(f"{folder}/config.json", "w") as file:
        json.dump({"model_type": "llama"}, file)
    own = Tokenizer.from_file(f"{folder}/tokenizer.json").encode(text, add_special_tokens=False).ids
    auto, fast = (
        reader.from_pretrained(folder)(text, add_special_tokens=False).input_ids == own
        for reader in (AutoTokenizer, PreTrainedTokenizerFast)
    )
    print(f"{name}, {what}: AutoTokenizer {'agrees' if auto else 'differs from the file'}, "
          f"PreTrainedTokenizerFast {'agrees' if fast else 'differs'}")
    as_stated &= fast and not auto
sys.exit(0 if as_stated else 1)
PYTHON
"$folder/env/bin/python" "$folder/look.py"
