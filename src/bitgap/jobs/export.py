"""A recipe written for toolchains, loaded back, counted and compared; and that once more.

Nothing is written before every target can express all of the recipe. An export is made beside its
place under a hidden name and moved there when it is whole and verified, so that a command that is
stopped leaves nothing; one that fails its verification is left as ``NAME.failed`` with the record
that says why.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from bitgap.codec import decode, encode
from bitgap.errors import ExportError, PlanError, StoreError, UsageError
from bitgap.files import write_text
from bitgap.jobs.export_records import LogitsOf, Verification, VerifiedMatrix, VerifiedUnit
from bitgap.protect.recipe import (
    Recipe,
    RecipeUnit,
    check_model,
    read_recipe,
    write_recipe,
)
from bitgap.version import __version__

if TYPE_CHECKING:
    from bitgap.corpora.parallel import ParallelCorpus
    from bitgap.formats.loading import Loaded, Text
    from bitgap.formats.simulated import Moved
    from bitgap.formats.source import Place, Source
    from bitgap.formats.target import Refusal, Target

RECORD, RECIPE = "bitgap-verification.json", "recipe.toml"
_WEIGHTS = (".safetensors", ".gguf", ".onnx", ".onnx_data", ".bin", ".xml")
_FLOATS = ("F64", "F32", "F16", "BF16")
_LONGEST_TOKENS = 32
"""Tokens of a sentence that are run: logits of a large vocabulary are a megabyte a token."""
_SHARE = 0.25
"""Part of what the plan does to logits that an export may be off: beyond it, one that quantized
nothing could pass."""
_BYTES_SHARE = 0.001
_LISTED = 8
_TOKENIZED = 8
"""Sentences of each language whose tokens are compared, where a file holds a tokenizer."""

Announce = Callable[[str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """How an export is verified."""

    corpus: ParallelCorpus | None = None
    """Sentences whose logits are compared; the bundled ones when None."""
    sentences: int = 1
    """Of each language."""
    python: str | None = None
    """Of the environment that has the toolchain; this one's when None."""
    threads: int = 1
    load: bool = True
    """Whether the toolchain is asked at all."""


def export(
    recipe: Recipe,
    targets: Sequence[str],
    out: str | os.PathLike[str],
    *,
    model: str | os.PathLike[str] | None = None,
    nearest: bool = False,
    check: Check | None = None,
    announce: Announce = lambda _: None,
    trust: Mapping[str, bool] | None = None,
) -> list[Verification]:
    """Writes a recipe for toolchains, each into a folder of its own, and verifies it.

    Args:
        recipe: What every unit gets.
        targets: Names of :data:`bitgap.formats.targets.TARGETS`, or of ``CONFIGURATIONS`` there.
        out: Folder in which one of each target's name is made.
        model: The full-precision model; the one that the recipe names when None.
        nearest: Whether the nearest recipe is written where a target cannot express this one.
        check: How it is verified.
        announce: Is told what is being done.
        trust: As :func:`bitgap.models.load.load_model` takes it.

    Returns:
        A record for each target, in their order.

    Raises:
        UsageError: If a target is unknown or asked for twice, or its folder is there already.
        PlanError: If the recipe is not of this model, or a target cannot express it; nothing is
            written then.
        ExportError: If an export does not pass; it is left under another name, with its record.

    Example:
        >>> from bitgap.protect.recipe import make_recipe
        >>> from bitgap.protect.sizes import Budget
        >>> from bitgap.protect.solve import solve
        >>> budget = Budget(size_bytes=28400, fixed_bytes=0, asked="28.4kB")
        >>> recipe = make_recipe(TABLE, solve(PROBLEM), budget, split="2" * 64, seed=0)
        >>> export(recipe, ["vllm", "vllm"], "shipped")
        Traceback (most recent call last):
        ...
        bitgap.errors.UsageError: targets vllm, vllm; name each once
    """
    from bitgap.formats.source import Source
    from bitgap.formats.targets import find_target

    chosen = [find_target(name) for name in targets]
    if len({*targets}) != len(targets) or not targets:
        raise UsageError(f"targets {', '.join(targets) or '(none)'}; name each once")
    folder = Path(out)
    for target in chosen:
        if (folder / target.name).exists():
            raise UsageError(
                f"{folder / target.name} is there already; name another --out, or remove it"
            )
    name = recipe.model if model is None else model
    source = Source.open(name, **(trust or {}))
    check_model(recipe, source.loaded.info.fingerprint)
    schemes = schemes_of(recipe, source)
    for target in chosen:
        target.check_model(source)
    recipes = {t.name: _expressed(t, recipe, source, schemes, nearest, announce) for t in chosen}
    check = check or Check()
    done: list[Verification] = []
    for target in chosen:
        own = recipes[target.name]
        with _whole_or_nothing(folder, target.name) as place:
            announce(f"writing {target.name}")
            target.write(source, schemes_of(own, source), place)
            source.forget_file()
            write_recipe(own, place / RECIPE)
            announce(f"loading {target.name} back")
            made = _verified(target, own, source, name, place, check)
            _write_record(made, place)
            if not made.passed:
                raise ExportError(_told(made, folder / f"{target.name}.failed"))
        done.append(made)
    return done


