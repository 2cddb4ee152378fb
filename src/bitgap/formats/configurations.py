"""Recipes for toolchains that round by themselves: what they are told, not what they would make.

llama-quantize, llm-compressor, GPTQModel and AutoRound choose levels by calibration of their own.
What a recipe decides is bits, groups and types by matrix, and that each of them takes as a
configuration. Every matrix is named in full: a pattern has both ends and no free part, so that none
matches what it was not meant for, and what stays whole is said too.

A configuration is read again by its tool's own rule of matching (the first pattern that matches, or
the exact name) and counted against the recipe; bytes are foretold from shapes, of the layout that
the tool writes. What a tool cannot do is what the writer of its layout refuses.
"""

from __future__ import annotations

import json
import re
import shlex
from abc import abstractmethod
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from bitgap.errors import ModelError
from bitgap.files import write_text
from bitgap.formats.compressed_tensors_writer import CompressedTensors
from bitgap.formats.gguf.header import library
from bitgap.formats.gguf.metadata import architecture_for
from bitgap.formats.gguf.names import ARCHITECTURES
from bitgap.formats.gguf.read import block_of, code_bits
from bitgap.formats.gguf.write import GGUF, file_names
from bitgap.formats.gptq_writer import GPTQ, AutoRound, module_settings
from bitgap.formats.source import OUTSIDE, Place, Source
from bitgap.formats.target import FP, Expected, Refusal, Target, group_of, rtn

WHOLE = "whole"
"""What a configuration gives a matrix that it leaves as it is."""
_K_TYPES = ("Q2_K", "Q3_K", "Q4_K", "Q5_K", "Q6_K")
_BASE = "Q8_0"
"""What a whole file is called by: a type of blocks of 32, without a mixture of its own, as under a
float type llama-quantize passes over what is said of single tensors."""
_ENDS = {"embedding": "--token-embedding-type", "tied": "--token-embedding-type",
         "head": "--output-tensor-type"}  # fmt: skip


class Configuration(Target):
    """A toolchain that is told by a file what a recipe says, and rounds by itself."""

    file: str
    """The file that is written."""
    how: str
    """How it is used, as one line."""

    @abstractmethod
    def text(self, source: Source, schemes: Mapping[str, str]) -> str:
        """Returns the file."""

    @abstractmethod
    def given(self, source: Source, text: str) -> Mapping[str, str]:
        """Returns what the file gives every matrix, by the tool's own rule of matching."""

    def write(self, source: Source, schemes: Mapping[str, str], folder: Path) -> None:
        """Writes the file into an empty folder.

        Raises:
            ModelError: If the recipe leaves everything whole, so that there is nothing to tell.
        """
        if all(schemes.get(name, FP) == FP for name in source.places):
            raise ModelError(
                f"the recipe leaves every matrix whole, so that {self.name} is to do nothing"
            )
        write_text(folder / self.file, self.text(source, schemes))

    def configured(self, source: Source, folder: Path) -> Mapping[str, str]:
        """Returns what a written configuration gives every matrix."""
        return self.given(source, (folder / self.file).read_text(encoding="utf-8"))

    def expected(self, source: Source, place: Place, scheme: str) -> Expected:
        """Returns what the tool will make of a matrix."""
        parsed = rtn(scheme)
        if parsed is None:
            return Expected(stored=WHOLE, code_bits=16.0, n_bytes=2 * place.n_weights)
        stored = _stored(parsed.bits, group_of(parsed, place.n_in), place)
        return Expected(stored=stored, code_bits=parsed.bits, n_bytes=self.bytes_of(place, scheme))


