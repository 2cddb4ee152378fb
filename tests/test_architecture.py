"""The rules of the house, read off the syntax trees: who may import whom, and who no torch."""

from __future__ import annotations

import ast
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import bitgap

SOURCE = Path(bitgap.__file__).parent
# A module may import those of its own floor and of the floors below.
FLOORS = (
    ("errors", "records", "languages", "markdown", "writing", "models"),
    ("quant", "corpora", "damage", "disparity", "stats"),
    ("lab",),
    ("experiments", "layer_map"),
    ("investigate", "results", "theory"),
    ("terminal", "tables", "views", "theory_views", "notebook", "report"),
    ("cli", "commands", "theory_commands", "report_commands", "arguments", "__init__", "__main__"),
)
FLOOR_OF = {name: i for i, names in enumerate(FLOORS) for name in names}
WITHOUT_TORCH = (
    *("errors", "records", "languages", "damage", "disparity", "stats", "results", "report"),
    "report_commands",
)
WITHOUT_TORCH_FILES = (
    *("lab/store.py", "corpora/parallel.py", "quant/plan.py"),
    *("arguments.py", "notebook.py", "tables.py", "terminal.py", "views.py"),
    *("theory_views.py", "theory/evidence.py", "theory/formal_model.py", "theory/outcomes.py"),
    *("theory/across.py", "theory/zoo.py", "report/results_page.py"),
)
HEAVY = {"torch", "transformers", "safetensors"}


def files() -> list[Path]:
    return sorted(SOURCE.rglob("*.py"))


def part(path: Path) -> str:
    """Returns the top-level module or package a file belongs to."""
    first = path.relative_to(SOURCE).parts[0]
    return first.removesuffix(".py")


def imports(path: Path, *, at_import_time: bool = False) -> Iterator[tuple[str, int]]:
    """Yields (module, line) of imports; of those that run when the file is imported, if asked."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    skipped: set[ast.AST] = set()
    if at_import_time:
        for node in ast.walk(tree):
            lazy = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
            checking = isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test)
            if lazy or checking:
                skipped.update(ast.walk(node))
    for node in ast.walk(tree):
        if node in skipped:
            continue
        if isinstance(node, ast.Import):
            yield from ((alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module, node.lineno


def test_every_file_has_a_floor() -> None:
    assert {part(path) for path in files()} <= FLOOR_OF.keys()


@pytest.mark.parametrize("path", files(), ids=lambda p: str(p.relative_to(SOURCE)))
def test_imports_flow_downward_only(path: Path) -> None:
    mine = FLOOR_OF[part(path)]
    for module, line in imports(path, at_import_time=True):
        if module.startswith("bitgap."):
            other = module.split(".")[1]
            assert FLOOR_OF[other] <= mine, f"{path}:{line} imports {module} from a floor above"


def test_judging_touches_no_torch() -> None:
    named = [SOURCE / name for name in WITHOUT_TORCH_FILES]
    judging = [path for path in files() if part(path) in WITHOUT_TORCH] + named
    assert len(judging) > 15
    for path in judging:
        for module, line in imports(path):
            assert module.split(".")[0] not in HEAVY, f"{path}:{line} imports {module}"


def modules_after(code: str) -> set[str]:
    """Returns which heavy libraries a fresh interpreter has loaded after running code."""
    asked = f"import sys\n{code}\nprint(*(m for m in {sorted(HEAVY)} if m in sys.modules))"
    out = subprocess.run([sys.executable, "-c", asked], capture_output=True, text=True, check=True)
    return set(out.stdout.split()) & HEAVY


@pytest.mark.parametrize(
    "code",
    [
        "import bitgap",
        "import bitgap.disparity, bitgap.stats.verdicts, bitgap.lab.store, bitgap.results",
        "import bitgap.views, bitgap.layer_map, bitgap.experiments.catalog",
        "from bitgap.quant.plan import Plan; Plan.parse('rtn4-g128 protect 0', 12)",
    ],
)
def test_what_only_judges_or_shows_loads_no_torch(code: str) -> None:
    assert modules_after(code) == set()


def test_the_check_for_torch_can_fail() -> None:
    assert "torch" in modules_after("import bitgap.lab.lab")


@pytest.mark.parametrize("arguments", [["-c", "import bitgap"], ["-m", "bitgap", "--help"]])
def test_starting_up_is_quick(arguments: list[str]) -> None:
    def run() -> float:
        start = time.perf_counter()
        subprocess.run([sys.executable, *arguments], capture_output=True, check=True)
        return time.perf_counter() - start

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
        "load_corpus",
        "run",
    ]
    for name in bitgap.__all__:
        assert getattr(bitgap, name) is not None


def test_files_and_functions_fit_a_screen_or_two() -> None:
    for path in files():
        text = path.read_text(encoding="utf-8")
        assert text.count("\n") <= 470, f"{path} is too long: does one room hold two things?"
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef):
                length = (node.end_lineno or node.lineno) - node.lineno + 1
                assert length <= 62, f"{path}:{node.lineno} {node.name} has {length} lines"
