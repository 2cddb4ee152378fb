#!/usr/bin/env bash
# transformers 5.23.0: the first forward of RWKV in eval mode divides some of the model's weights in
# place, attention.output and feed_forward.value of every block from the seventh on by 2, 4, ...
# (rescale_every is 6), and halves its states between blocks to match. It is meant for float16 and
# done in every type. So weights read off a model after a forward are not those of its file, and
# what is saved then is another model unless it is read by this class again: a plain run of the
# blocks one after the other no longer gives the model's logits.
#
# Whoever compares, fingerprints or quantizes the weights of a model that has run must set
# rescale_every to 0 before the first forward.
#
# Seen on Linux, Python 3.11, torch 2.13.0 (CPU), 13 blocks:
#   forward in eval mode: 14 weights changed, by factors 0.25 0.5
#   with rescale_every = 0: 0 weights changed
#   largest difference of the two models' logits: above 1e-6, below 1e-3 (halved states weigh less
#   against the epsilon of the norms)
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
from transformers import RwkvConfig, RwkvForCausalLM


def run(rescale_every):
    torch.manual_seed(0)
    config = RwkvConfig(vocab_size=32, hidden_size=8, num_hidden_layers=13, intermediate_size=16)
    config.rescale_every = rescale_every
    model = RwkvForCausalLM(config).eval()
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    with torch.no_grad():
        logits = model(torch.arange(9)[None], use_cache=False).logits
    factors = set()
    for name, p in model.named_parameters():
        if not torch.equal(p, before[name]):
            ratio = (p / before[name]).median().item()
            factors.add(ratio)
    changed = sum(not torch.equal(p, before[n]) for n, p in model.named_parameters())
    return changed, sorted(factors), logits


changed, factors, logits = run(6)
print(f"forward in eval mode: {changed} weights changed, by factors {' '.join(map(str, factors))}")
unchanged, _, same = run(0)
print(f"with rescale_every = 0: {unchanged} weights changed")
off = (logits - same).abs().max().item()
print(f"largest difference of the two models' logits: {off:.1e}")
sys.exit((changed, factors, unchanged, 1e-6 < off < 1e-3) != (14, [0.25, 0.5], 0, True))
PYTHON
"$folder/env/bin/python" "$folder/look.py"
