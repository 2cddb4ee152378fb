"""Tiny models of four shapes, and what each toolchain makes of them."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import torch
import transformers as hf

VOCABULARY = 96
ROTARY = {
    "vocab_size": VOCABULARY,
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 64,
    "head_dim": 16,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 0,
}


def tiny_config(shape: str, **changes: Any) -> Any:
    """Returns the config of a tiny model of a shape."""
    if shape == "gpt2":
        settings = {"vocab_size": VOCABULARY, "n_embd": 64, "n_layer": 2, "n_head": 4}
        settings |= {"n_positions": 64, "bos_token_id": 1, "eos_token_id": 2}
        return hf.GPT2Config(**settings | changes)
    makers = {
        "llama": (hf.LlamaConfig, {"tie_word_embeddings": False}),
        "qwen2": (hf.Qwen2Config, {"tie_word_embeddings": True}),
        "gemma": (hf.GemmaConfig, {"tie_word_embeddings": True}),
        "gemma2": (
            hf.Gemma2Config,
            {"sliding_window": 8, "query_pre_attn_scalar": 16, "tie_word_embeddings": True},
        ),
        "qwen3": (hf.Qwen3Config, {"tie_word_embeddings": True}),
        "gemma3": (
            hf.Gemma3TextConfig,
            {"sliding_window": 8, "query_pre_attn_scalar": 16, "tie_word_embeddings": True}
            | {"layer_types": ["sliding_attention", "full_attention"]},
        ),
    }
    config, own = makers[shape]
    return config(**ROTARY | own | changes)


def tiny_model(shape: str, **changes: Any) -> Any:
    """Returns a tiny random model whose weights are no multiples of anything."""
    with torch.random.fork_rng():
        torch.manual_seed(5)
        model = hf.AutoModelForCausalLM.from_config(tiny_config(shape, **changes))
        with torch.no_grad():
            for parameter in model.parameters():
                if parameter.ndim == 1:
                    parameter.add_(torch.randn_like(parameter) * 0.1)
    return model.float().eval()


def linears(model: Any) -> dict[str, torch.Tensor]:
    """Returns every linear's weight (out, in) by its parameter's name, the head left out."""
    found = {}
    for name, module in model.named_modules():
        if isinstance(module, hf.pytorch_utils.Conv1D):
            found[f"{name}.weight"] = module.weight.detach().T
        elif isinstance(module, torch.nn.Linear) and not name.endswith("lm_head"):
            found[f"{name}.weight"] = module.weight.detach()
    return found


# -- toolchains: each writes a folder and returns the weights as it dequantizes them itself -------

Weights = dict[str, torch.Tensor]


def write_torchao(folder: Path, shape: str = "llama", how: str = "int4") -> Weights:
    from torchao.quantization import (
        Float8WeightOnlyConfig,
        Int8WeightOnlyConfig,
        IntxWeightOnlyConfig,
        MappingType,
        PerGroup,
    )

    config = {
        "int4": lambda: IntxWeightOnlyConfig(torch.int4, PerGroup(32)),
        "int3": lambda: IntxWeightOnlyConfig(torch.int3, PerGroup(32)),
        "asymmetric": lambda: IntxWeightOnlyConfig(
            torch.int4, PerGroup(32), mapping_type=MappingType.ASYMMETRIC
        ),
        "int8": Int8WeightOnlyConfig,
        "float8": Float8WeightOnlyConfig,
    }[how]()
    source = folder.with_name(f"{folder.name}-source")
    tiny_model(shape).save_pretrained(source)
    quantized = hf.AutoModelForCausalLM.from_pretrained(
        source, dtype=torch.float32, quantization_config=hf.TorchAoConfig(config)
    )
    quantized.save_pretrained(folder)
    return {
        f"{name}.weight": module.weight.dequantize().detach()
        for name, module in quantized.named_modules()
        if isinstance(module, torch.nn.Linear) and not name.endswith("lm_head")
    }


def write_compressed_tensors(
    folder: Path,
    bits: int = 4,
    kind: str = "int",
    group: int | None = 32,
    symmetric: bool = True,
    config_key: str = "quantization_config",
    scale_dtype: torch.dtype = torch.float32,
) -> Weights:
    """Compresses every linear by the library's own compressor; scales are computed here."""
    from compressed_tensors.compressors import BaseCompressor
    from compressed_tensors.quantization import QuantizationArgs, QuantizationScheme

    model, state, weights = tiny_model("llama"), {}, {}
    strategy = "tensor_group" if kind == "nvfp4" else "group" if group else "channel"
    arguments = QuantizationArgs(
        num_bits=bits,
        type="int" if kind in ("int", "naive") else "float",
        symmetric=symmetric,
        strategy=strategy,
        group_size=group,
    )
    scheme = QuantizationScheme(targets=["Linear"], weights=arguments)
    name = {
        "int": "pack-quantized",
        "nvfp4": "nvfp4-pack-quantized",
        "mxfp4": "mxfp4-pack-quantized",
        "mxfp6": "mxfp6-pack-quantized",
        "mxfp8": "mxfp8-quantized",
        "float": "float-quantized",
        "naive": "int-quantized",
    }[kind]
    compressor = BaseCompressor.get_value_from_registry(name)
    found = linears(model)
    for key, weight in found.items():
        parts = {"weight": weight.clone(), **_parameters(weight, kind, bits, group, symmetric)}
        parts = {k: v.to(scale_dtype) if v.is_floating_point() and k != "weight" else v
                 for k, v in parts.items()}  # fmt: skip
        packed = compressor.compress(parts, scheme)
        again = compressor.decompress(dict(packed), scheme)
        weights[key] = again["weight"].detach()
        module = key.removesuffix(".weight")
        state |= {f"{module}.{k}": v.contiguous() for k, v in packed.items()}
    whole = {k: v for k, v in model.state_dict().items() if k not in found}
    config = {
        "quant_method": "compressed-tensors",
        "format": name,
        "config_groups": {"group_0": {"weights": arguments.model_dump(mode="json")}},
    }
    save(folder, model, state | whole, **{config_key: config})
    return weights


