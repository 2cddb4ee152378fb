"""Loading a causal LM in full precision, from a folder, the hub, or the bundled reference model.

Measuring starts from weights that are known to be whole: every tensor of the model must come from
the checkpoint, with its own shape and finite. Whatever is wrong is told as a :class:`ModelError`
that says what was asked, what was found and what to do.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import re
from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from math import prod
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
from safetensors import safe_open
from torch import nn
from transformers import AutoConfig, PreTrainedModel

from bitgap.errors import ModelError, NoSuchModel, UserError, first_line
from bitgap.models.families import context_length
from bitgap.models.hub import snapshot
from bitgap.models.kinds import empty_shapes, model_class, settle
from bitgap.models.known import Notes, known_fingerprint
from bitgap.models.merged import merged_on_disk
from bitgap.models.observe import observe_family
from bitgap.models.refusals import (
    TensorHeader,
    read_headers,
    refuse_file,
    refuse_other_formats,
    refuse_other_size,
    refuse_quantized,
    tokens_beyond,
    too_large,
)
from bitgap.models.silence import silenced
from bitgap.models.stored import (
    HALVES,
    forget,
    keep_as_stored,
    mark_mapped,
    stored,
)
from bitgap.models.tokenizer import read_tokenizer
from bitgap.models.unused import refuse_unused, sort_unused, told
from bitgap.records import ModelInfo

REFERENCE = "reference"
"""Name of the bundled model; a folder of that name is reached as ``./reference``."""

_REFERENCE_FOLDER = Path(__file__).parent / "reference"
NOTE_FILE = "bitgap-note.txt"
"""File in a model's folder whose text is told as a caveat beside all that is measured on it."""
_LONGEST_NOTE = 400
_PICKLES = "pytorch_model*.bin"
_ASKED_OF_HUB = ("*.json", "*.safetensors", "*.model", "*.txt", "*.jinja")
# Keys of a config that name or date a model, or say how it was stored, trained or generates: what
# is left changes what it computes. A key too many left in only makes two equal models differ.
_NOT_FUNCTION = re.compile(
    r"_?name_or_path|architectures|(torch_)?dtype|transformers_version|use_cache|[be]os_token_id"
    r"|initializer_range|init_std|\w*(dropout|_pdrop|layerdrop)|summary_\w+"
)

