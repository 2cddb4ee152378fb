"""Runs the calibration, section by section, and keeps the page up to date."""

from __future__ import annotations

import os
import platform
import re
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from importlib.metadata import version
from multiprocessing import get_context
from pathlib import Path
from typing import Any, TypeVar

from threadpoolctl import threadpool_limits

from bitgap.experiments.catalog import CATALOG
from bitgap.stats.verdicts import Thresholds, load_thresholds
from bitgap.version import __version__
from validation import page
from validation.counts import Count
from validation.detection import Outcome, Part, Setting, merged, outcomes, parts
from validation.family_tests import SLOPE, rates
from validation.guards import SCENARIOS, GuardTally, Scenario, guard_tally
from validation.protect import RECIPE_WORLDS, RecipeTally, RecipeWorld, recipe_tally
from validation.synth_checks import checks
from validation.synth_lm import SynthLM, additive_synth, cancelling_synth
from validation.synth_synergy import FAR_RHO, PLANTED_RHO, SynergyTally, count
from validation.synth_theory import NULLS, PLANTED, TheoryTally, TheoryWorld
from validation.synth_theory import rates as theory_rates
from validation.truth_table import KINDS, TRUTHS, Tally, World, tally, worlds

Announce = Callable[[str], None]
T = TypeVar("T")
R = TypeVar("R")

SEED = 20260
"""Of all simulations; another one gives another draw of the same page."""
PACKAGES = ("numpy", "scipy", "torch", "transformers")


@dataclass(frozen=True, slots=True, kw_only=True)
class Size:
    """How much is counted.

    Attributes:
        name: What the page calls it.
        families: Numbers of families.
        layers: Numbers of layers.
        tests: Times each test across families is tried in each cell.
        models: Synthetic models for each synergy count, and worlds of the formal model.
        additive: Synthetic models without synergy, of which false support is counted.
        tokens: Sentences of the synthetic model that estimators are checked on.
        worlds: Worlds of each kind, by truth.
        guarded: Worlds of each scenario of guarded refutations.
        recipes: Worlds of each kind in which a recipe is searched and proved.
        recipe_worlds: Their kinds.
        setting: Where the experiments are run; not at all when None.
        tier: Tier of the main job whose parameters of single experiments are used; none when None.
    """

    name: str
    families: tuple[int, ...]
    layers: tuple[int, ...]
    tests: int
    models: int
    additive: int
    tokens: int
    worlds: Mapping[str, int]
    guarded: int
    recipes: int
    recipe_worlds: tuple[RecipeWorld, ...]
    setting: Setting | None
    tier: str | None = None


FULL = Size(
    name="full",
    families=(5, 8),
    layers=(12, 24),
    # So many that an error of 2 or 3 % has its upper limit under 5 %.
    tests=400,
    models=80,
    additive=400,
    tokens=4000,
    worlds={
        **{"none": 400, "sesoi": 160, "half way": 100, "twice": 120, "half": 400},
        **{"faint": 120, "few": 40},
    },
    guarded=1200,
    recipes=200,
    recipe_worlds=RECIPE_WORLDS,
    setting=Setting(
        languages=("en", "de", "ru", "he"),
        sentences=24,
        seeds=(0,),
        twin_seeds=(0,),
        scheme="rtn3-g128",
        overrides={"control_sentences": 4, "map_sentences": 4, "null_draws": 10},
        # All masks of a twin cost more than they can tell; a few plantings let it say "supported".
        twin_overrides={"planted_seeds": 2, "complete": False},
    ),
    tier="smoke",  # what is known to be quick
)
SHORT = replace(FULL, name="short: no experiments on a model", setting=None, tier=None)
QUICK = Size(
    name="quick, whose rates say nothing",
    families=(8,),
    layers=(12,),
    tests=20,
    models=3,
    additive=3,
    tokens=500,
    worlds=dict.fromkeys(TRUTHS, 4),
    guarded=2,
    recipes=1,
    recipe_worlds=tuple(w for w in RECIPE_WORLDS if w.confirm < 100),
    setting=Setting(
        languages=("en", "he"),
        sentences=8,
        seeds=(0,),
        twin_seeds=(),
        scheme="rtn3-g128",
        overrides={
            **{"control_sentences": 4, "shuffled_sentences": 4, "planted_seeds": 2},
            **{"noise_seeds": 1, "map_sentences": 2, "complete": False, "null_draws": 2},
        },
        own_overrides={
            "T-005": {"twins": 4, "tail_draws": 10},
            "T-008": {"items": 24, "words": 200},
        },
    ),
)


