"""The rules of the house, read off the syntax trees: who may import whom, and who no torch."""

from __future__ import annotations

import ast
import re
import resource
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

import bitgap

SOURCE = Path(bitgap.__file__).parent
# A module may import those of its own floor's rooms named before it, and of the floors below.
# Imports inside functions and under TYPE_CHECKING count: a reader follows them all the same.
FLOORS = (
    ("errors", "version", "files"),
    ("records", "codec"),
    ("languages",),
    ("models", "corpora"),
    ("quant",),
    ("formats",),
    ("stats",),
    ("disparity",),
    ("protect",),
    ("show",),
    ("lab",),
    ("experiments",),
    ("jobs",),
    ("theory",),
    ("report",),
    ("cli",),
    ("__init__", "__main__"),
)
FLOOR_OF = {name: i for i, names in enumerate(FLOORS) for name in names}
HEAVY = {"torch", "transformers", "safetensors"}
TORCH_ROOMS = ("models", "lab", "quant", "formats")
"""Rooms some of whose files hold torch; in ``experiments`` the name of the file says it."""
TORCH_PARTS = ("measure.py", "twins.py")  # wherever they stand
INSTRUMENTS = {
    "t004_residual_propagation/propagation.py",
    "t005_gateway_structure/spectra.py",
    "t006_error_cancellation/fisher.py",
    "t008_morphology/lens.py",
    "t008_morphology/matched_pairs.py",
    "t008_morphology/tagged_words.py",
}
WITHOUT_TORCH_FILES = (
    "lab/store.py",
    "lab/store_repair.py",
    "lab/store_tables.py",
    "lab/local_errors.py",
    "lab/engine/tree.py",
    "quant/plan.py",
    "quant/sets.py",
)


def files() -> list[Path]:
    return sorted(SOURCE.rglob("*.py"))


def name_of(path: Path) -> str:
    parts = list(path.relative_to(SOURCE).with_suffix("").parts)
    return ".".join(["bitgap", *(parts[:-1] if parts[-1] == "__init__" else parts)])


MODULES = {name_of(path): path for path in files()}


def room(module: str) -> str:
    """Returns the top-level module or package that a module belongs to."""
    return module.split(".")[1] if "." in module else "__init__"