class LlamaQuantize(Configuration, GGUF):
    """A command for llama-quantize, with the type of every tensor."""

    name = "llama-quantize"
    title = "llama-quantize (llama.cpp)"
    needs = ("gguf",)
    file = "llama-quantize.sh"
    how = "sh llama-quantize.sh model-f16.gguf model.gguf"

    def check_model(self, source: Source) -> None:
        """Refuses architectures whose tensors have no names in GGUF.

        Settings and tokenizer are the converter's, which writes the file that is quantized.

        Raises:
            ModelError: Naming it.
            MissingExtra: If the gguf library is not installed.
        """
        library()
        _file_names(source)

    def refusal(self, place: Place, scheme: str) -> str | None:
        """Returns why llama-quantize cannot make a matrix so, or None if it can."""
        if scheme not in _K_TYPES:
            return super().refusal(place, scheme)
        block = block_of(scheme)[0]
        if place.n_in % block:
            # The tool takes another type then, and tells so in its log alone.
            return f"its rows of {place.n_in} are no whole number of blocks of {block}"
        return None

    def choices(self, place: Place) -> Iterable[str]:
        """Returns the schemes to look for the nearest among."""
        return (*super().choices(place), *_K_TYPES)

    def code_bits(self, scheme: str) -> float:
        """Returns the bits of a code."""
        return code_bits(scheme) if scheme in _K_TYPES else super().code_bits(scheme)

    def bytes_of(self, place: Place, scheme: str) -> int:
        """Returns what a matrix takes in the file."""
        if scheme not in _K_TYPES:
            return super().bytes_of(place, scheme)
        weights, size = block_of(scheme)
        return place.n_weights // weights * size

    def expected(self, source: Source, place: Place, scheme: str) -> Expected:
        """Returns what the tool will make of a matrix."""
        if scheme not in _K_TYPES:
            return GGUF.expected(self, source, place, scheme)
        size = self.bytes_of(place, scheme)
        return Expected(stored=scheme, code_bits=self.code_bits(scheme), n_bytes=size)

    def text(self, source: Source, schemes: Mapping[str, str]) -> str:
        """Returns the command as a script that takes two files."""
        kinds = {
            name: self.expected(source, place, schemes.get(name, FP)).stored
            for name, place in source.places.items()
        }
        names = _file_names(source)
        words = list[str]()
        for name, kind in kinds.items():
            place = source.places[name]
            if place.kind in _ENDS:
                words.append(f"{_ENDS[place.kind]} {kind.lower()}")
            else:
                pattern = f"^{re.escape(names[name])}$"
                words.append(f"--tensor-type {shlex.quote(f'{pattern}={kind.lower()}')}")
        lines = ["llama-quantize", *words, f'"$1" "$2" {_BASE}']
        said = f"# {self.how}; the first is the whole model in 16 bits"
        return f"#!/bin/sh\n{said}\nexec " + " \\\n  ".join(lines) + "\n"

    def given(self, source: Source, text: str) -> Mapping[str, str]:
        """Returns the type of every matrix: ends by their options, else the first pattern."""
        words = iter(shlex.split(text, comments=True))
        ends, patterns = dict[str, str](), list[tuple[str, str]]()
        for word in words:
            if word in _ENDS.values():
                ends[word] = next(words)
            elif word == "--tensor-type":
                pattern, _, kind = next(words).partition("=")
                patterns.append((pattern, kind))
        names = _file_names(source)
        found: dict[str, str] = {}
        for name, place in source.places.items():
            if place.kind in _ENDS:
                kind = ends.get(_ENDS[place.kind], "")
            else:
                kind = next((k for p, k in patterns if re.search(p, names[name])), "")
            found[name] = kind.upper()
        return found


class LLMCompressor(Configuration, CompressedTensors):
    """A recipe of llm-compressor, whose GPTQ rounds by it."""

    name = "llm-compressor"
    title = "llm-compressor"
    file = "recipe.yaml"
    how = 'oneshot(model=model, dataset=dataset, recipe="recipe.yaml")'

    def text(self, source: Source, schemes: Mapping[str, str]) -> str:
        """Returns the recipe, a group of targets for each kind of rounding."""
        groups: dict[tuple[int, int], list[str]] = {}
        for place, bits, size in _rounded(source, schemes):
            groups.setdefault((bits, size), []).append(_anchored(place))
        modifier = {
            "config_groups": {
                f"group_{i}": {"targets": targets, "weights": _weights(*key)}
                for i, (key, targets) in enumerate(groups.items())
            },
            "ignore": [
                _anchored(place)
                for name, place in source.places.items()
                if rtn(schemes.get(name, FP)) is None
            ],
        }
        made = {"quantization_stage": {"quantization_modifiers": {"GPTQModifier": modifier}}}
        return f"# {self.how}\n" + yaml.safe_dump(made, sort_keys=False, width=200)

    def given(self, source: Source, text: str) -> Mapping[str, str]:
        """Returns what every matrix gets: nothing where it is ignored, else of its group."""
        stage = yaml.safe_load(text)["quantization_stage"]["quantization_modifiers"]
        modifier = stage["GPTQModifier"]
        found: dict[str, str] = {}
        for name, place in source.places.items():
            found[name] = WHOLE
            if _matches(modifier["ignore"], place):
                continue
            for group in modifier["config_groups"].values():
                if _matches(group["targets"], place):
                    weights = group["weights"]
                    size = weights["group_size"] or place.n_in
                    found[name] = _stored(weights["num_bits"], size, place)
        return found


