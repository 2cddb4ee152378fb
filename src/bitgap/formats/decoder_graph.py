"""The graph of a decoder: plain operators, a cache of keys and values, no weights.

Written out by hand for the families of :data:`FAMILIES`, as ONNX Runtime's own builder of models
does, and proved by logits against transformers whenever it is written. Operators are ONNX's by
name; a format that has others translates them (:mod:`bitgap.formats.openvino_writer`). Inputs and
outputs have the names that Optimum and onnxruntime-genai know: ``input_ids``, ``attention_mask``,
``position_ids``, ``past_key_values.N.key``, ``logits``, ``present.N.key``.

Shape letters: B texts, S new tokens, T tokens with those of the cache, H heads, N heads of keys, D
width of a head.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from bitgap.errors import ModelError

FAMILIES = ("llama", "mistral", "qwen2", "qwen3", "gemma", "gemma2", "gemma3_text", "gpt2")
FLOAT, BOOL = 1, 9
"""Types of ONNX that are cast to."""
_GELUS = {"gelu": "none", "gelu_new": "tanh", "gelu_pytorch_tanh": "tanh", "gelu_fast": "tanh"}
_CONSTANT_ROPES = ("default", "linear", "llama3", "yarn")
"""Rotary scalings whose frequencies do not depend on the length of a text."""


class Graph(ABC):
    """Operators and constants of a graph; tensors of the model are asked for by name.

    A value is known by a name, as of an output in ONNX.
    """

    @abstractmethod
    def tensor(self, name: str) -> str:
        """Returns a whole tensor of the model in float32."""

    @abstractmethod
    def linear(self, x: str, weight: str, bias: str | None = None) -> str:
        """Returns x times a matrix of the model, whatever it is stored as, plus a bias."""

    @abstractmethod
    def looked_up(self, ids: str, weight: str) -> str:
        """Returns the rows of a table in float32."""

    @abstractmethod
    def has(self, name: str) -> bool:
        """Whether the model has a tensor of that name."""

    @abstractmethod
    def op(self, kind: str, *inputs: str, to: str = "", **attributes: Any) -> str:
        """Adds an operator with one output and returns the output's name.

        Args:
            kind: Of ONNX.
            inputs: Names of values.
            to: The output's name; one is made up where it is left out.
            attributes: As ONNX has them, but ``to_type`` is what a Cast gives.
        """

    @abstractmethod
    def split(self, x: str, sizes: list[int]) -> list[str]:
        """Cuts the last dimension."""

    def floats(self, value: Any) -> str:
        """Returns a constant of float32."""
        return self.constant(np.asarray(value, dtype=np.float32))

    def ints(self, *values: int) -> str:
        """Returns a vector of int64."""
        return self.constant(np.asarray(values, dtype=np.int64))

    def integer(self, value: int) -> str:
        """Returns a number of int64."""
        return self.constant(np.asarray(value, dtype=np.int64))

    @abstractmethod
    def constant(self, value: np.ndarray) -> str:
        """Returns a constant that is no tensor of the model."""


def check_family(model: Any, config: Any) -> None:
    """Refuses models whose graph is not written here.

    Raises:
        ModelError: Naming what of it is not known.
    """
    kind = config.model_type
    if kind not in FAMILIES:
        raise ModelError(
            f"models of type {kind!r} have no graph here; there are {', '.join(FAMILIES)}. Take "
            f"another target"
        )
    if _activation(config) not in ("silu", *_GELUS):
        raise ModelError(f"its activation {_activation(config)!r} has no operator here")
    if kind == "gpt2":
        if not config.scale_attn_weights or config.scale_attn_by_inverse_layer_idx:
            raise ModelError("its attention is scaled by block, for which there is no graph here")
        return
    rotary = model.model.rotary_emb
    kinds = rotary.rope_type if isinstance(rotary.rope_type, Mapping) else {"": rotary.rope_type}
    for rope in kinds.values():
        if rope not in _CONSTANT_ROPES:
            raise ModelError(
                f"its rotary frequencies ({rope}) depend on the length of a text, for which there "
                f"is no graph here; take another target"
            )


def cache_shape(config: Any) -> tuple[int, int, int]:
    """Returns blocks, heads of keys, and the width of a head."""
    heads = config.num_attention_heads
    width = getattr(config, "head_dim", None) or config.hidden_size // heads
    return config.num_hidden_layers, getattr(config, "num_key_value_heads", None) or heads, width


def build(graph: Graph, model: Any, config: Any, *, scaled_exactly: bool) -> None:
    """Adds all nodes of a model.

    Args:
        graph: Empty.
        model: The transformers model.
        config: Its config.
        scaled_exactly: Whether an embedding that Gemma scales is scaled in float32; else in the
            type of the model's file, as transformers does.
    """
    made = _Decoder(graph, model, config)
    made.gpt2() if config.model_type == "gpt2" else made.rotary(scaled_exactly)


def _activation(config: Any) -> str:
    names = ("hidden_activation", "hidden_act", "activation_function")
    return next(str(v) for n in names if (v := getattr(config, n, None)))


class _Decoder:
    def __init__(self, graph: Graph, model: Any, config: Any) -> None:
        self.g, self.model, self.config = graph, model, config
        _, self.n_kv, self.width = cache_shape(config)
        self.n_heads = config.num_attention_heads
        self._masks: dict[int | None, str] = {}
        self._turns: dict[str, tuple[str, str]] = {}

    # -- families ----------------------------------------------------------------------------------

    def gpt2(self) -> None:
        g, eps = self.g, float(self.config.layer_norm_epsilon)
        places = g.looked_up("position_ids", "transformer.wpe.weight")
        x = g.op("Add", g.looked_up("input_ids", "transformer.wte.weight"), places)
        size = self.config.hidden_size
        for i in range(self.config.num_hidden_layers):
            at = f"transformer.h.{i}"
            parts = self._linear(self._layer_norm(x, f"{at}.ln_1", eps), f"{at}.attn.c_attn")
            q, k, v = (self._heads(part, self.n_heads) for part in g.split(parts, [size] * 3))
            mixed = self._attention(i, q, k, v, self.width**-0.5, None, None)
            x = g.op("Add", x, self._linear(mixed, f"{at}.attn.c_proj"))
            inner = self._linear(self._layer_norm(x, f"{at}.ln_2", eps), f"{at}.mlp.c_fc")
            x = g.op("Add", x, self._linear(self._activated(inner), f"{at}.mlp.c_proj"))
        self._head(self._layer_norm(x, "transformer.ln_f", eps), "transformer.wte.weight")

    def rotary(self, scaled_exactly: bool) -> None:
        g, config = self.g, self.config
        is_gemma = config.model_type.startswith("gemma")
        four_norms = config.model_type in ("gemma2", "gemma3_text")
        x = g.looked_up("input_ids", "model.embed_tokens.weight")
        if is_gemma:
            table = self.model.get_input_embeddings()
            scale = torch.tensor(float(config.hidden_size) ** 0.5)
            if not scaled_exactly and hasattr(table, "embed_scale"):
                scale = scale.to(table.weight.dtype)
            x = g.op("Mul", x, g.floats(float(scale)))
        for i in range(config.num_hidden_layers):
            at = f"model.layers.{i}"
            mixed = self._self_attention(i, self._rms_norm(x, f"{at}.input_layernorm"))
            if four_norms:
                mixed = self._rms_norm(mixed, f"{at}.post_attention_layernorm")
            x = g.op("Add", x, mixed)
            before = "pre_feedforward_layernorm" if four_norms else "post_attention_layernorm"
            h = self._rms_norm(x, f"{at}.{before}")
            gate = self._activated(self._linear(h, f"{at}.mlp.gate_proj"))
            inner = g.op("Mul", gate, self._linear(h, f"{at}.mlp.up_proj"))
            made = self._linear(inner, f"{at}.mlp.down_proj")
            if four_norms:
                made = self._rms_norm(made, f"{at}.post_feedforward_layernorm")
            x = g.op("Add", x, made)
        self._head(self._rms_norm(x, "model.norm"), "model.embed_tokens.weight")

    # -- parts -------------------------------------------------------------------------------------

    def _linear(self, x: str, module: str) -> str:
        bias = f"{module}.bias"
        return self.g.linear(x, f"{module}.weight", bias if self.g.has(bias) else None)

    def _head(self, x: str, table: str) -> None:
        g, own = self.g, "lm_head.weight"
        logits = g.linear(x, own if g.has(own) else table)
        if cap := getattr(self.config, "final_logit_softcapping", None):
            logits = self._capped(logits, float(cap))
        g.op("Identity", logits, to="logits")

    def _capped(self, x: str, cap: float) -> str:
        g = self.g
        return g.op("Mul", g.op("Tanh", g.op("Div", x, g.floats(cap))), g.floats(cap))

    def _activated(self, x: str) -> str:
        name = _activation(self.config)
        if name == "silu":
            return self.g.op("Mul", x, self.g.op("Sigmoid", x))
        return self.g.op("Gelu", x, approximate=_GELUS[name])

    def _layer_norm(self, x: str, module: str, eps: float) -> str:
        g = self.g
        weight, bias = g.tensor(f"{module}.weight"), g.tensor(f"{module}.bias")
        return g.op("LayerNormalization", x, weight, bias, axis=-1, epsilon=eps)

    def _rms_norm(self, x: str, module: str) -> str:
        g = self.g
        weight = g.tensor(f"{module}.weight")
        if self.config.model_type.startswith("gemma"):
            weight = g.op("Add", weight, g.floats(1.0))
        mean = g.op("ReduceMean", g.op("Mul", x, x), g.ints(-1), keepdims=1)
        root = g.op("Sqrt", g.op("Add", mean, g.floats(float(self.config.rms_norm_eps))))
        return g.op("Mul", g.op("Div", x, root), weight)

    def _heads(self, x: str, n_heads: int) -> str:
        """Returns (B x heads x S x D) of (B x S x heads·D)."""
        g = self.g
        return g.op("Transpose", self._apart(x, n_heads), perm=[0, 2, 1, 3])

    def _apart(self, x: str, n_heads: int) -> str:
        return self.g.op("Reshape", x, self.g.ints(0, 0, n_heads, self.width))

    def _self_attention(self, i: int, x: str) -> str:
        g, at = self.g, f"model.layers.{i}.self_attn"
        turned: list[str] = []
        module = self.model.model.layers[i].self_attn
        window = self._window(i)
        for part, n_heads in (("q", self.n_heads), ("k", self.n_kv)):
            made = self._apart(self._linear(x, f"{at}.{part}_proj"), n_heads)
            if g.has(f"{at}.{part}_norm.weight"):
                made = self._rms_norm(made, f"{at}.{part}_norm")
            turned.append(self._turned(g.op("Transpose", made, perm=[0, 2, 1, 3]), i))
        v = self._heads(self._linear(x, f"{at}.v_proj"), self.n_kv)
        cap = getattr(self.config, "attn_logit_softcapping", None)
        mixed = self._attention(i, turned[0], turned[1], v, float(module.scaling), window, cap)
        return self._linear(mixed, f"{at}.o_proj")

    def _window(self, i: int) -> int | None:
        kinds = getattr(self.config, "layer_types", None)
        is_sliding = kinds[i] == "sliding_attention" if kinds else (
            self.config.model_type == "mistral"
        )  # fmt: skip
        return getattr(self.config, "sliding_window", None) if is_sliding else None

    def _turned(self, x: str, i: int) -> str:
        """Returns queries or keys (B x heads x S x D) by their positions."""
        g, half = self.g, self.width // 2
        cos, sin = self._cos_sin(i)
        low, high = g.split(x, [half, half])
        rotated = g.op("Concat", g.op("Neg", high), low, axis=-1)
        return g.op("Add", g.op("Mul", x, cos), g.op("Mul", rotated, sin))

    def _cos_sin(self, i: int) -> tuple[str, str]:
        rotary, kind = self.model.model.rotary_emb, ""
        if not hasattr(rotary, "inv_freq"):
            kind = f"{self.config.layer_types[i]}_"
        if kind not in self._turns:
            g = self.g
            frequency = getattr(rotary, f"{kind}inv_freq").float().numpy()
            factor = float(getattr(rotary, f"{kind}attention_scaling"))
            where = g.op("Cast", g.op("Unsqueeze", "position_ids", g.ints(1, 3)), to_type=FLOAT)
            angle = g.op("Mul", where, g.floats(np.tile(frequency, 2)))
            cos, sin = (g.op("Mul", g.op(k, angle), g.floats(factor)) for k in ("Cos", "Sin"))
            self._turns[kind] = cos, sin
        return self._turns[kind]

    def _mask(self, window: int | None) -> str:
        """Returns what is added to scores, (B x 1 x 1 x S x T): 0, or a very negative number."""
        if window not in self._masks:
            g = self.g
            n_all = g.op("Gather", g.op("Shape", "attention_mask"), g.integer(1))
            n_new = g.op("Gather", g.op("Shape", "input_ids"), g.integer(1))
            one = g.integer(1)
            keys = g.op("Range", g.integer(0), n_all, one)
            queries = g.op("Range", g.op("Sub", n_all, n_new), n_all, one)
            queries = g.op("Unsqueeze", queries, g.ints(1))
            seen = g.op("LessOrEqual", keys, queries)
            if window is not None:
                first = g.op("Sub", queries, g.integer(window))
                seen = g.op("And", seen, g.op("Greater", keys, first))
            real = g.op("Cast", g.op("Unsqueeze", "attention_mask", g.ints(1, 2, 3)), to_type=BOOL)
            lowest = float(np.finfo(np.float32).min)
            both = g.op("And", seen, real)
            self._masks[window] = g.op("Where", both, g.floats(0.0), g.floats(lowest))
        return self._masks[window]

    def _attention(
        self, i: int, q: str, k: str, v: str, scaling: float, window: int | None, cap: Any
    ) -> str:
        g, shared = self.g, self.n_heads // self.n_kv
        keys, values = (
            g.op("Concat", f"past_key_values.{i}.{name}", new, to=f"present.{i}.{name}", axis=2)
            for name, new in (("key", k), ("value", v))
        )
        # (B x N x heads of one N x S x D): heads that share keys stand together.
        q = g.op("Reshape", q, g.ints(0, self.n_kv, shared, -1, self.width))
        keys = g.op("Transpose", g.op("Unsqueeze", keys, g.ints(2)), perm=[0, 1, 2, 4, 3])
        scores = g.op("Mul", g.op("MatMul", q, keys), g.floats(scaling))
        if cap:
            scores = self._capped(scores, float(cap))
        parts = g.op("Softmax", g.op("Add", scores, self._mask(window)), axis=-1)
        mixed = g.op("MatMul", parts, g.op("Unsqueeze", values, g.ints(2)))
        mixed = g.op("Reshape", mixed, g.ints(0, self.n_heads, -1, self.width))
        mixed = g.op("Transpose", mixed, perm=[0, 2, 1, 3])
        return g.op("Reshape", mixed, g.ints(0, 0, self.n_heads * self.width))