def _parameters(
    weight: torch.Tensor, kind: str, bits: int, group: int | None, symmetric: bool
) -> Weights:
    groups = weight.unflatten(-1, (-1, group or weight.shape[-1]))
    largest = groups.abs().amax(-1)
    if kind in ("int", "naive"):
        if symmetric:
            return {"weight_scale": largest / (2 ** (bits - 1) - 0.5)}
        low, high = groups.amin(-1).clamp(max=0), groups.amax(-1).clamp(min=0)
        scale = (high - low) / (2**bits - 1)
        zero = (
            (-(2 ** (bits - 1)) - low / scale)
            .round()
            .clamp(-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)
        )
        return {"weight_scale": scale, "weight_zero_point": zero.to(torch.int8)}
    if kind == "nvfp4":
        whole = 448.0 * 6.0 / weight.abs().max()
        scale = (largest / 6.0 * whole).to(torch.float8_e4m3fn).float()
        return {"weight_scale": scale, "weight_global_scale": whole.reshape(1)}
    top = {"mxfp4": 6.0, "mxfp6": 7.5, "mxfp8": 448.0, "float": 448.0}[kind]
    if kind == "float":
        return {"weight_scale": largest / top}
    return {"weight_scale": 2.0 ** (largest / top).log2().ceil()}


def save(folder: Path, model: Any, state: Weights, **config: Any) -> None:
    """Writes a state dict and a config with what a toolchain adds to it."""
    import json

    from safetensors.torch import save_file

    folder.mkdir(parents=True, exist_ok=True)
    own = {k: v.detach().clone().contiguous() for k, v in state.items()}
    if model.config.tie_word_embeddings:
        own.pop("lm_head.weight", None)
    save_file(own, folder / "model.safetensors", {"format": "pt"})
    (folder / "config.json").write_text(json.dumps(model.config.to_dict() | config))