class _Settings(Configuration):
    """A configuration as JSON: settings of most modules, and those of others by name."""

    key: str

    @abstractmethod
    def others(self, of: Mapping[str, dict[str, Any] | None]) -> dict[str, Any]:
        """Returns the settings of modules that differ, by their names there."""

    @abstractmethod
    def own(self, others: Mapping[str, Any], module: str) -> Any:
        """Returns what a module is given there; None where nothing, False where it is whole."""

    def text(self, source: Source, schemes: Mapping[str, str]) -> str:
        """Returns the settings."""
        base, others = module_settings(source, schemes)
        made = {**base, "sym": True, self.key: self.others(others)}
        return json.dumps(made, indent=1) + "\n"

    def given(self, source: Source, text: str) -> Mapping[str, str]:
        """Returns what every matrix gets."""
        settings = json.loads(text)
        found: dict[str, str] = {}
        for name, place in source.places.items():
            own = self.own(settings[self.key], place.module)
            if own is False or place.kind in OUTSIDE:
                found[name] = WHOLE
                continue
            both = {**settings, **(own or {})}
            size = both["group_size"] if both["group_size"] > 0 else place.n_in
            found[name] = _stored(both["bits"], size, place)
        return found


class GPTQModel(_Settings, GPTQ):
    """Settings of GPTQModel's QuantizeConfig."""

    name = "gptqmodel"
    title = "GPTQModel"
    file = "quantize_config.json"
    how = 'QuantizeConfig(**json.load(open("quantize_config.json")))'
    key = "dynamic"

    def together(self, places: Mapping[str, Place], schemes: Mapping[str, str]) -> list[Refusal]:
        """Returns nothing: what vLLM makes one matrix of is not fused when it is quantized."""
        return []

    def others(self, of: Mapping[str, dict[str, Any] | None]) -> dict[str, Any]:
        """Returns a pattern a module; of what stays whole one that leaves it out."""
        return {
            f"{'-' if own is None else '+'}:^{re.escape(module)}$": own or {}
            for module, own in of.items()
        }

    def own(self, others: Mapping[str, Any], module: str) -> Any:
        """Returns the settings of the first pattern that matches."""
        for pattern, own in others.items():
            sign, _, expression = pattern.partition(":")
            if re.match(expression, module):
                return False if sign == "-" else own
        return None


class AutoRoundSettings(_Settings, AutoRound):
    """Arguments of AutoRound, with its layer_config."""

    name = "auto-round-config"
    title = "AutoRound"
    file = "auto_round.json"
    how = 'AutoRound(model, tokenizer, **json.load(open("auto_round.json")))'
    key = "layer_config"

    def others(self, of: Mapping[str, dict[str, Any] | None]) -> dict[str, Any]:
        """Returns settings by full name; 16 bits for what stays whole."""
        return {module: own or {"bits": 16} for module, own in of.items()}

    def own(self, others: Mapping[str, Any], module: str) -> Any:
        """Returns the settings of a module by its full name."""
        own = others.get(module)
        return False if own is not None and own["bits"] >= 16 else own


# -- shared ----------------------------------------------------------------------------------------


def _stored(bits: int, size: int, place: Place) -> str:
    return f"int{bits} {'channel' if size == place.n_in else f'g{size}'}"


def _anchored(place: Place) -> str:
    return f"re:^{re.escape(place.module)}$"


def _matches(targets: Iterable[str], place: Place) -> bool:
    """Whether llm-compressor finds a module among targets: by pattern, or by its exact name."""
    return any(
        re.match(target.removeprefix("re:"), place.module)
        if target.startswith("re:")
        else target == place.module
        for target in targets
    )


def _rounded(source: Source, schemes: Mapping[str, str]) -> Iterator[tuple[Place, int, int]]:
    """Yields what is rounded, with bits and group; -1 for a scale a row."""
    for name, place in source.places.items():
        if (parsed := rtn(schemes.get(name, FP))) is not None:
            size = group_of(parsed, place.n_in)
            yield place, parsed.bits, -1 if size == place.n_in else size


def _weights(bits: int, size: int) -> dict[str, Any]:
    return {
        "num_bits": bits,
        "type": "int",
        "symmetric": True,
        "strategy": "channel" if size < 0 else "group",
        "group_size": None if size < 0 else size,
        "dynamic": False,
    }


def _file_names(source: Source) -> dict[str, str]:
    config, name = source.loaded.model.config, source.loaded.info.name
    return file_names(source, ARCHITECTURES[architecture_for(config, name)])