def calibrate(
    out: Path,
    size: Size,
    *,
    jobs: int = 1,
    only: Collection[str] = (),
    announce: Announce = lambda text: None,
) -> None:
    """Writes the page, anew after every section.

    Args:
        out: Where to; folders are made.
        size: How much to count.
        jobs: Processes for simulations.
        only: Names of the sections that are made, of :data:`SECTIONS`; the others stay as the page
            has them. All when empty, and what the size leaves out stays too.
        announce: Told how far it is, one line each.
    """
    thresholds = load_thresholds()
    facts = _facts(size, thresholds)
    out.parent.mkdir(parents=True, exist_ok=True)
    written = _sections_of_text(out.read_text(encoding="utf-8") if out.exists() else "")
    for name in [name for name in SECTIONS if not only or name in only]:
        if name == "experiments" and size.setting is None:
            continue
        announce(f"[{name}]")
        start = time.perf_counter()
        text = _SECTIONS[name](size, thresholds, jobs, announce)
        wall_s = time.perf_counter() - start
        stamped = page.stamped(text, name, {**facts, "seconds": f"{wall_s:.0f}"})
        written[name] = stamped.strip()
        announce(f"[{name}] {wall_s:.0f} s")
        missing = [n for n in SECTIONS if n not in written]
        told = {**facts, "sections not made": ", ".join(missing)} if missing else facts
        _write(out, [page.header(told), *(written[n] for n in SECTIONS if n in written)])


def _sections_of_text(text: str) -> dict[str, str]:
    """Returns the sections of a page by name; none of what is no page."""
    parts = re.split(page.MARK, text, flags=re.M)[1:]
    return {
        name: f"{page.mark(name)}\n{body.strip()}"
        for name, body in zip(parts[::2], parts[1::2], strict=True)
    }


def _facts(size: Size, thresholds: Thresholds) -> dict[str, object]:
    return {
        "date": datetime.now(UTC).date().isoformat(),
        "size": size.name,
        "declared thresholds": f"version {thresholds.version}, hash {thresholds.hash}",
        "bitgap": __version__,
        "Python": platform.python_version(),
        **{name: version(name) for name in PACKAGES},
        "seed": SEED,
    }


def _write(out: Path, parts: Iterable[str]) -> None:
    # Beside and then in place, so that whoever is killed here leaves a whole page.
    beside = out.with_name(f"{out.name}.part")
    beside.write_text("\n\n".join(parts) + "\n", encoding="utf-8")
    os.replace(beside, out)


# -- sections -------------------------------------------------------------------------------------


def _family_tests(size: Size, thresholds: Thresholds, jobs: int, announce: Announce) -> str:
    cells = [(m, n, kind) for m in size.families for n in size.layers for kind in KINDS]
    found: dict[tuple[int, int, str], Any] = {}
    work = partial(_rates_of, n=size.tests)
    for cell, both in zip(cells, _each(work, cells, jobs), strict=True):
        announce(f"tests across {cell[0]} families of {cell[1]} layers, {cell[2]}")
        found[cell] = both
    return page.family_tests(found)


def _rates_of(
    cell: tuple[int, int, str], n: int
) -> tuple[Mapping[str, Count], Mapping[str, Count]]:
    null, power = (rates(*cell, slope=slope, n=n, seed=SEED) for slope in (0.0, SLOPE))
    return null, power


def _synth(size: Size, thresholds: Thresholds, jobs: int, announce: Announce) -> str:
    makers = {
        "damage adds up": additive_synth,
        "ends cancel, more so in one language": partial(cancelling_synth, rho=PLANTED_RHO),
        "ends cancel, in both languages alike": partial(
            cancelling_synth, rho=PLANTED_RHO, bias=0.0
        ),
        "ends cancel so far that the last is worth nothing alone": partial(
            cancelling_synth, rho=FAR_RHO
        ),
        "ends add up to more than their sum": partial(cancelling_synth, rho=-PLANTED_RHO),
    }
    # Every process judges shares of the seeds, all in one pool: it plants its controls once.
    shares = [
        (name, make, range(i, n, jobs))
        for name, make in makers.items()
        for n in [size.additive if make is additive_synth else size.models]
        for i in range(min(jobs, n))
    ]
    tallies: dict[str, SynergyTally] = {}
    found = _each(partial(_synergy_of, thresholds=thresholds), shares, jobs)
    for (name, _, _), done in zip(shares, found, strict=True):
        tallies[name] = tallies[name] + done if name in tallies else done
    for name, tally_of in tallies.items():
        announce(f"synthetic models, {name}: {dict(tally_of.labels)}")
    (checked,) = _each(partial(checks, tokens=size.tokens), [SEED], 1)
    return page.synth(checked, tallies, thresholds)


def _synergy_of(
    share: tuple[str, Callable[[int], SynthLM], range], thresholds: Thresholds
) -> SynergyTally:
    _, make, seeds = share
    return count(make, seeds, thresholds)


def _truth_table(size: Size, thresholds: Thresholds, jobs: int, announce: Announce) -> str:
    kinds = list(worlds(size.families, size.layers))
    found = []
    for done in _each(
        partial(_tally_of, counts=dict(size.worlds), thresholds=thresholds), kinds, jobs
    ):
        world = done.world
        announce(
            f"{len(found) + 1} of {len(kinds)}: {done.n} worlds, {world.truth}, {world.families} "
            f"families, {world.layers} layers, {world.kind}: false in {done.false}"
        )
        found.append(done)
    return page.truth_table(found, thresholds)