def write_bitsandbytes(folder: Path, shape: str = "llama", **settings: Any) -> Weights:
    import bitsandbytes as bnb

    source = folder.with_name(f"{folder.name}-source")
    tiny_model(shape).save_pretrained(source)
    config = hf.BitsAndBytesConfig(llm_int8_skip_modules=["lm_head"], **settings)
    quantized = hf.AutoModelForCausalLM.from_pretrained(
        source, dtype=torch.float32, quantization_config=config, device_map="cpu"
    )
    quantized.save_pretrained(folder)
    weights = {}
    for name, module in quantized.named_modules():
        if isinstance(module, bnb.nn.Linear4bit):
            weight = module.weight
            weights[f"{name}.weight"] = bnb.functional.dequantize_4bit(
                weight.data, weight.quant_state
            )
        elif isinstance(module, bnb.nn.Linear8bitLt):
            weights[f"{name}.weight"] = bnb.functional.int8_vectorwise_dequant(
                module.weight.CB if module.weight.CB is not None else module.weight.data,
                module.weight.SCB if module.weight.SCB is not None else module.state.SCB,
            )
    return weights


def write_hqq(folder: Path, bits: int = 4, axis: int = 1, group: int = 32) -> Weights:
    from hqq.core.quantize import BaseQuantizeConfig, HQQLinear
    from safetensors.torch import save_file

    model = tiny_model("llama")
    how = BaseQuantizeConfig(nbits=bits, group_size=group, axis=axis)
    weights = {}
    for name, module in list(model.named_modules()):
        if isinstance(module, torch.nn.Linear) and name != "lm_head":
            made = HQQLinear(copy.deepcopy(module), how, compute_dtype=torch.float32, device="cpu")
            weights[f"{name}.weight"] = made.dequantize()
            model.set_submodule(name, made)
    folder.mkdir(parents=True)
    state = {k: v.contiguous() for k, v in model.state_dict().items()}
    save_file(state, folder / "model.safetensors", {"format": "pt"})
    model.config.save_pretrained(folder)
    return weights


def write_mlx(folder: Path, bits: int = 4, group: int = 32, mode: str = "affine") -> Weights:
    import mlx.core as mx
    import numpy as np

    model, state, weights = tiny_model("llama"), {}, {}
    found = linears(model)
    for key, weight in found.items():
        module = key.removesuffix(".weight")
        parts = mx.quantize(mx.array(weight.numpy()), group_size=group, bits=bits, mode=mode)
        again = mx.dequantize(*parts, group_size=group, bits=bits, mode=mode)
        weights[key] = torch.from_numpy(np.array(again.astype(mx.float32)))
        for leaf, part in zip(("weight", "scales", "biases"), parts, strict=False):
            state[f"{module}.{leaf}"] = torch.from_numpy(np.array(part))
    whole = {k: v for k, v in model.state_dict().items() if k not in found}
    told = {"bits": bits, "group_size": group} | ({} if mode == "affine" else {"mode": mode})
    save(folder, model, state | whole, quantization=told)
    return weights


def write_auto_round(folder: Path, shape: str = "llama", **settings: Any) -> Path:
    """Runs auto-round without tuning; returns the folder that it made."""
    from auto_round import AutoRound

    model = tiny_model(shape)
    words = {"[UNK]": 0, "<s>": 1, "</s>": 2, "one": 3, "two": 4}
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel

    made = Tokenizer(WordLevel(words, unk_token="[UNK]"))
    tokenizer = hf.PreTrainedTokenizerFast(tokenizer_object=made, unk_token="[UNK]")
    source = folder.with_name(f"{folder.name}-source")
    model.save_pretrained(source)
    tokenizer.save_pretrained(source)
    rounder = AutoRound(
        str(source),
        iters=0,
        disable_opt_rtn=True,
        disable_model_free=True,
        device_map="cpu",
        enable_torch_compile=False,
        **settings,
    )
    rounder.quantize_and_save(str(folder), format="auto_round")
    return next(path.parent for path in folder.rglob("*.safetensors"))