_FLOAT32_SHARE = 1 / 4
"""Of a file in half the bits, the largest share that may be float32 and is kept so."""
_PIECE = 2**22
"""Numbers that are hashed at a time."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class LoadedModel:
    """A model that is ready to be split and measured.

    Attributes:
        model: The transformers model: in eval mode, without gradients. It computes in float32; its
            parameters stay in the type of the file (:mod:`bitgap.models.stored`).
        tokenizer: Its tokenizer.
        info: What it is.
    """

    model: Any
    tokenizer: Any
    info: ModelInfo


def load_model(
    path_or_id: str | os.PathLike[str] | None = None,
    *,
    allow_pickle: bool = False,
    trust_remote_code: bool = False,
    notes: Notes | None = None,
) -> LoadedModel:
    """Loads a causal LM that computes in float32, on the CPU; its weights are mapped, not read.

    Args:
        path_or_id: A folder, a hub id, or ``reference`` (or None) for the bundled model. What
            begins with ``.``, ``/`` or ``~`` or has several separators is a folder.
        allow_pickle: Whether pickled weights (``.bin``) may be read; unpickling is limited to
            tensors, but safetensors are safe by design.
        trust_remote_code: Whether Python code that comes with the model may be run.
        notes: Where the fingerprint is noted, so that files that did not change since are not read
            once more for it; it is found anew when None.

    Raises:
        NoSuchModel: If there is no such folder, and no such model on the hub.
        ModelError: If it is not a whole, full-precision, causal LM with a tokenizer.
    """
    name = REFERENCE if path_or_id is None else os.fspath(path_or_id)
    folder = _find_folder(name, allow_pickle, trust_remote_code)
    with silenced():
        config = _read_config(name, folder, trust_remote_code)
        _check_config(name, config)
        _check_files(name, folder, allow_pickle)
        _check_headers(name, folder, config, allow_pickle, trust_remote_code)
        model = _read_model(name, folder, config, allow_pickle, trust_remote_code)
        tokenizer = _read_tokenizer(name, folder, model, trust_remote_code)
    about = f"{type(model).__name__}, pickle {allow_pickle}"
    found = known_fingerprint(folder, lambda: fingerprint(model, name), notes, about=about)
    info = describe(name, model, found)
    return LoadedModel(model, tokenizer, replace(info, note=_note(name, folder)))


# -- finding -------------------------------------------------------------------------------------


def model_folder(
    path_or_id: str | os.PathLike[str] | None = None,
    *,
    allow_pickle: bool = False,
    trust_remote_code: bool = False,
) -> Path:
    """Returns the folder of what :func:`load_model` loads, which takes the same arguments.

    Raises:
        ModelError: If there is no such model.
    """
    name = REFERENCE if path_or_id is None else os.fspath(path_or_id)
    return _find_folder(name, allow_pickle, trust_remote_code)


def _find_folder(name: str, allow_pickle: bool, trust_remote_code: bool) -> Path:
    if name == REFERENCE:
        return _REFERENCE_FOLDER
    path = os.path.expanduser(name)
    if os.path.isdir(path):
        return Path(path)
    if os.path.exists(path):
        refuse_file(name)
    if not name or name.startswith((".", "~")) or os.path.isabs(path) or name.count(os.sep) > 1:
        raise NoSuchModel(
            f"no such folder: {name!r}; give a folder that holds a model, or a hub id"
        )
    return _download(name, allow_pickle, trust_remote_code)


def _download(name: str, allow_pickle: bool, trust_remote_code: bool) -> Path:
    patterns = [*_ASKED_OF_HUB]
    patterns += [_PICKLES] if allow_pickle else []
    patterns += ["*.py"] if trust_remote_code else []
    # Subfolders and consolidated files hold the same weights once more, in other formats.
    return snapshot(name, patterns, ["*/*", "consolidated*"])


# -- checking ------------------------------------------------------------------------------------


def _read_config(name: str, folder: Path, trust_remote_code: bool) -> Any:
    try:
        files = sorted(os.listdir(folder))
    except OSError as error:
        raise ModelError(f"{name} cannot be listed ({error.strerror}); check its rights") from error
    refuse_other_formats(name, folder)
    if "config.json" not in files:
        raise ModelError(
            f"{name} has no config.json, so it is no model folder (found "
            f"{', '.join(files[:8]) or 'nothing'}); give the folder that save_pretrained wrote"
        )
    advice = "check config.json; a model with its own code needs --trust-remote-code"
    with _foreign(name, "its configuration cannot be read", advice):
        return AutoConfig.from_pretrained(
            folder, trust_remote_code=trust_remote_code, local_files_only=True
        )


def _check_config(name: str, config: Any) -> None:
    if config.is_encoder_decoder:
        raise ModelError(
            f"{name} ({config.model_type}) is an encoder-decoder; bitgap measures decoder-only "
            f"causal language models"
        )
    if model_class(config) is None:
        told = ", ".join(getattr(config, "architectures", None) or ()) or "no architecture"
        raise ModelError(
            f"{name} ({config.model_type}; its config.json names {told}) cannot be read as a "
            f"causal language model, nor as a model with one as its text part; bitgap measures "
            f"decoder-only language models"
        )
    settle(config)


def _check_files(name: str, folder: Path, allow_pickle: bool) -> None:
    if list(folder.glob("*.safetensors")):
        _check_index(name, folder)
        return
    pickles = sorted(p.name for p in folder.glob(_PICKLES))
    if not pickles and (folder / "model.safetensors.index.json").is_file():
        raise ModelError(f"{name} has an index of weights but none of its files; download it again")
    if not pickles or not allow_pickle:
        found = f"only {', '.join(pickles[:3])}" if pickles else "no weights"
        raise ModelError(
            f"{name} has no .safetensors file (found {found}); convert it with save_pretrained, or "
            f"read pickled weights you trust with --allow-pickle"
        )
    _check_index(name, folder)


def _check_index(name: str, folder: Path) -> None:
    """Refuses an index that names what is no safetensors file of the folder itself.

    transformers reads whatever it names: a file elsewhere on this machine, or a pickle.
    """
    index = folder / "model.safetensors.index.json"
    if not index.is_file():
        return
    try:
        files = json.loads(index.read_bytes()).get("weight_map").values()
    except (OSError, ValueError, AttributeError, RecursionError) as error:
        raise ModelError(
            f"{name}: {index.name} cannot be read ({first_line(error)}); download it again"
        ) from None
    for file in files:
        # Backslashes are parts of a path elsewhere.
        plain = isinstance(file, str) and Path(file).name == file and "\\" not in file
        if not plain or not file.endswith(".safetensors"):
            raise ModelError(
                f"{name}: {index.name} names {file!r}, which is no .safetensors file of the folder "
                f"itself; use the files that the model was published with"
            )


def _check_headers(
    name: str, folder: Path, config: Any, allow_pickle: bool, trust_remote_code: bool
) -> None:
    """Refuses what the weights' headers tell, before any memory is taken."""
    shapes = empty_shapes(config, trust_remote_code)
    refuse_quantized(name, folder, frozenset(shapes), allow_pickle=allow_pickle)
    refuse_other_size(name, folder, shapes, allow_pickle=allow_pickle)


