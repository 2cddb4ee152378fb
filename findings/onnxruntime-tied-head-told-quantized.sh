#!/usr/bin/env bash
# onnxruntime 1.32.0: MatMulNBitsQuantizer says of a tied head that its quantization is complete, and
# leaves it whole. In a graph whose embedding and head are one table the head's product takes the
# table through a Transpose, which is no constant to the quantizer; the line before says that the
# product has no constant weight, the next that it was quantized with 4 bits. Asked to quantize the
# embedding's Gather as well it does, beside the whole table, which the head still needs: the table
# is in the file twice.
#
# Whoever ships such a model must count what the file holds, not what the quantizer says: in small
# multilingual models the table is most of the weights.
#
# Seen on Linux, Python 3.11, onnx 1.23.2, numpy 2.4.6:
#   MatMul: told complete, left whole; 68,489 of 82,173 bytes
#   MatMul, Gather: told complete, left whole; 78,890 of 82,173 bytes; the table is there twice
#
# Exits 0 while that is so, 1 when it changes.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install --quiet numpy==2.4.6 onnx==1.23.2 onnx-ir==1.1.0 onnxruntime==1.32.0

cat > "$folder/look.py" <<'PYTHON'
import io
import logging
import sys

import numpy as np
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.quantization.matmul_nbits_quantizer import MatMulNBitsQuantizer

TOKENS, WIDTH = 256, 64
random = np.random.default_rng(0)
weights = {
    "table": random.normal(size=(TOKENS, WIDTH)).astype(np.float32),
    "inner": random.normal(size=(WIDTH, WIDTH)).astype(np.float32),
}
graph = helper.make_graph(
    [
        helper.make_node("Gather", ["table", "ids"], ["x"], name="embedding"),
        helper.make_node("MatMul", ["x", "inner"], ["h"], name="inner"),
        helper.make_node("Transpose", ["table"], ["turned"], perm=[1, 0]),
        helper.make_node("MatMul", ["h", "turned"], ["logits"], name="head"),
    ],
    "tied",
    [helper.make_tensor_value_info("ids", TensorProto.INT64, ["n"])],
    [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["n", TOKENS])],
    [numpy_helper.from_array(value, name) for name, value in weights.items()],
)
model = helper.make_model(graph, ir_version=10, opset_imports=[helper.make_opsetid("", 21)])
whole = len(model.SerializeToString())

as_seen = True
for kinds in (("MatMul",), ("MatMul", "Gather")):
    said = io.StringIO()
    log = logging.getLogger("onnxruntime.quantization.matmul_nbits_quantizer")
    log.handlers = [logging.StreamHandler(said)]
    log.propagate = False
    log.setLevel(logging.INFO)
    quantizer = MatMulNBitsQuantizer(
        model, block_size=32, is_symmetric=True, op_types_to_quantize=kinds
    )
    quantizer.process()
    made = quantizer.model.model
    told = "complete quantization of head with 4 bits" in said.getvalue()
    left = any(node.name == "head" and node.op_type == "MatMul" for node in made.graph.node)
    tables = [one.name for one in made.graph.initializer if one.name in ("table", "table_Q4")]
    line = f"{', '.join(kinds)}: told {'complete' if told else 'nothing'}, "
    line += f"left {'whole' if left else 'quantized'}; "
    line += f"{len(made.SerializeToString()):,} of {whole:,} bytes"
    if len(tables) == 2:
        line += "; the table is there twice"
    print(line)
    as_seen &= told and left and len(tables) == len(kinds)
sys.exit(not as_seen)
PYTHON
"$folder/env/bin/python" "$folder/look.py" 2>/dev/null