def imports(path: Path) -> Iterator[tuple[str, int, bool]]:
    """Yields (module, line, whether at the top of the file) of every import, wherever it stands."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name, node.lineno, node in tree.body) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                whole = f"{node.module}.{alias.name}"
                yield (whole if whole in MODULES else node.module), node.lineno, node in tree.body


def test_every_file_has_a_floor() -> None:
    assert {room(name) for name in MODULES} == FLOOR_OF.keys()


@pytest.mark.parametrize("name", MODULES)
def test_imports_flow_downward_only(name: str) -> None:
    for module in arrows_of(name):
        assert FLOOR_OF[room(module)] <= FLOOR_OF[room(name)], f"{name} imports {module}, above it"


def arrows_of(name: str) -> set[str]:
    """Returns what a module imports: what it names, and the packages that run on the way there."""
    named = {m for m, *_ in imports(MODULES[name]) if m in MODULES and m != name}
    ways = {m.rsplit(".", n)[0] for m in named for n in range(1, m.count(".") + 1)}
    return named | {w for w in ways - {"bitgap", name} if not f"{name}.".startswith(f"{w}.")}


def test_nothing_imports_in_a_circle() -> None:
    graph = {name: arrows_of(name) for name in MODULES}
    try:
        tuple(TopologicalSorter(graph).static_order())
    except CycleError as error:
        pytest.fail(f"a circle: {' -> '.join(error.args[1])}")


def test_experiments_do_not_import_each_other() -> None:
    own = re.compile(r"bitgap\.experiments\.((?:t0\d\d_\w+)|synergy|depth)\b")
    for name in MODULES:
        if found := own.match(name):
            others = {m[1] for other in arrows_of(name) if (m := own.match(other))} - {found[1]}
            assert not others, f"{name} imports {others}"


def test_protocol_and_plants_stand_under_the_experiments() -> None:
    for name in MODULES:
        if name.startswith(("bitgap.experiments.protocol", "bitgap.experiments.plants")):
            for module in arrows_of(name):
                below = not module.startswith("bitgap.experiments.") or module.startswith(
                    ("bitgap.experiments.protocol", "bitgap.experiments.plants")
                )
                assert below, f"{name} imports {module}"


def may_hold_torch(path: Path) -> bool:
    relative = path.relative_to(SOURCE)
    if relative.name in TORCH_PARTS:
        return True
    if relative.parts[0] == "experiments":
        return relative.parts[1] == "plants" or "/".join(relative.parts[1:]) in INSTRUMENTS
    return relative.parts[0] in TORCH_ROOMS and str(relative) not in WITHOUT_TORCH_FILES


@pytest.mark.parametrize("name", MODULES)
def test_torch_stands_at_the_top_of_the_files_that_may_have_it_and_nowhere_else(name: str) -> None:
    path = MODULES[name]
    for module, line, top in imports(path):
        if module.split(".")[0] in HEAVY:
            assert may_hold_torch(path), f"{path}:{line} imports {module}"
            assert top, f"{path}:{line} imports {module} inside a function"


def modules_after(code: str, heavy: set[str] = HEAVY) -> set[str]:
    """Returns which heavy libraries a fresh interpreter has loaded after running code."""
    asked = f"import sys\n{code}\nprint(*(m for m in {sorted(heavy)} if m in sys.modules))"
    out = subprocess.run([sys.executable, "-c", asked], capture_output=True, text=True, check=True)
    return set(out.stdout.splitlines()[-1].split()) & heavy


@pytest.mark.parametrize(
    "code",
    [
        "import bitgap",
        "import bitgap.disparity, bitgap.stats.verdicts, bitgap.lab.store, bitgap.jobs.results",
        "import bitgap.report.run",
        "import bitgap.show.views, bitgap.disparity.layer_map, bitgap.experiments.catalog",
        "import bitgap.theory.run, bitgap.jobs.tiers",
        "from bitgap.quant.plan import Plan; Plan.parse('rtn4-g128 protect 0', 12)",
    ],
)
def test_what_only_judges_or_shows_loads_no_torch(code: str) -> None:
    assert modules_after(code) == set()


def test_listing_experiments_loads_no_statistics() -> None:
    code = "from bitgap.cli.main import main\nassert main(['list', '--json']) == 0"
    assert modules_after(code, HEAVY | {"scipy", "sklearn"}) == set()


def test_the_checks_for_what_is_loaded_can_fail() -> None:
    assert "torch" in modules_after("import bitgap.lab.lab")
    assert modules_after("import bitgap.stats.profiles", {"scipy"}) == {"scipy"}


@pytest.mark.alone
@pytest.mark.parametrize("arguments", [["-c", "import bitgap"], ["-m", "bitgap", "--help"]])
def test_starting_up_is_quick(arguments: list[str]) -> None:
    def run() -> float:
        # Processor seconds: a machine that is shared says nothing by the clock.
        start = sum(resource.getrusage(resource.RUSAGE_CHILDREN)[:2])
        subprocess.run([sys.executable, *arguments], capture_output=True, check=True)
        return sum(resource.getrusage(resource.RUSAGE_CHILDREN)[:2]) - start

    # The best of several, as other work on the machine only ever adds.
    assert min(run() for _ in range(5)) < 0.3


def test_public_names_are_frozen() -> None:
    assert bitgap.__all__ == [
        "Lab",
        "Plan",
        "Scores",
        "Settings",
        "__version__",
        "audit",
        "frame",
        "load_corpus",
        "run",
    ]
    for name in bitgap.__all__:
        assert getattr(bitgap, name) is not None


def test_an_experiment_is_a_first_screen() -> None:
    for path in sorted((SOURCE / "experiments").glob("*/__init__.py")):
        assert path.read_text(encoding="utf-8").count("\n") <= 120, f"{path} is no first screen"


def test_plans_are_found_and_proved_without_a_lab_or_a_model() -> None:
    for name in MODULES:
        if room(name) == "protect":
            rooms = {room(module) for module in arrows_of(name)}
            assert not rooms & {"models", "lab", "experiments"}, f"{name} imports {rooms}"


def test_no_two_test_files_share_a_name() -> None:
    """Tests stand in folders without packages, where the second of a name is not collected."""
    names = Counter(path.name for path in Path(__file__).parent.rglob("test_*.py"))
    assert [name for name, n in names.items() if n > 1] == []
