"""Files that cannot be audited against a model: what is said, and that nothing is lost."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from test_against import edited, quantized

from cli_samples import save_model

pytestmark = pytest.mark.filterwarnings("ignore")


def test_a_file_that_cannot_be_audited_is_a_message(tiny: Path, run: Any, tmp_path: Path) -> None:
    folder = quantized(tiny, tmp_path / "q")
    asked = ("audit", tiny, "--corpus", "text", "--no-report", "--against")
    # Of another model, of other shapes or of more blocks: the first tensor that does not fit.
    wide = quantized(save_model(tmp_path / "wide", width=64), tmp_path / "wide-q")
    first = "model.layers.0.mlp.down_proj.weight is 64 x 128 in the file and 32 x 64 in the model"
    run(*asked, wide).refused(1, "wide-q is no checkpoint of this model", first)
    more = quantized(save_model(tmp_path / "more", blocks=4), tmp_path / "more-q")
    run(*asked, more).refused(1, "it has model.layers.3.", "which the model does not")
    scale = "model.layers.1.mlp.up_proj.weight_scale"
    gone = edited(folder, tmp_path / "no-scale", **{scale.replace(".", "__"): None})
    run(*asked, gone).refused(1, "model.layers.1.mlp.up_proj", "weight_scale")
    # The base is itself quantized, as a folder.
    run("audit", folder, "--corpus", "text", "--against", folder).refused(1, "already quantized")
    # Another tokenizer of the same size.
    ours = json.loads((tiny / "tokenizer.json").read_text())
    shutil.copy(tiny / "tokenizer.json", folder)
    ran = run(*asked, folder, "--json")
    assert ran.code == 0, ran.err
    words = list(ours["model"]["vocab"])
    ours["model"]["vocab"] = {word: i for i, word in enumerate([*words[:2], *words[3:], words[2]])}
    (folder / "tokenizer.json").write_text(json.dumps(ours))
    run(*asked, folder).refused(1, "another tokenizer", f"token 2 is {words[3]!r}")
    run("map", tiny, "--corpus", "text", "--against", folder).refused(1, "another tokenizer")
    run("gate", tiny, "--corpus", "text", "--against", folder, "--max-harm", "1").refused(
        1, "another tokenizer"
    )
    # What was kept before is still there.
    assert len(run("results", "--json").json["runs"]) == 1


@pytest.mark.parametrize("verb", [["audit"], ["map"], ["gate", "--max-harm", "1"]])
def test_a_damaged_file_is_told_before_the_model_is_read(
    tiny: Path, run: Any, tmp_path: Path, verb: list[str]
) -> None:
    cut = quantized(tiny, tmp_path / "cut")
    weights = cut / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1000])
    ran = run(*verb, tiny, "--corpus", "text", "--against", cut)
    ran.refused(1, "model.safetensors")
    assert f"reading {cut}" in ran.err and f"reading {tiny}" not in ran.err


def test_a_gguf_that_is_cut_or_quantized_is_no_base(run: Any, tmp_path: Path) -> None:
    pytest.importorskip("gguf")
    from gguf_files import write_gguf
    from tiny_checkpoints import tiny_model

    model = tiny_model("llama", vocab_size=300, max_position_embeddings=512)
    write_gguf(tmp_path / "q8.gguf", model, kind="Q8_0")
    whole = (tmp_path / "q8.gguf").read_bytes()
    (tmp_path / "cut.gguf").write_bytes(whole[: len(whole) * 2 // 3])
    run("contents", tmp_path / "cut.gguf").refused(1, "cut.gguf", "copy it again")
    asked = ("--languages", "en,de", "--no-report", "--against", tmp_path / "q8.gguf")
    run("audit", tmp_path / "q8.gguf", "--corpus", "text", *asked).refused(
        1, "itself quantized (Q8_0)"
    )