@contextmanager
def _foreign(name: str, what: str, advice: str) -> Iterator[None]:
    # transformers, tokenizers and safetensors raise what they like; tokenizers even Exception.
    try:
        yield
    except (UserError, MemoryError, torch.OutOfMemoryError):
        raise
    except Exception as error:
        if "allocate memory" in str(error):  # torch has no class of its own for this
            raise MemoryError(first_line(error)) from error
        raise ModelError(f"{name}: {what} ({first_line(error)}); {advice}") from error


# -- reading -------------------------------------------------------------------------------------


def _read_model(
    name: str, folder: Path, config: Any, allow_pickle: bool, trust_remote_code: bool
) -> Any:
    has_safe = bool(list(folder.glob("*.safetensors")))
    half, singles = _half_type(folder) if has_safe else (None, frozenset[str]())
    settings = {
        "config": config,
        "dtype": half or torch.float32,
        "use_safetensors": has_safe or not allow_pickle,
        "trust_remote_code": trust_remote_code,
        "local_files_only": True,
        # Told by name below, with the missing ones, instead of by an error half way.
        "ignore_mismatched_sizes": True,
        "output_loading_info": True,
    }
    advice = "the files may be incomplete or damaged: copy or download them again"
    try:
        with _foreign(name, "its weights cannot be read", advice):
            with _kept_in_float32(singles):
                model, report = _with_best_attention(folder, settings)
            mark_mapped(model)
            kept = model
            if half:
                whole = _are_float32(model, singles - set(report["unexpected_keys"]))
                kept = keep_as_stored(model) if whole else None
            if kept is None:
                settings["dtype"] = torch.float32
                model, report = _with_best_attention(folder, settings)
                mark_mapped(model)
            else:
                model = kept
    except MemoryError as error:
        raise ModelError(too_large(name, folder)) from error
    _check_report(name, folder, model, report)
    _tell_head(name, model)
    return model.eval().requires_grad_(False)


def _half_type(folder: Path) -> tuple[torch.dtype | None, frozenset[str]]:
    """Returns the type of fewer than 32 bits that a folder's weights have, and what has 32 beside.

    None where floats are of several such types, or most of the file has 32 bits: recurrences and
    routers often have some tensors in float32 in a file of bfloat16.
    """
    types = {"BF16": torch.bfloat16, "F16": torch.float16}
    found: dict[str, set[str]] = {}
    size: Counter[str] = Counter()
    for name, header in read_headers(folder).items():
        found.setdefault(header.dtype, set()).add(name)
        size[header.dtype] += prod(header.shape)
    halves = [kind for kind in found if kind in types]
    others = {kind for kind in found if kind.startswith(("F", "BF"))} - set(halves) - {"F32"}
    if len(halves) != 1 or others or size["F32"] > size[halves[0]] * _FLOAT32_SHARE:
        return None, frozenset()
    kind = types[halves[0]]
    assert kind in HALVES
    return kind, frozenset(found.get("F32", ()))