def _tally_of(world: World, counts: Mapping[str, int], thresholds: Thresholds) -> Tally:
    return tally(world, counts[world.truth], SEED, thresholds)


def _guards(size: Size, thresholds: Thresholds, jobs: int, announce: Announce) -> str:
    work = partial(_guard_tally_of, n=size.guarded, thresholds=thresholds)
    found = list[GuardTally]()
    for done in _each(work, SCENARIOS, jobs):
        announce(f"{done.scenario.told}: {dict(done.labels)}, version 2 refutes {done.before}")
        found.append(done)
    return page.guards(found, thresholds)


def _guard_tally_of(scenario: Scenario, n: int, thresholds: Thresholds) -> GuardTally:
    return guard_tally(scenario, n, SEED, thresholds)


def _recipes(size: Size, thresholds: Thresholds, jobs: int, announce: Announce) -> str:
    # In shares of the seeds, as a world in which a need is planted costs several of the others.
    n_shares = min(size.recipes, 4 * jobs)
    shares = [
        (world, range(SEED + i, SEED + size.recipes, n_shares))
        for world in size.recipe_worlds
        for i in range(n_shares)
    ]
    found: dict[str, RecipeTally] = {}
    for (world, _), done in zip(shares, _each(_recipe_tally_of, shares, jobs), strict=True):
        found[world.name] = found[world.name] + done if world.name in found else done
    for name, one in found.items():
        announce(f"recipes, {name}: {dict(one.labels)}")
    return page.recipes(list(found.values()))


def _recipe_tally_of(share: tuple[RecipeWorld, range]) -> RecipeTally:
    return recipe_tally(*share)


def _formal_model(size: Size, thresholds: Thresholds, jobs: int, announce: Announce) -> str:
    named = {**NULLS, **PLANTED}
    work = partial(_theory_rates_of, n=size.models, thresholds=thresholds)
    found: dict[str, TheoryTally] = {}
    for name, done in zip(named, _each(work, named.values(), jobs), strict=True):
        announce(f"formal model, {name}: {dict(done.labels)}")
        found[name] = done
    return page.formal_model(
        {name: found[name] for name in NULLS}, {name: found[name] for name in PLANTED}, thresholds
    )


def _theory_rates_of(world: TheoryWorld, n: int, thresholds: Thresholds) -> TheoryTally:
    return theory_rates(world, n, thresholds, seed=SEED)


def _experiments(size: Size, thresholds: Thresholds, jobs: int, announce: Announce) -> str:
    setting = _with_tier(size)
    found: list[Outcome] = []
    for part, done in zip(
        parts(setting),
        _each(partial(_outcomes_of, setting=setting, thresholds=thresholds), parts(setting), jobs),
        strict=True,
    ):
        said = ", ".join(f"{one.experiment} {one.label or one.failure}" for one in done)
        announce(f"on {part}, {sum(one.wall_s for one in done):.0f} s: {said}")
        found += done
    return page.detection(merged(CATALOG, found), setting, "reference")


def _with_tier(size: Size) -> Setting:
    """Returns the setting, with the tier's parameters of single experiments."""
    assert size.setting is not None
    if size.tier is None:
        return size.setting
    # But effects are planted as often as the method says.
    own = {
        e.id: {n: value for n, value in e.tiers[size.tier].items() if n != "planted_seeds"}
        for e in CATALOG
        if size.tier in e.tiers
    }
    return replace(size.setting, own_overrides=own)


def _outcomes_of(part: Part, setting: Setting, thresholds: Thresholds) -> list[Outcome]:
    import torch

    from bitgap.lab.lab import Lab
    from bitgap.lab.settings import Settings

    # As many processes as processors share the work, so each has one thread.
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        lab = Lab.from_pretrained(settings=Settings(arithmetic="fast"))
        return outcomes(lab, part, CATALOG, setting, thresholds)
    finally:
        torch.set_num_threads(threads)


_SECTIONS: Mapping[str, Callable[[Size, Thresholds, int, Announce], str]] = {
    "tests across families": _family_tests,
    "synthetic models": _synth,
    "guards": _guards,
    "truth table": _truth_table,
    "formal model": _formal_model,
    "recipes": _recipes,
    "experiments": _experiments,
}
SECTIONS = tuple(_SECTIONS)
"""Names of the page's sections, in order."""


def _each(work: Callable[[T], R], items: Iterable[T], jobs: int) -> Iterator[R]:
    """Yields the result for each item in order, made by so many processes of one thread each."""
    if jobs == 1:
        for item in items:
            with threadpool_limits(1):
                done = work(item)
            yield done
        return
    # Spawned, since a fork of a process with threads may hang.
    context = get_context("spawn")
    with ProcessPoolExecutor(jobs, context, initializer=_one_thread) as pool:
        try:
            yield from pool.map(work, items)
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _one_thread() -> None:
    # Products are small: threads only wait for each other, and longest on a busy machine.
    threadpool_limits(1)
