"""A real file against its model: the plan it becomes, and the command line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers as hf
from hand_written import words
from safetensors.torch import load_file, save_file

from bitgap.errors import ModelError
from bitgap.formats.open import open_checkpoint
from bitgap.lab.lab import Lab
from bitgap.lab.real_files import plan_of_checkpoint
from bitgap.lab.settings import Settings
from bitgap.quant.plan import Plan
from harness import check_figure


def quantized(model: Path, folder: Path, *, bits: int = 4, group: int = 32) -> Path:
    """Writes block linears of a saved model rounded as rtn does, in compressed-tensors' layout."""
    loaded: Any = hf.AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32)
    state = {k: v.clone() for k, v in load_file(model / "model.safetensors").items()}
    top = 2 ** (bits - 1) - 1
    for name, module in loaded.named_modules():
        if not isinstance(module, torch.nn.Linear) or name == "lm_head":
            continue
        weight = module.weight.detach()
        n_groups = -(-weight.shape[1] // group)
        padded = torch.nn.functional.pad(weight, (0, n_groups * group - weight.shape[1]))
        groups = padded.unflatten(-1, (n_groups, group))
        scale = groups.abs().amax(-1) / top
        codes = (groups / scale.unsqueeze(-1)).nan_to_num().round().flatten(-2)
        codes = codes[:, : weight.shape[1]].int() + 2 ** (bits - 1)
        del state[f"{name}.weight"]
        state[f"{name}.weight_packed"] = words(codes.numpy(), bits)
        state[f"{name}.weight_scale"] = scale
        state[f"{name}.weight_shape"] = torch.tensor(weight.shape)
    folder.mkdir()
    save_file({k: v.contiguous() for k, v in state.items()}, folder / "model.safetensors")
    config = json.loads((model / "config.json").read_text())
    told = {"config_groups": {"a": {"weights": {"num_bits": bits, "group_size": group}}}}
    (folder / "config.json").write_text(json.dumps(config | {"quantization_config": told}))
    return folder


def lab_of(model: Path, corpus: Path) -> Lab:
    return Lab.from_pretrained(model, corpus, settings=Settings(arithmetic="exact"))


def edited(folder: Path, out: Path, **changes: torch.Tensor | None) -> Path:
    state = load_file(folder / "model.safetensors")
    for name, value in changes.items():
        name = name.replace("__", ".")
        state = {k: v for k, v in state.items() if k != name}
        if value is not None:
            state[name] = value
    out.mkdir()
    save_file({k: v.contiguous().clone() for k, v in state.items()}, out / "model.safetensors")
    (out / "config.json").write_text((folder / "config.json").read_text())
    return out


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    from cli_samples import write_corpus_folder

    return write_corpus_folder(tmp_path / "corpus")


def test_a_file_rounded_as_a_scheme_scores_as_the_scheme(
    tiny: Path, corpus: Path, tmp_path: Path
) -> None:
    folder = quantized(tiny, tmp_path / "q")
    lab = lab_of(tiny, corpus)
    plan = plan_of_checkpoint(lab, open_checkpoint(folder))
    scores = lab.score([plan, Plan.uniform("rtn4-g32", lab.n_blocks)])
    assert scores.kl_nats.shape[0] == 2
    torch.testing.assert_close(torch.tensor(scores.kl_nats[0]), torch.tensor(scores.kl_nats[1]))
    assert (scores.kl_nats[0] > 0).any()
    assert plan.embedding == plan.head == "fp"


def test_a_file_beyond_the_memory_is_read_block_by_block_and_scores_the_same(
    tiny: Path, corpus: Path, tmp_path: Path
) -> None:
    folder = quantized(tiny, tmp_path / "q")
    held, lazy = lab_of(tiny, corpus), lab_of(tiny, corpus)
    lazy.bank.limit_bytes = 1
    plan = plan_of_checkpoint(held, open_checkpoint(folder))
    assert plan_of_checkpoint(lazy, open_checkpoint(folder)) == plan
    blocks = range(lazy.n_blocks)
    assert all(callable(w) for i in blocks for w in lazy.bank._own[i, plan.blocks[i]].values())
    mine, theirs = lazy.score([plan]), held.score([plan])
    assert (mine.kl_nats == theirs.kl_nats).all() and (mine.nll_nats == theirs.nll_nats).all()


def test_embedding_and_norms_of_the_file_are_used(tiny: Path, corpus: Path, tmp_path: Path) -> None:
    model: Any = hf.AutoModelForCausalLM.from_pretrained(tiny, dtype=torch.float32)
    names = dict(model.named_parameters())
    table = next(n for n in names if names[n] is model.get_input_embeddings().weight)
    norm = next(n for n in names if (".0." in n and "norm" in n) or ".0.ln_1.weight" in n)
    folder = quantized(tiny, tmp_path / "q", bits=8)
    changes = {table: (names[table] * 8).round() / 8, norm: names[norm] * 1.5}
    changed = edited(folder, tmp_path / "r", **{k: v.detach() for k, v in changes.items()})
    lab = lab_of(tiny, corpus)
    plan = plan_of_checkpoint(lab, open_checkpoint(changed))
    checkpoint = open_checkpoint(changed)
    ids = torch.arange(3, 20)[None] % lab.decoder.vocabulary
    with torch.no_grad():
        found = {u.name: u.weight() for u in (*checkpoint.units, *checkpoint.whole)}
        model.load_state_dict(found, strict=False)
        wanted = model(ids).logits
        state = lab.decoder.embed_with(ids, lab.bank.embedding(plan.embedding))
        context = lab.decoder.context_for(*ids.shape)
        for i, scheme in enumerate(plan.blocks):
            state = lab.decoder.run_block(i, state, context, lab.bank.block(i, scheme))
        head = lab.bank.head(plan.head)
        got = torch.nn.functional.linear(lab.decoder.tail.finish(state), head)
    torch.testing.assert_close(got, wanted, rtol=1e-4, atol=1e-4)


def test_a_file_of_another_model_is_refused_by_its_first_tensor(
    tiny: Path, corpus: Path, tmp_path: Path
) -> None:
    folder = quantized(tiny, tmp_path / "q")
    lab = lab_of(tiny, corpus)
    scale = next(k for k in load_file(folder / "model.safetensors") if k.endswith("weight_scale"))
    module = scale.removesuffix(".weight_scale")
    gone = edited(folder, tmp_path / "a", **{f"{module}.{leaf}": None for leaf in
                  ("weight_packed", "weight_scale", "weight_shape")})  # fmt: skip
    with pytest.raises(ModelError, match=f"or incomplete: it lacks {module}.weight"):
        plan_of_checkpoint(lab, open_checkpoint(gone))
    more = edited(folder, tmp_path / "b", extra__weight=torch.ones(3))
    with pytest.raises(ModelError, match=r"it has extra\.weight, which the model does not"):
        plan_of_checkpoint(lab, open_checkpoint(more))


def test_the_command_audits_a_file(tiny: Path, run: Any, tmp_path: Path) -> None:
    folder = quantized(tiny, tmp_path / "q")
    ran = run("audit", tiny, "--corpus", "text", "--against", folder, "--no-report", "--json")
    assert ran.code == 0, ran.err
    assert "own:q:" in ran.out
    whole = run("audit", tiny, "--corpus", "text", "--against", tiny, "--no-report")
    assert whole.code == 1
    assert "holds no quantized tensor" in whole.err
    both = run("audit", tiny, "--corpus", "text", "--against", folder, "--scheme", "rtn3-g32")
    assert both.code == 2
    assert "--against" in both.err


# -- what a run of a file tells ------------------------------------------------------------------


def test_contents_are_told_without_a_model_and_by_block(
    tiny: Path, run: Any, tmp_path: Path
) -> None:
    folder = quantized(tiny, tmp_path / "q")
    held = run("contents", folder, "--json").json
    blocks = [place for place in held["places"] if place["block"] is not None]
    assert [place["name"] for place in blocks] == ["L0", "L1", "L2"]
    assert blocks[0]["by_unit"]["mlp.down_proj"] == "int4 g32"
    assert not any("norm" in unit for unit in blocks[0]["by_unit"])
    n_bytes = sum(place["n_bytes"] for place in held["places"])
    assert n_bytes == held["n_bytes"] == sum(t["n_bytes"] for t in held["tensors"])
    assert sum(place["share"] for place in held["places"]) == pytest.approx(1)
    told = run("contents", folder)
    assert told.code == 0 and "bits a weight over all" in told.out
    run("contents", tiny).refused(1, "holds no quantized tensor")
    run("contents", "nowhere").refused(2, "no such file")


def test_a_run_of_a_file_is_read_back_as_it_was_made(tiny: Path, run: Any, tmp_path: Path) -> None:
    from bitgap.report.run import read_run

    folder = quantized(tiny, tmp_path / "q")
    made = run("audit", tiny, "--corpus", "text", "--against", folder, "--json").json
    read = read_run("1", "bitgap.db")
    assert json.loads(json.dumps(read.result)) == made
    assert read.contents and read.contents.file == "q"
    assert set(made["flips"]) == {"en", "he", "de"}
    for row in made["flips"].values():
        assert 0 <= row["flipped"] <= row["tokens"]
        assert row["share"] == row["flipped"] / row["tokens"]
    page = (tmp_path / "report.html").read_text()
    assert "What q does to 3 languages" in page
    assert "tensor by tensor" in page and "most likely next one changed" in page


def test_several_files_are_a_run_each_and_one_page(tiny: Path, run: Any, tmp_path: Path) -> None:
    files = [quantized(tiny, tmp_path / f"q{bits}", bits=bits) for bits in (8, 3, 4)]
    asked = [part for file in files for part in ("--against", file)]
    ran = run("audit", tiny, "--corpus", "text", *asked, "--json")
    assert ran.code == 0, ran.err
    rows = ran.json["runs"]
    assert [row["label"] for row in rows] == ["q8", "q3", "q4"]
    assert [row["run"] for row in rows] == [1, 2, 3]
    damage = [row["languages"]["en"]["damage"] for row in rows]
    assert damage[0] < damage[2] < damage[1]
    sizes = [row["file"]["n_bytes"] for row in rows]
    assert sizes[1] < sizes[2] < sizes[0]
    page = (tmp_path / "compare.html").read_text()
    assert "Bytes against damage" in page and "dot a file and language" in page
    assert not (tmp_path / "report.html").exists()
    alone = run("audit", tiny, "--corpus", "text", "--against", files[1], "--json").json
    assert alone["languages"]["en"]["damage"] == damage[1]
    beside = run("compare", "1", "2")
    assert "Bytes against damage" in beside.out


def test_files_are_looked_at_before_any_is_measured(tiny: Path, run: Any, tmp_path: Path) -> None:
    folder = quantized(tiny, tmp_path / "q")
    asked = ("audit", tiny, "--corpus", "text", "--against", folder)
    run(*asked, "--against", tiny).refused(1, "holds no quantized tensor")
    run(*asked, "--against", tmp_path / "q" / ".." / "q").refused(2, "given twice")
    assert not (tmp_path / "bitgap.db").exists() or not run("results", "--json").json["runs"]
    cost = run(*asked, "--dry-run", "--json").json["preflight"]
    assert cost["plans"] == 1
    both = quantized(tiny, tmp_path / "r", bits=3)
    assert run(*asked, "--against", both, "--dry-run", "--json").json["preflight"]["plans"] == 2


def test_nothing_of_a_file_stays_in_the_bank(tiny: Path, corpus: Path, tmp_path: Path) -> None:
    from bitgap.jobs.against import audit_file, weights_in_hand

    lab = lab_of(tiny, corpus)
    checkpoint = open_checkpoint(quantized(tiny, tmp_path / "q"))
    with weights_in_hand(lab, checkpoint) as plan:
        found = audit_file(lab, checkpoint, plan)
        assert lab.bank._own
    assert not lab.bank._own and not lab.bank._own_others
    assert not any("own:" in variant for _, variant in lab.bank._modules)
    assert found.contents.file == "q"


# -- the parts of a file ---------------------------------------------------------------------------


@pytest.mark.parametrize("units", [False, True])
def test_the_command_maps_the_parts_of_a_file(
    units: bool, tiny: Path, run: Any, tmp_path: Path
) -> None:
    folder = quantized(tiny, tmp_path / "q", bits=3)
    asked = ("map", tiny, "--corpus", "text", "--against", folder, *(["--units"] if units else []))
    ran = run(*asked, "--json", "--out", tmp_path / "out")
    assert ran.code == 0, ran.err
    parts = ran.json["parts"]
    assert len(parts) == (21 if units else 3)
    assert all(part["extra_bytes"] > 0 and part["alone"] > 0 for part in parts)
    damage = run("audit", tiny, "--corpus", "text", "--against", folder, "--json").json
    told = [row["damage"] for row in damage["languages"].values()]
    assert ran.json["whole"] == pytest.approx(told, rel=0.05)
    page = (tmp_path / "out" / "report.html").read_text()
    assert "Which parts of q hurt whom" in page
    figure = json.loads((tmp_path / "out" / "parts.vl.json").read_text())
    check_figure(figure)
    worth, harder, costs = figure["concat"]
    assert costs["title"] == ["What a byte more buys"]
    drawn = [point for point in worth["data"]["values"] if point["kind"] == "alone"]
    assert len(drawn) == len(parts) == len(costs["data"]["values"])
    factors = [p["value"] / part["alone"] for p, part in zip(drawn, parts, strict=True)]
    assert factors == pytest.approx([factors[0]] * len(parts), rel=1e-3)
    assert {row["language"] for row in harder["data"]["values"]} == {"en", "he", "de"}
    run(*asked, "--scheme", "rtn3-g32").refused(2, "--against takes the parts")


def test_matrices_that_work_only_together_are_not_put_in_alone(
    tiny: Path, run: Any, tmp_path: Path
) -> None:
    state = load_file(tiny / "model.safetensors")
    scale = torch.tensor([0.4, 2.5]).repeat(16)
    norm = state["model.layers.1.post_attention_layernorm.weight"]
    folded = {"model.layers.1.post_attention_layernorm.weight": norm / scale}
    pairs = ("model.layers.1.mlp.up_proj.weight", "model.layers.1.mlp.gate_proj.weight")
    folded |= {name: state[name] * scale for name in pairs}
    v, o = (state[f"model.layers.2.self_attn.{x}_proj.weight"] for x in "vo")
    inside = {"model.layers.2.self_attn.v_proj.weight": v / scale[:, None],
              "model.layers.2.self_attn.o_proj.weight": o * scale}  # fmt: skip
    for name, changed in (("norm", folded), ("inside", inside)):
        model = tmp_path / f"model-{name}"
        model.mkdir()
        save_file({k: v.clone() for k, v in (state | changed).items()}, model / "model.safetensors")
        (model / "config.json").write_text((tiny / "config.json").read_text())
        folder = quantized(model, tmp_path / name, bits=8)
        asked = ("map", tiny, "--corpus", "text", "--against", folder, "--no-report")
        assert run(*asked).code == 0
        run(*asked, "--units").refused(1, "rescaled", "leave out --units")
    plain = quantized(tiny, tmp_path / "plain", bits=2)
    asked = ("map", tiny, "--corpus", "text", "--against", plain, "--no-report", "--units")
    assert run(*asked).code == 0