def verify(
    place: str | os.PathLike[str],
    *,
    model: str | os.PathLike[str] | None = None,
    check: Check | None = None,
    trust: Mapping[str, bool] | None = None,
) -> Verification:
    """Verifies an export once more, and writes what was found into it.

    Args:
        place: A folder that :func:`export` made.
        model: The full-precision model; the one that the recipe names when None.
        check: How.
        trust: As :func:`bitgap.models.load.load_model` takes it.

    Raises:
        UsageError: If it is no export.
        StoreError: If its recipe or record is damaged.
        ExportError: If the toolchain is not installed, does not load it, or it is not what its
            recipe says.

    Example:
        >>> verify("nowhere")
        Traceback (most recent call last):
        ...
        bitgap.errors.UsageError: 'nowhere' has no bitgap-verification.json; name a folder that \
`bitgap export` made, such as OUT/compressed-tensors
    """
    from bitgap.formats.source import Source
    from bitgap.formats.targets import find_target

    folder = Path(place)
    if not (folder / RECORD).is_file():
        raise UsageError(
            f"{os.fspath(place)!r} has no {RECORD}; name a folder that `bitgap export` made, such "
            f"as OUT/compressed-tensors"
        )
    try:
        before = decode(Verification, (folder / RECORD).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise StoreError(f"{folder / RECORD} cannot be read ({error})") from error
    recipe = read_recipe(folder / RECIPE)
    check = check or Check()
    name = recipe.model if model is None else model
    source = Source.open(name, **(trust or {}))
    check_model(recipe, source.loaded.info.fingerprint)
    made = _verified(find_target(before.target), recipe, source, name, folder, check)
    if not made.loaded and check.load and made.passed and not made.configures:
        made = replace(made, failures=made.notes)
    _write_record(made, folder)
    if not made.passed:
        raise ExportError(_told(made, folder))
    return made


# -- what is asked ---------------------------------------------------------------------------------


def schemes_of(recipe: Recipe, source: Source) -> dict[str, str]:
    """Returns the scheme of every matrix that can be rounded; what no unit names is left whole.

    Args:
        recipe: The recipe.
        source: The model.

    Raises:
        PlanError: If a unit names a matrix that the model does not have, or two name one.

    Example:
        >>> from bitgap.formats.source import Source
        >>> from bitgap.protect.recipe import make_recipe
        >>> from bitgap.protect.sizes import Budget
        >>> from bitgap.protect.solve import solve
        >>> budget = Budget(size_bytes=28400, fixed_bytes=0, asked="28.4kB")
        >>> recipe = make_recipe(TABLE, solve(PROBLEM), budget, split="2" * 64, seed=0)
        >>> schemes_of(recipe, Source.open(None))  # doctest: +ELLIPSIS
        Traceback (most recent call last):
        ...
        bitgap.errors.PlanError: unit ... has no matrix ...
    """
    found: dict[str, str] = {}
    for name, unit in recipe.units.items():
        for matrix in unit.matrices:
            try:
                own = source.place(matrix).name
            except ValueError as error:
                raise PlanError(f"unit {name!r} of the recipe: {error}") from None
            if own in found:
                raise PlanError(f"unit {name!r} of the recipe names {matrix!r}, which another has")
            found[own] = unit.scheme
    return {name: found.get(name, "fp") for name in source.places}


def _expressed(
    target: Target,
    recipe: Recipe,
    source: Source,
    schemes: Mapping[str, str],
    nearest: bool,
    announce: Announce,
) -> Recipe:
    refused = target.refusals(source.places, schemes)
    if not refused:
        return recipe
    near = nearest_recipe(target, recipe, source)
    units = _unit_of(recipe, source)
    lines = [_refusal_line(one, units) for one in refused[:_LISTED]]
    if len(refused) > _LISTED:
        lines.append(f"and {len(refused) - _LISTED} more")
    said = "; ".join(lines)
    if nearest:
        announce(f"{target.name}: nearest recipe, {near.bytes:,} bytes: {said}")
        return near
    raise PlanError(
        f"{target.name} cannot hold {len(refused)} of {len(schemes)} matrices as the recipe has "
        f"them: {said}. The nearest recipe that it can takes {near.bytes:,} bytes instead of "
        f"{recipe.bytes:,}; write it with --nearest. Nothing was written"
    )


def _refusal_line(one: Refusal, units: Mapping[str, str]) -> str:
    unit = units.get(one.place)
    return (
        f"{f'unit {unit}' if unit else one.place}: {one.scheme}, but {one.why} (nearest: "
        f"{one.nearest})"
    )


def nearest_recipe(target: Target, recipe: Recipe, source: Source) -> Recipe:
    """Returns the recipe nearest to one that a target can express: no unit with fewer bits.

    A unit whose matrices would part company gets the scheme of the one that takes most.

    Args:
        target: The toolchain.
        recipe: What was asked.
        source: The model.

    Example:
        >>> from bitgap.formats.source import Source
        >>> from bitgap.formats.targets import find_target
        >>> from bitgap.protect.recipe import make_recipe
        >>> from bitgap.protect.sizes import Budget
        >>> from bitgap.protect.solve import solve
        >>> budget = Budget(size_bytes=28400, fixed_bytes=0, asked="28.4kB")
        >>> recipe = make_recipe(TABLE, solve(PROBLEM), budget, split="2" * 64, seed=0)
        >>> source, name = Source.open(None), "transformer.h.0.mlp.c_fc.weight"
        >>> unit = RecipeUnit(scheme="rtn3-g128", bytes=100352, matrices=(name,))
        >>> recipe = replace(recipe, units={"0.up": unit}, bytes=unit.bytes)
        >>> nearest_recipe(find_target("gguf"), recipe, source).schemes
        {'0.up': 'rtn4-g32'}
    """
    schemes = schemes_of(recipe, source)
    members = {
        name: [source.place(matrix).name for matrix in unit.matrices]
        for name, unit in recipe.units.items()
    }
    for _ in range(len(schemes) + 1):
        schemes = target.nearest_to(source.places, schemes)
        parted = {n: m for n, m in members.items() if len({schemes[p] for p in m}) > 1}
        if not parted:
            break
        for places in parted.values():
            most = max(places, key=lambda p: _bits(target, source.places[p], schemes[p]))
            schemes |= dict.fromkeys(places, schemes[most])
    units = {
        name: RecipeUnit(
            scheme=schemes[places[0]],
            bytes=recipe.units[name].bytes
            if schemes[places[0]] == recipe.units[name].scheme
            else sum(target.bytes_of(source.places[p], schemes[p]) for p in places),
            matrices=recipe.units[name].matrices,
        )
        for name, places in members.items()
    }
    return replace(
        recipe,
        units=units,
        bytes=sum(unit.bytes for unit in units.values()) + recipe.fixed_bytes,
        target=target.name,
        commands=(*recipe.commands, f"bitgap export --nearest --to {target.name}"),
        proof="",
        sealed="",
    )


def _bits(target: Target, place: Place, scheme: str) -> float:
    return 8 * target.bytes_of(place, scheme) / place.n_weights


def _unit_of(recipe: Recipe, source: Source) -> dict[str, str]:
    return {
        source.place(matrix).name: name
        for name, unit in recipe.units.items()
        for matrix in unit.matrices
    }


# -- what is made ----------------------------------------------------------------------------------


@contextmanager
def _whole_or_nothing(out: Path, name: str) -> Generator[Path]:
    """Gives a hidden folder that takes its name when the body is done.

    An export that failed is kept as ``NAME.failed``; of anything else nothing is left. What a
    process that was killed left behind is taken away first.
    """
    try:
        out.mkdir(parents=True, exist_ok=True)
        for left in out.glob(f".{name}.part-*"):
            if not _is_running(left.name.rpartition("-")[2]):
                shutil.rmtree(left, ignore_errors=True)
        part = out / f".{name}.part-{os.getpid()}"
        part.mkdir()
    except OSError as error:
        raise UsageError(
            f"--out {os.fspath(out)}: cannot write there ({error.strerror or error}); name a "
            f"folder that can be made or written"
        ) from None
    try:
        yield part
        part.rename(out / name)
    except ExportError:
        failed = out / f"{name}.failed"
        shutil.rmtree(failed, ignore_errors=True)
        part.rename(failed)
        raise
    finally:
        shutil.rmtree(part, ignore_errors=True)


def _is_running(number: str) -> bool:
    if not number.isdecimal():
        return False
    try:
        os.kill(int(number), 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return int(number) != os.getpid()


def _write_record(made: Verification, folder: Path) -> None:
    write_text(folder / RECORD, encode(made) + "\n")


# -- what is found ---------------------------------------------------------------------------------


def _verified(
    target: Target,
    recipe: Recipe,
    source: Source,
    model: str | os.PathLike[str],
    folder: Path,
    check: Check,
) -> Verification:
    from bitgap.formats.counted import count, opened, stored_values
    from bitgap.formats.simulated import write_logits
    from bitgap.models.stored import forget_files

    began = time.monotonic()
    if (given := target.configured(source, folder)) is not None:
        return _configured(target, recipe, source, given, model, began)
    schemes = schemes_of(recipe, source)
    units = _unit_of(recipe, source)
    checkpoint = opened(folder)
    counted = list(count(source, target, schemes, checkpoint))
    source.forget_file()
    forget_files(folder)
    sentences = _sentences(source, check)
    further = target.further(source, folder, _texts(check))
    with tempfile.TemporaryDirectory(prefix="bitgap-") as place:
        stored = stored_values(source, target, checkpoint)
        texts, moved = write_logits(source, target, schemes, sentences, Path(place), stored=stored)
        names = [one.name for one in counted]
        loaded = _loaded(target, source, folder, names, texts, check)
    matrices = tuple(
        VerifiedMatrix(
            name=one.name,
            unit=units.get(one.name, ""),
            asked=schemes[one.name],
            stored=one.stored,
            loaded=loaded.matrices.get(one.name, "") if loaded else "",
            code_bits=one.code_bits,
            n_bytes=one.n_bytes,
            error=one.error,
            wrong=_both(one.wrong, _lost(one.stored, loaded, one.name)),
        )
        for one in counted
    )
    by_unit = _by_unit(recipe, matrices)
    logits = _by_language(texts, moved, loaded)
    explained = target.explained(source, schemes)
    made = Verification(
        target=target.name,
        recipe=recipe.seal,
        model=os.fspath(model),
        fingerprint=recipe.fingerprint,
        matrices=matrices,
        units=by_unit,
        logits=logits,
        recipe_bytes=recipe.bytes,
        file_bytes=sum(p.stat().st_size for p in folder.iterdir() if p.suffix in _WEIGHTS),
        units_bytes=sum(unit.file_bytes for unit in by_unit),
        tolerance=explained.tolerance,
        floor=explained.floor,
        arithmetic=explained.why,
        loaded=loaded is not None and not (loaded.missing or loaded.failure or loaded.own),
        versions=loaded.versions if loaded else {},
        bitgap=__version__,
        took_s=time.monotonic() - began,
        failures=(),
    )
    failures = (*_failures(made, loaded), *further)
    return replace(made, failures=failures, notes=_notes(made, target, loaded))


def _by_unit(recipe: Recipe, matrices: Sequence[VerifiedMatrix]) -> tuple[VerifiedUnit, ...]:
    return tuple(
        VerifiedUnit(
            name=name,
            scheme=unit.scheme,
            recipe_bytes=unit.bytes,
            file_bytes=sum(one.n_bytes for one in matrices if one.unit == name),
        )
        for name, unit in recipe.units.items()
    )


def _configured(
    target: Target,
    recipe: Recipe,
    source: Source,
    given: Mapping[str, str],
    model: str | os.PathLike[str],
    began: float,
) -> Verification:
    """Returns what a configuration, read again, gives every matrix against its recipe."""
    schemes, units = schemes_of(recipe, source), _unit_of(recipe, source)
    matrices: list[VerifiedMatrix] = []
    for name, place in source.places.items():
        wanted = target.expected(source, place, schemes[name])
        same = given[name] == wanted.stored
        matrices.append(
            VerifiedMatrix(
                name=name,
                unit=units.get(name, ""),
                asked=schemes[name],
                stored=given[name],
                loaded="",
                code_bits=wanted.code_bits,
                n_bytes=wanted.n_bytes,
                error=0.0,
                wrong="" if same else f"is given {given[name] or 'nothing'}, not {wanted.stored}",
            )
        )
    by_unit = _by_unit(recipe, matrices)
    units_bytes = sum(unit.file_bytes for unit in by_unit)
    made = Verification(
        target=target.name,
        recipe=recipe.seal,
        model=os.fspath(model),
        fingerprint=recipe.fingerprint,
        matrices=tuple(matrices),
        units=by_unit,
        logits=(),
        recipe_bytes=recipe.bytes,
        file_bytes=units_bytes + recipe.fixed_bytes,
        units_bytes=units_bytes,
        tolerance=0.0,
        floor=0.0,
        arithmetic="",
        loaded=False,
        bitgap=__version__,
        took_s=time.monotonic() - began,
        configures=True,
        failures=(),
    )
    notes = (
        f"{target.title} rounds by itself: bits and groups are the recipe's, levels are its own, "
        f"and so is what they do to each language; audit the file that it makes with --against",
    )
    return replace(made, failures=_failures(made, None), notes=notes)


def _loaded(
    target: Target,
    source: Source,
    folder: Path,
    names: Sequence[str],
    texts: Sequence[Text],
    check: Check,
) -> Loaded | None:
    """Has the toolchain run an export, or our own reader where it is not there or known to err."""
    from bitgap.formats.loading import Loaded, load_back, sums_of

    found: Loaded | None = None
    why = "it was not to be loaded"
    if check.load:
        why = target.not_loaded(source)
        if not why:
            found = load_back(
                target,
                folder,
                names,
                texts,
                python=check.python,
                threads=check.threads,
                settings=target.settings(source),
            )
            if not found.missing:
                return found
            why = f"{', '.join(found.missing)} is not installed"
    own = target.own_logits(source, folder, [text.ids for text in texts])
    if own is None:
        return found
    sums = tuple(sums_of(logits, text) for logits, text in zip(own, texts, strict=True))
    return Loaded(missing=found.missing if found else (), texts=sums, own=why)


def _lost(stored: str, loaded: Loaded | None, name: str) -> str:
    """Returns what the toolchain made of a matrix that is not what its file says."""
    if loaded is None or name not in loaded.matrices:
        return ""
    held = loaded.matrices[name]
    whole = held.startswith(("float", "bfloat")) or held in _FLOATS
    if whole == (stored in _FLOATS) and (whole or held == stored):
        return ""
    return f"the toolchain holds {held}, the file {stored}"


def _both(first: str, second: str) -> str:
    return "; ".join(part for part in (first, second) if part)


def _texts(check: Check) -> list[str]:
    """Returns sentences whose tokens are compared."""
    from bitgap.corpora.parallel import load_corpus

    corpus = check.corpus or load_corpus()
    return [text for one in corpus.languages for text in corpus.sentences[one][:_TOKENIZED]]


def _sentences(source: Source, check: Check) -> list[tuple[str, tuple[int, ...]]]:
    from bitgap.corpora.parallel import load_corpus
    from bitgap.formats.simulated import token_ids

    corpus = check.corpus or load_corpus()
    found: list[tuple[str, tuple[int, ...]]] = []
    for language in corpus.languages:
        for sentence in corpus.sentences[language][: check.sentences]:
            ids = token_ids(source, sentence, _LONGEST_TOKENS)
            if len(ids) > 1:
                found.append((language, ids))
    if not found:
        raise UsageError("no sentence of the corpus has two tokens; give another --corpus")
    return found


def _by_language(
    texts: Sequence[Text], moved: Sequence[Moved], loaded: Loaded | None
) -> tuple[LogitsOf, ...]:
    if loaded is None or not loaded.texts:
        return ()
    found: list[LogitsOf] = []
    for language in dict.fromkeys(text.language for text in texts):
        mine = [i for i, text in enumerate(texts) if text.language == language]
        sums = [loaded.texts[i] for i in mine]
        norm = sum(one["squares_of_wanted"] for one in sums)
        count = sum(one["count"] for one in sums)
        found.append(
            LogitsOf(
                language=language,
                n_tokens=sum(len(texts[i].ids) for i in mine),
                largest=max(one["largest"] for one in sums),
                mean=sum(one["sum"] for one in sums) / count,
                relative=(sum(one["squares"] for one in sums) / norm) ** 0.5,
                plan=(sum(moved[i].plan for i in mine) / norm) ** 0.5,
                storing=(sum(moved[i].storing for i in mine) / norm) ** 0.5,
            )
        )
    return tuple(found)


def _failures(made: Verification, loaded: Loaded | None) -> tuple[str, ...]:
    found = [f"{one.name}: {one.wrong}" for one in made.matrices if one.wrong]
    if loaded is not None and loaded.failure:
        found.append(f"{made.target} does not load it: {loaded.failure}")
    for one in made.logits:
        if not one.relative <= made.tolerance:
            found.append(
                f"logits of {one.language} are off by {one.relative:.1e}, and {made.tolerance:.0e} "
                f"is explained ({made.arithmetic})"
            )
        elif one.plan > 0 and not one.relative <= max(_SHARE * one.plan, made.floor):
            found.append(
                f"logits of {one.language} are off by {one.relative:.1e}, more than a quarter of "
                f"what the plan does to them ({one.plan:.1e}): it may not be the plan that was run"
            )
    return tuple(found)


def _notes(made: Verification, target: Target, loaded: Loaded | None) -> tuple[str, ...]:
    notes: list[str] = []
    if loaded is None:
        notes.append("it was not loaded by its toolchain, as was asked")
    elif loaded.missing:
        notes.append(
            f"it was not loaded by its toolchain: {', '.join(loaded.missing)} is not installed; "
            f"run `bitgap verify` with --python of an environment that has it"
        )
    elif loaded.lacked:
        notes.append(
            f"another library loaded it, as {', '.join(loaded.lacked)} is not installed; run "
            f"`bitgap verify` with --python of an environment that has it"
        )
    elif loaded.own:
        notes.append(f"its own toolchain did not run it: {loaded.own}; our reader of it did")
    asked = sum(unit.recipe_bytes for unit in made.units)
    if asked and abs(made.units_bytes - asked) > _BYTES_SHARE * asked:
        notes.append(
            f"its units take {made.units_bytes:,} bytes, where the recipe counts {asked:,}: "
            f"{target.bytes_note}"
        )
    return tuple(notes)


def _told(made: Verification, where: Path) -> str:
    listed = "; ".join(made.failures[:3]) + ("; …" if len(made.failures) > 3 else "")
    return (
        f"the export for {made.target} is not what its recipe says: {listed}. It is left as "
        f"{where}, with {RECORD}"
    )