@contextmanager
def _kept_in_float32(names: Collection[str]) -> Iterator[None]:
    """Has transformers load some tensors in float32 whatever the type of the rest."""
    own = PreTrainedModel._get_dtype_plan
    # By what they are called in their block, as transformers asks for each of these of every
    # tensor; those of other blocks come in float32 too then, which is a cast that loses nothing.
    called = {re.escape(".".join(name.split(".")[-2:])) for name in names}

    def plan(model: Any, dtype: torch.dtype) -> dict[str, torch.dtype]:
        return own(model, dtype) | dict.fromkeys(called, torch.float32)

    with patch.object(PreTrainedModel, "_get_dtype_plan", plan) if names else nullcontext():
        yield


def _are_float32(model: nn.Module, names: Collection[str]) -> bool:
    """Whether what a file has in float32 is so in the model, under its name or one around it."""
    there = dict(model.named_parameters()) | dict(model.named_buffers())
    for name in names:
        same = [value for key, value in there.items() if f".{key}".endswith(f".{name}")]
        if not same:  # renamed on the way: then all that is called so must be
            own = name.rpartition(".")[2]
            same = [value for key, value in there.items() if key.rpartition(".")[2] == own]
        if not same or any(value.dtype != torch.float32 for value in same):
            return False
    return True