def write_gptq(
    folder: Path,
    bits: int = 4,
    group: int = 32,
    symmetric: bool = True,
    version: str = "gptq",
    act_order: bool = False,
) -> Weights:
    """Packs by GPTQModel's own linear; versions ``gptq`` (1), ``gptq_v2`` and ``gptq_p``."""
    from gptqmodel.nn_modules.qlinear.torch import TorchLinear
    from gptqmodel.quantization import FORMAT, QuantizeConfig
    from gptqmodel.utils.model import convert_gptq_v2_to_v1_format_module

    model, state, weights = tiny_model("llama"), {}, {}
    found = linears(model)
    for key, weight in found.items():
        n_out, n_in = weight.shape
        groups = weight.unflatten(-1, (-1, group))
        if symmetric:
            scale = 2 * groups.abs().amax(-1) / (2**bits - 1)
            zero = torch.full_like(scale, 2 ** (bits - 1))
        else:
            low, high = groups.amin(-1).clamp(max=0), groups.amax(-1).clamp(min=0)
            scale = (high - low) / (2**bits - 1)
            zero = (-low / scale).round().clamp(0, 2**bits - 1)
            zero[0, 0] = 0  # borrows from its neighbour in version 1
        scale = scale.half().float()
        index = torch.arange(n_in) // group
        if act_order:
            index = index[torch.randperm(n_in, generator=torch.Generator().manual_seed(0))]
        packed = TorchLinear(
            bits=bits, group_size=group, sym=symmetric, desc_act=act_order, in_features=n_in,
            out_features=n_out, format=FORMAT(version),
        )  # fmt: skip
        plain = torch.nn.Linear(n_in, n_out, bias=False)
        plain.weight.data = weight.clone()
        packed.pack(plain, scale, zero, index.int())
        packed.post_init()
        weights[key] = packed.dequantize_weight().T.float()
        if version == "gptq":
            config = QuantizeConfig(bits=bits, group_size=group, sym=symmetric)
            convert_gptq_v2_to_v1_format_module(packed, config)
        module = key.removesuffix(".weight")
        for leaf in ("qweight", "qzeros", "scales", "g_idx"):
            state[f"{module}.{leaf}"] = getattr(packed, leaf)
    told = {"quant_method": "gptq", "bits": bits, "group_size": group, "sym": symmetric}
    told |= {"desc_act": act_order, "checkpoint_format": version}
    whole = {k: v for k, v in model.state_dict().items() if k not in found}
    save(folder, model, state | whole, quantization_config=told)
    return weights


def write_modelopt(folder: Path, how: str = "nvfp4") -> Weights:
    """Packs by ModelOpt's export functions; a side file tells the recipe, as it does."""
    import json

    from modelopt.torch.export.quant_utils import to_quantized_weight
    from modelopt.torch.quantization.qtensor import NVFP4QTensor

    model, state, weights = tiny_model("llama"), {}, {}
    found = linears(model)
    for key, weight in found.items():
        module, parts = key.removesuffix(".weight"), {}
        if how == "nvfp4":
            second = weight.abs().max() / 448.0 / 6.0
            scale, _ = NVFP4QTensor.get_weights_scaling_factor(weight, 16, second)
            parts = {"weight_scale": scale, "weight_scale_2": second}
            codes = to_quantized_weight(weight, scale, how, second, 16)
            made = NVFP4QTensor(weight.shape, torch.float32, codes)
            again = made.dequantize(
                dtype=torch.float32, scale=scale, double_scale=second, block_sizes={-1: 16}
            )
        elif how == "int4_awq":
            scale = weight.unflatten(-1, (-1, 32)).abs().amax(-1) / 7
            codes = to_quantized_weight(weight, scale, how, block_size=32)
            parts = {"weight_scale": scale, "pre_quant_scale": torch.rand(weight.shape[1]) + 0.5}
            low, high = (codes & 15).to(torch.int8), (codes >> 4).to(torch.int8)
            signed = torch.stack([low, high], 1).flatten(0, 1)
            signed = torch.where(signed > 7, signed - 16, signed).float()
            again = signed * scale.repeat_interleave(32, 1) * parts["pre_quant_scale"]
        else:
            scale = weight.abs().max() / 448.0
            parts = {"weight_scale": scale, "input_scale": torch.tensor(0.1)}
            codes = to_quantized_weight(weight, scale, "fp8")
            again = codes.float() * scale
        weights[key] = again
        state[key] = codes
        state |= {f"{module}.{leaf}": part for leaf, part in parts.items()}
    whole = {k: v for k, v in model.state_dict().items() if k not in found}
    save(folder, model, state | whole)
    told = {"producer": {"name": "modelopt"}, "quantization": {"quant_algo": how.upper()}}
    (folder / "hf_quant_config.json").write_text(json.dumps(told))
    return weights
