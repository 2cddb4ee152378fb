"""Folders that must not be taken for full-precision models, each made here and refused by name."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers as hf
from safetensors.torch import load_file, save_file
from test_load import LLAMA, edit_config, edit_weights, save
from tokenizers import AddedToken

from bitgap.errors import ModelError
from bitgap.models import load
from bitgap.models.load import load_model

MATRIX = "model.layers.0.mlp.up_proj"


@pytest.fixture(scope="module")
def saved(tmp_path_factory: Any) -> Path:
    folder = tmp_path_factory.mktemp("saved")
    save(folder, hf.LlamaConfig(**LLAMA))
    return folder


@pytest.fixture
def folder(saved: Path, tmp_path: Path) -> Path:
    shutil.copytree(saved, tmp_path / "model")
    return tmp_path / "model"


def float8(folder: Path, scale: str | None) -> None:
    def change(tensors: dict[str, torch.Tensor]) -> None:
        for name in [n for n in tensors if "_proj.weight" in n]:
            tensors[name] = tensors[name].to(torch.float8_e4m3fn)
            if scale:
                tensors[name.replace("weight", scale)] = torch.ones(1, 1)

    edit_weights(folder, change)


def add(**tensors: torch.Tensor) -> Callable[[Path], None]:
    named = {f"{MATRIX}.{leaf}": tensor for leaf, tensor in tensors.items()}
    return lambda folder: edit_weights(folder, lambda t: t.update(named))


def in_place_of_the_matrix(**tensors: torch.Tensor) -> Callable[[Path], None]:
    def spoil(folder: Path) -> None:
        edit_weights(folder, lambda t: t.pop(f"{MATRIX}.weight"))
        add(**tensors)(folder)

    return spoil


def modelopt(folder: Path) -> None:
    float8(folder, "weight_scale")
    (folder / "hf_quant_config.json").write_text(
        json.dumps({"quantization": {"quant_algo": "FP8"}})
    )


CODES = torch.zeros(24, 2, dtype=torch.int32)
QUANTIZED: dict[str, tuple[Callable[[Path], Any], str]] = {
    # K11, K12: codes of eight bits that load as numbers, with or without what they are scaled by.
    "float8 with scales": (lambda f: float8(f, "weight_scale_inv"), r"F8_E4M3 .*weight_scale_inv"),
    "float8 alone": (lambda f: float8(f, None), r"14 matrices of type F8_E4M3"),
    "modelopt": (modelopt, r"F8_E4M3.*weight_scale.*the file hf_quant_config\.json"),
    "a side file alone": (
        lambda f: (f / "quantize_config.json").write_text("{}"),
        r"as the file quantize_config\.json says.*types \(F32\)",
    ),
    # K14, K32: what GPTQ, AWQ, bitsandbytes and others write, without a key that says so.
    "gptq": (
        in_place_of_the_matrix(
            qweight=CODES,
            qzeros=CODES[:3].clone(),
            scales=torch.ones(1, 24),
            g_idx=CODES[:, 0].clone(),
        ),
        r"I32.*tensors that only a quantizer writes \(.*(qweight|g_idx)",
    ),
    "bitsandbytes int8": (
        lambda f: (
            edit_weights(f, lambda t: t.update({f"{MATRIX}.weight": t[f"{MATRIX}.weight"].char()})),
            add(SCB=torch.ones(24))(f),
        ),
        r"1 matrices of type I8 \(.*SCB",
    ),
    "bitsandbytes nf4": (
        in_place_of_the_matrix(
            weight=torch.zeros(192, 1, dtype=torch.uint8),
            absmax=torch.ones(6),
            quant_map=torch.ones(16),
        ),
        r"type U8 .*(absmax|quant_map)",
    ),
    "compressed-tensors": (
        in_place_of_the_matrix(weight_packed=CODES, weight_scale=torch.ones(24, 1)),
        r"weight_packed",
    ),
    "mlx": (
        in_place_of_the_matrix(weight=CODES, scales=torch.ones(24, 1), biases=torch.ones(24, 1)),
        r"scales",
    ),
    "flags": (
        lambda f: edit_weights(f, lambda t: t.update({f"{MATRIX}.weight": CODES.bool()})),
        r"1 matrices of type BOOL",
    ),
    "a norm of eight bits": (
        lambda f: edit_weights(
            f, lambda t: t.update({"model.norm.weight": torch.ones(16).to(torch.float8_e4m3fn)})
        ),
        r"1 tensors of type F8_E4M3 \(model\.norm\.weight\)",
    ),
    "mlx key": (lambda f: edit_config(f, quantization={"bits": 4}), r"quantization in its config"),
    # K33: weights made whole again, with the key left in.
    "key left in": (
        lambda f: edit_config(f, quantization_config={"quant_method": "gptq", "bits": 4}),
        r"as quantization_config in its config\.json says.*plain types \(F32\).*removing the key",
    ),
    "key of a part": (
        lambda f: edit_config(f, text_config={"quantization_config": {"bits": 4}}),
        r"text_config\.quantization_config",
    ),
}


@pytest.mark.parametrize("kind", QUANTIZED)
def test_quantized_weights_are_refused_by_what_was_found(
    kind: str, folder: Path, caplog: Any
) -> None:
    spoil, found = QUANTIZED[kind]
    spoil(folder)
    with pytest.raises(ModelError, match=f"already quantized.*{found}") as refusal:
        load_model(folder)
    assert str(folder) in str(refusal.value) and "full-precision weights" in str(refusal.value)
    assert not caplog.records


def test_what_a_class_itself_calls_a_scale_is_no_quantizers(tmp_path: Path) -> None:
    # Masks and counters of old checkpoints are integers, and a norm's gain may be called scale.
    save(tmp_path, hf.LlamaConfig(**LLAMA))
    extra = {
        "model.layers.0.attn.bias": torch.ones(1, 1, 4, 4, dtype=torch.uint8),
        "model.position_ids": torch.arange(8)[None],
        "model.norm.scale": torch.ones(16),
    }
    edit_weights(tmp_path, lambda t: t.update(extra))
    assert load_model(tmp_path).info.n_blocks == 2


# -- other formats, adapters ------------------------------------------------------------------


def adapter(folder: Path) -> None:
    (folder / "adapter_config.json").write_text(json.dumps({"peft_type": "LORA"}))
    save_file({"a": torch.ones(2)}, folder / "adapter_model.safetensors")


def adapter_alone(folder: Path) -> None:
    for file in ("config.json", "model.safetensors"):
        (folder / file).unlink()
    adapter(folder)


def adapter_without_config(folder: Path) -> None:
    save_file({"a": torch.ones(2)}, folder / "adapter_model.safetensors")


def pointer(file: str) -> Callable[[Path], Any]:
    # What Git keeps of a large file; a clone without Git LFS has it in the file's place.
    text = f"version https://git-lfs/spec/v1\noid sha256:{'0' * 64}\nsize 123456\n"
    return lambda folder: (folder / file).write_text(text)


def shards_without_index(folder: Path) -> None:
    tensors = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    for i, part in enumerate((sorted(tensors)[:5], sorted(tensors)[5:]), start=1):
        file = folder / f"model-0000{i}-of-00002.safetensors"
        save_file({key: tensors[key] for key in part}, file, metadata={"format": "pt"})


def gguf(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "model-q4.gguf")


def gguf_alone(folder: Path) -> None:
    gguf(folder)
    (folder / "config.json").unlink()


OTHERS: dict[str, tuple[Callable[[Path], Any], str]] = {
    "adapter alone": (adapter_alone, r"adapter \(adapter_config\.json\) and no model; merge it"),
    "adapter beside": (adapter, r"beside the weights of a whole model; merge it.*move the adapter"),
    "adapter without its config": (
        adapter_without_config,
        r"holds an adapter \(adapter_model\.safetensors\) beside the weights of a whole model",
    ),
    "pointer": (
        pointer("model.safetensors"),
        r"model\.safetensors is only a pointer to a large file.*git lfs pull",
    ),
    "pointer of a tokenizer": (
        pointer("tokenizer.json"),
        r"tokenizer\.json is only a pointer to a large file.*git lfs pull",
    ),
    "no index": (
        shards_without_index,
        r"model-00001-of-00002\.safetensors, model-00002.*and not the index .*copy or download",
    ),
    "another name": (
        lambda f: (f / "model.safetensors").rename(f / "weights.safetensors"),
        r"holds weights\.safetensors and neither model\.safetensors nor its index",
    ),
    "gguf": (gguf, r"holds model-q4\.gguf and no \.safetensors.*itself, such as .*model-q4\.gguf,"),
    "gguf alone": (gguf_alone, r"holds model-q4\.gguf and no \.safetensors.*name the GGUF file"),
    "consolidated": (
        lambda f: (f / "model.safetensors").rename(f / "consolidated.safetensors"),
        r"holds consolidated\.safetensors, the weights in their maker's own layout",
    ),
}


@pytest.mark.parametrize("kind", OTHERS)
def test_other_formats_are_refused_by_name(kind: str, folder: Path) -> None:
    spoil, message = OTHERS[kind]
    spoil(folder)
    with pytest.raises(ModelError, match=message):
        load_model(folder)


def test_a_path_to_a_gguf_file_is_told_so(folder: Path) -> None:
    gguf(folder)
    with pytest.raises(ModelError, match=r"is a GGUF file; .*load_gguf read it"):
        load_model(folder / "model-q4.gguf")


# -- configs, tokens, memory ------------------------------------------------------------------


def test_a_config_of_another_model_is_refused_before_memory_is_taken(
    folder: Path, monkeypatch: Any
) -> None:
    (folder / "config.json").write_text(json.dumps({"model_type": "llama"}))
    monkeypatch.setattr(load, "_from_folder", lambda *_: pytest.fail("weights were read"))
    with pytest.raises(ModelError, match=r"of two models \(the config describes 6,7\d\d,\d+,\d+ "):
        load_model(folder)


def test_an_added_token_beyond_the_embedding_is_refused(folder: Path) -> None:
    tokenizer = hf.AutoTokenizer.from_pretrained(folder)
    tokenizer.add_tokens([f"extra{i}" for i in range(14)])
    tokenizer.save_pretrained(folder)
    with pytest.raises(ModelError, match=r"the id 17 \('extra13'\) and the model embeds 16 tokens"):
        load_model(folder)


def test_a_begin_token_beyond_the_embedding_is_refused_and_an_image_token_is_not(
    folder: Path,
) -> None:
    tokenizer: Any = hf.AutoTokenizer.from_pretrained(folder)
    fill = [AddedToken(f"<image{i}>", special=True) for i in range(14)]
    tokenizer.add_special_tokens({"additional_special_tokens": fill})
    tokenizer.save_pretrained(folder)
    assert load_model(folder).info.vocabulary == 16
    tokenizer.add_special_tokens({"bos_token": AddedToken("<begin>", special=True)})
    tokenizer.save_pretrained(folder)
    with pytest.raises(ModelError, match=r"the id 18 \('<begin>'\)"):
        load_model(folder)


@pytest.mark.parametrize(
    "error", [MemoryError(), RuntimeError("DefaultCPUAllocator: can't allocate memory: 9 bytes")]
)
def test_a_model_that_does_not_fit_is_told_its_size(
    folder: Path, monkeypatch: Any, error: Exception
) -> None:
    def fail(*_: Any) -> Any:
        raise error

    monkeypatch.setattr(load, "_from_folder", fail)
    with pytest.raises(ModelError, match=r"does not fit the memory.*GiB in float32") as refusal:
        load_model(folder)
    n = sum(t.numel() for t in load_file(folder / "model.safetensors").values())
    assert f"{n:,} weights" in str(refusal.value) and "damaged" not in str(refusal.value)


def test_a_wrapper_around_a_text_model_is_read_and_others_are_told_what_they_are(
    tmp_path: Path,
) -> None:
    vision = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "image_size": 28}
    vision |= {"num_attention_heads": 2, "patch_size": 14}
    text = {"model_type": "mistral", "head_dim": 8, **LLAMA}
    config = hf.Mistral3Config(text_config=text, vision_config=vision, image_token_index=3)
    own = hf.Mistral3ForConditionalGeneration(config)
    save(tmp_path, hf.LlamaConfig(**LLAMA))  # for its tokenizer
    (tmp_path / "model.safetensors").unlink()
    own.save_pretrained(tmp_path)
    loaded = load_model(tmp_path)
    assert (loaded.info.n_blocks, loaded.info.class_name) == (2, "Mistral3ForConditionalGeneration")
    ids = torch.arange(4, 12)[None]
    with torch.no_grad():
        torch.testing.assert_close(loaded.model(ids).logits, own.eval()(ids).logits)
    edit_config(tmp_path, architectures=["Mistral3Model"])
    with pytest.raises(ModelError, match=r"names Mistral3Model\) cannot be read as a causal"):
        load_model(tmp_path)


# -- pickles, and files beside the weights ----------------------------------------------------


def pickled(folder: Path, change: Callable[[dict[str, torch.Tensor]], Any]) -> None:
    edit_weights(folder, change)
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()


def test_pickled_weights_are_looked_into_like_others(folder: Path) -> None:
    def codes(tensors: dict[str, torch.Tensor]) -> None:
        key = f"{MATRIX}.weight"
        tensors |= {key: tensors[key].to(torch.float8_e4m3fn)}
        tensors[f"{key}_scale_inv"] = torch.ones(1)

    pickled(folder, codes)
    with pytest.raises(ModelError, match=r"already quantized.*F8_E4M3FN.*weight_scale_inv"):
        load_model(folder, allow_pickle=True)


def test_pickled_weights_of_another_size_are_refused_before_they_are_read(folder: Path) -> None:
    pickled(folder, lambda t: None)
    assert load_model(folder, allow_pickle=True).info.n_blocks == 2
    edit_config(folder, hidden_size=8)
    with pytest.raises(ModelError, match=r"of two models"):
        load_model(folder, allow_pickle=True)


def test_what_lies_beside_the_weights_is_not_taken_for_them(folder: Path) -> None:
    before = load_model(folder).info
    save_file({"a.weight": CODES}, folder / "consolidated.safetensors")
    save_file({"model.norm.weight": torch.ones(3)}, folder / "model-00001-of-00009.safetensors")
    assert load_model(folder).info == before