def _with_best_attention(folder: Path, settings: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
    # Scores that are soft-capped inside attention are beyond sdpa, whatever the class claims.
    text_config = settings["config"].get_text_config()
    if getattr(text_config, "attn_logit_softcapping", None) is None:
        try:
            return _from_folder(folder, settings, "sdpa")
        except ValueError as error:
            if "scaled_dot_product_attention" not in str(error):
                raise
    return _from_folder(folder, settings, "eager")


def _from_folder(folder: Path, settings: dict[str, Any], attention: str) -> tuple[Any, Any]:
    kind: Any = model_class(settings["config"])  # its stub knows no output_loading_info
    if not hasattr(kind, "from_config"):
        settings = {key: value for key, value in settings.items() if key != "trust_remote_code"}
    with merged_on_disk(folder):
        return kind.from_pretrained(folder, attn_implementation=attention, **settings)


def _check_report(name: str, folder: Path, model: Any, report: Mapping[str, Any]) -> None:
    unexpected = sorted(report["unexpected_keys"])
    wrong = {f"{key} is absent" for key in report["missing_keys"]}
    for key, found, wanted in report["mismatched_keys"]:
        wrong.add(f"{key} has shape {_times(found)} where the config makes {_times(wanted)}")
    wrong.update(report["error_msgs"])
    if wrong:
        listed = "; ".join(sorted(wrong)[:5]) + (" ..." if len(wrong) > 5 else "")
        instead = (
            f"; {len(unexpected)} are of no part of it, such as {unexpected[0]}"
            if unexpected
            else ""
        )
        raise ModelError(
            f"{name}: {len(wrong)} tensors of the model are not in its weights ({listed}{instead})"
            f"; use the config.json and weights that were saved together"
        )
    if unexpected:
        headers = read_headers(folder)
        axes = {key: len(header.shape) for key, header in headers.items()}
        left = sort_unused(
            model, unexpected, axes, lambda key: _is_zero(folder, headers.get(key), key)
        )
        refuse_unused(name, model, left)
        _log.warning("%s: %s", name, told(left))


def _is_zero(folder: Path, header: TensorHeader | None, key: str) -> bool:
    if header is None:
        return False
    with safe_open(folder / header.file, "pt") as weights:
        return not bool(weights.get_tensor(key).any())


def _tell_head(name: str, model: Any) -> None:
    """Tells where a config ties the head to the token table and the weights have both apart."""
    head, table = model.get_output_embeddings(), model.get_input_embeddings()
    ties = getattr(model.config.get_text_config(), "tie_word_embeddings", False)
    if head is None or not ties or not getattr(model, "_tied_weights_keys", None):
        return
    if not stored(head).is_set_to(stored(table)):
        _log.warning(
            "%s: config.json ties the head to the token table, and the weights hold a head of "
            "their own that differs from it; the weights are followed, as transformers does. Where "
            "that is not meant, save the model without the head",
            name,
        )


def _read_tokenizer(name: str, folder: Path, model: Any, trust_remote_code: bool) -> Any:
    advice = "save its tokenizer (tokenizer.json and tokenizer_config.json) beside the weights"
    with _foreign(name, "it has no tokenizer that can be read", advice):
        tokenizer = read_tokenizer(name, folder, trust_remote_code=trust_remote_code)
        # Without files some classes come up empty instead of failing.
        n_ids = len(tokenizer("One two, three.", add_special_tokens=False).input_ids)
        beyond = tokens_beyond(tokenizer, model.get_input_embeddings().weight.shape[0])
    if n_ids == 0:
        raise ModelError(f"{name}: its tokenizer turns text into nothing; {advice}")
    if beyond:
        raise ModelError(f"{name}: {beyond}; give the tokenizer the model was trained with")
    return tokenizer


# -- describing ----------------------------------------------------------------------------------


def _note(name: str, folder: Path) -> str:
    """Returns what the folder's own note says, in one line; empty without a note."""
    file = folder / NOTE_FILE
    if not file.is_file():
        return ""
    try:
        text = " ".join(file.read_text(encoding="utf-8-sig").split())
    except (OSError, UnicodeDecodeError) as error:
        raise ModelError(f"{name}: {NOTE_FILE} cannot be read as UTF-8 text: {error}") from None
    if len(text) > _LONGEST_NOTE:
        raise ModelError(
            f"{name}: {NOTE_FILE} has {len(text)} characters; say it in {_LONGEST_NOTE}, as it is "
            f"printed beside every result"
        )
    return text


def describe(name: str, model: Any, fingerprint: str) -> ModelInfo:
    """Returns what a model is.

    Args:
        name: What its user calls it.
        model: A transformers model.
        fingerprint: Of its weights, from :func:`fingerprint`.
    """
    # Some classes do not say which module their head is; one forward shows it.
    head = model.get_output_embeddings() or model.get_submodule(observe_family(model).head)
    config = model.config.get_text_config()
    return ModelInfo(
        name=name,
        family=model.config.model_type,
        class_name=type(model).__name__,
        n_blocks=config.num_hidden_layers,
        width=config.hidden_size,
        vocabulary=stored(head).shape[0],
        context=context_length(config),
        n_parameters=sum(p.numel() for p in model.parameters()),
        tied=stored(head).is_set_to(stored(model.get_input_embeddings())),
        fingerprint=fingerprint,
    )


def fingerprint(model: Any, name: str | None = None) -> str:
    """Returns the SHA-256 (hex) of what a model computes.

    Hashed are the class, the config without names, versions, dtype and what matters in training
    only, and every distinct parameter by name, shape and float32 value; so a bf16 checkpoint and
    its float32 copy agree.

    Args:
        model: A transformers model.
        name: What it is called in messages; its class when None.

    Raises:
        ModelError: If a parameter holds NaN or infinity; says which.
    """
    digest = hashlib.sha256(type(model).__name__.encode())
    settings = _function_of(model.config.to_diff_dict())
    digest.update(json.dumps(settings, sort_keys=True, default=str).encode())
    for key, parameter in sorted(model.named_parameters()):
        digest.update(f"{key}{tuple(parameter.shape)}".encode())
        # A piece at a time: no matrix need be held in float32 whole.
        finite = True
        for piece in parameter.detach().reshape(-1).split(_PIECE):
            numbers = piece.to("cpu", torch.float32).contiguous()
            # A sum is finite only if every term is, short of overflow.
            finite = finite and bool(numbers.sum().isfinite() or numbers.isfinite().all())
            digest.update(numbers.numpy().view("uint8").data)
        forget(parameter)
        if not finite:
            called = name or type(model).__name__
            raise ModelError(f"{called}: {key} holds NaN or infinity; use an undamaged checkpoint")
    return digest.hexdigest()


def _function_of(config: Any) -> Any:
    if not isinstance(config, dict):
        return config
    # None is left out too, so that a setting new in transformers and unset changes no fingerprint.
    kept = {
        k: v for k, v in config.items() if v is not None and not _NOT_FUNCTION.fullmatch(str(k))
    }
    return {str(key): _function_of(value) for key, value in kept.items()}


def _times(shape: Any) -> str:
    return " x ".join(map(str, shape))
