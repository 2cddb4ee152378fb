#!/usr/bin/env bash
# openvino 2026.4.1: a model whose weights alone are compressed (codes, scales, float activations in
# the graph) is by default run with its activations rounded to 8 bits, 32 at a time, on processors
# with instructions for it: DYNAMIC_QUANTIZATION_GROUP_SIZE is 32 unless it is set to 0. Asking for
# float32 with INFERENCE_PRECISION_HINT does not change that. Products are off by the rounding, and
# an interpreter of the graph, or another machine, gives others.
#
# Whoever compares a compressed model's outputs with its weights measures both roundings at once.
# Set DYNAMIC_QUANTIZATION_GROUP_SIZE to 0 to have the graph's own arithmetic.
#
# Seen on Linux, Python 3.11, numpy 2.4.6, a Xeon with AVX512-VNNI:
#   asked for groups of None: groups of 32, products off by 5.4e-03
#   asked for groups of 0: groups of 0, products off by 3.7e-07
#
# Exits 0 while that is so, 1 when it changes (or the processor has no such instructions).
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install --quiet openvino==2026.4.1 numpy==2.4.6

cat > "$folder/look.py" <<'PYTHON'
import sys

import numpy as np
import openvino as ov
from openvino import opset13 as op

dice = np.random.default_rng(0)
codes = dice.integers(-8, 8, (512, 16, 32)).astype(np.int8)
scale = dice.uniform(0.01, 0.02, (512, 16, 1)).astype(np.float16)
weight = (codes * scale.astype(np.float32)).reshape(512, 512)
x = op.parameter([-1, 512], ov.Type.f32)
stored = op.convert(op.constant(codes, ov.Type.i4), "f16")
value = op.reshape(op.multiply(stored, op.constant(scale)), [512, 512], False)
y = op.matmul(x, op.convert(value, "f32"), False, True)
model = ov.Model([y], [x])
given = dice.standard_normal((40, 512)).astype(np.float32)
wanted = given @ weight.T
off = {}
for group in (None, "0"):
    how = {"INFERENCE_PRECISION_HINT": "f32"}
    if group is not None:
        how["DYNAMIC_QUANTIZATION_GROUP_SIZE"] = group
    compiled = ov.Core().compile_model(model, "CPU", how)
    found = compiled({0: given})[0]
    off[group] = float(np.linalg.norm(found - wanted) / np.linalg.norm(wanted))
    told = compiled.get_property("DYNAMIC_QUANTIZATION_GROUP_SIZE")
    print(f"asked for groups of {group}: groups of {told}, products off by {off[group]:.1e}")
sys.exit(not (off[None] > 1e-3 and off["0"] < 5e-4))
PYTHON
"$folder/env/bin/python" "$folder/look.py"
