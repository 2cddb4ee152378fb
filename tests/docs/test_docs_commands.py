"""Every command and every piece of Python that the site shows does what it is shown for."""

from __future__ import annotations

import contextlib
import io
import re
import shutil
import time
from functools import partial
from pathlib import Path

import pytest
from docs_samples import PAGES, Step, steps, steps_of

from bitgap.cli import main as cli
from bitgap.cli.main import make_parser
from bitgap.lab.engine import budget
from bitgap.lab.protect import steps as recipe_steps
from cli_samples import (
    ENGLISH,
    GERMAN,
    TEXTS,
    save_model,
    write_corpus_folder,
    write_longer_corpus,
)

NOT_RUN_AT_MOST = 23
"""Commands of bitgap and others that no test can run; each is marked in its page."""
MANY_SENTENCES = ("how-to/calibration", "how-to/protect", "how-to/real-checkpoints")
"""Pages whose commands refuse what is too little text to confirm or to judge by."""
FEW = {"random": 3, "placebos": 2, "draws": 1}
MEASURING = ("audit", "map", "investigate", "theory", "predict", "plan", "replicate")


@pytest.fixture(scope="module")
def materials(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with models, corpora and grammar, as the pages name them."""
    folder = tmp_path_factory.mktemp("materials")
    shutil.copytree(tiny, folder / "my-model")
    save_model(folder / "other-model", family="qwen3", blocks=4, steps=60)
    save_model(folder / "new-model", blocks=4, steps=60)
    write_corpus_folder(folder / "my-corpus")
    _write_recipe(folder)
    _write_quantized(folder)
    _write_tables(folder)
    _write_grammar(folder)
    return folder


@pytest.fixture
def desk(materials: Path, kept: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder that a page is read in: the materials, and a store.

    What the store of other tests holds of the same model and text need not be measured again.
    """
    shutil.copytree(materials, tmp_path, dirs_exist_ok=True)
    shutil.copy(kept, tmp_path / "bitgap.db")
    shutil.copytree(f"{kept}.files", tmp_path / "bitgap.db.files")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(budget, "tune_heap", lambda **_: None)
    return tmp_path


def _write_recipe(folder: Path) -> None:
    from bitgap.formats.source import Source
    from bitgap.protect.recipe import Recipe, RecipeUnit, write_recipe

    source = Source.open(folder / "my-model")
    units = {
        place.module: RecipeUnit(
            scheme="rtn4-g32", bytes=place.n_weights * 9 // 16, matrices=(place.name,)
        )
        for place in source.places.values()
        if place.block is not None
    }
    taken = sum(unit.bytes for unit in units.values())
    recipe = Recipe(
        model="my-model",
        fingerprint=source.loaded.info.fingerprint,
        budget="4.5 bits a weight",
        budget_bytes=taken,
        bytes=taken,
        fixed_bytes=0,
        objective="worst-quarter",
        no_harm=("en",),
        seed=0,
        table="1" * 64,
        split="2" * 64,
        units=units,
    )
    write_recipe(recipe, folder / "recipe.toml")


def _write_quantized(folder: Path) -> None:
    """Writes the model with a first block of four bits, under the name that the pages give it."""
    from gguf_files import write_gguf
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model = AutoModelForCausalLM.from_pretrained(folder / "my-model")
    numbers = AutoTokenizer.from_pretrained(folder / "my-model").get_vocab()
    tokens = sorted(numbers, key=lambda token: numbers[token])
    write_gguf(folder / "my-model-Q4_K_M.gguf", model, kind="Q4_0", tokens=tokens)


def _write_tables(folder: Path) -> None:
    import json

    import pyarrow as pa
    import pyarrow.parquet as pq

    rows = [dict(zip(TEXTS, row, strict=True)) for row in zip(*TEXTS.values(), strict=True)]
    lines = ["\t".join(TEXTS), *("\t".join(row.values()) for row in rows)]
    (folder / "sentences.tsv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    objects = [json.dumps(row, ensure_ascii=False) for row in rows]
    (folder / "sentences.jsonl").write_text("\n".join(objects) + "\n", encoding="utf-8")
    pq.write_table(pa.Table.from_pylist(rows), folder / "sentences.parquet")


def _write_grammar(folder: Path) -> None:
    for code, texts in (("en", ENGLISH), ("de", GERMAN)):
        (folder / "my-pairs" / code).mkdir(parents=True)
        pairs = [
            line
            for text in texts
            for line in (f"True\t{text}", f"False\t{text.rsplit(' ', 1)[0]} {text[0]}.")
        ]
        (folder / "my-pairs" / code / "simple_agrmt.txt").write_text(
            "\n".join(pairs) + "\n", encoding="utf-8"
        )
    (folder / "my-treebanks").mkdir()
    told = []
    for number, text in enumerate(ENGLISH, start=1):
        told += [f"# sent_id = {number}", f"# text = {text}"]
        words = text.removesuffix(".").split()
        for place, word in enumerate(words, start=1):
            head = 0 if place == 1 else 1
            feature = "Number=Plur" if word.endswith("s") else "Number=Sing"
            told.append(f"{place}\t{word}\t{word}\tNOUN\t_\t{feature}\t{head}\tdep\t_\t_")
        told[-1] = told[-1].rsplit("\t", 1)[0] + "\tSpaceAfter=No"
        told += [f"{len(words) + 1}\t.\t.\tPUNCT\t_\t_\t1\tpunct\t_\t_", ""]
    (folder / "my-treebanks" / "en-own-test.conllu").write_text(
        "\n".join(told) + "\n", encoding="utf-8"
    )


def in_small(words: list[str]) -> list[str]:
    """Returns a command with the tiny model where it names none, and its text where none.

    The bundled model would take minutes where the tiny one takes a second; nothing else changes.
    """
    options = make_parser().parse_args(words)
    if options.command not in MEASURING:
        return words
    if getattr(options, "model", "") is None:
        words = [words[0], "my-model", *words[1:]]
    if options.corpus is None:
        words = [_of_the_small_corpus(word) for word in words]
        words += ["--corpus", "my-corpus"]
    return words


def _of_the_small_corpus(word: str) -> str:
    """Returns a list of languages without those that the small text lacks, else the word."""
    if not re.fullmatch(r"[a-z]{2}(,[a-z]{2})+", word):
        return word
    there = {path.stem for path in Path("my-corpus").glob("*.txt")}
    return ",".join(code for code in word.split(",") if code in there)


def named(words: list[str]) -> list[str]:
    """Returns a command with the real name of a prediction, which carries its date."""
    return [
        str(next(Path("predictions").glob(f"{Path(word).stem}-*.json")))
        if word.startswith("predictions/")
        else word
        for word in words
    ]


@pytest.mark.parametrize("page", PAGES)
def test_every_step_of_a_page_works(page: str, desk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if page in MANY_SENTENCES:
        shutil.rmtree(desk / "my-corpus")
        write_longer_corpus(desk / "my-corpus")
    # Fewer of what chance makes: how a recipe is proved is tested where it is the question.
    monkeypatch.setattr(recipe_steps, "Asked", partial(recipe_steps.Asked, **FEW))
    typed = dict[str, object]()
    for step in steps(page):
        if step.why_not is None:
            _does(step, typed)


def _does(step: Step, typed: dict[str, object]) -> None:
    """Runs a step; Python in what was typed before on the same page."""
    if step.kind == "python":
        with contextlib.redirect_stdout(io.StringIO()) as shown:
            exec(compile(step.text, f"{step.page}.md", "exec"), typed)
        assert shown.getvalue().strip(), step
        return
    assert step.text.startswith("bitgap "), f"{step}: mark it `% not run: why`, or drop it"
    words = step.words
    if "--version" in words:
        assert cli.main(words) == 0
        return
    options = make_parser().parse_args(words)
    for left in _left_by(options):
        left.unlink(missing_ok=True)
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = cli.main(named(in_small(words)))
    assert code == 0, f"{step}: {err.getvalue()}"
    assert out.getvalue().strip(), step
    if options.command == "predict":
        time.sleep(1.1)  # dates are told to the second, and nobody measures within one
    for left in _left_by(options):
        assert left.exists(), f"{step} left no {left}"


def _left_by(options: object) -> list[Path]:
    """Returns files that a command promises to leave."""
    verb, out = vars(options)["command"], vars(options)["out"]
    folder = Path(out or ".")
    promised = {"report": "report.html", "paper": "paper.pdf", "compare": "compare.html"}
    if verb in promised:
        return [folder / promised[verb]]
    measured = verb in ("audit", "map", "investigate", "theory", "replicate")
    quiet = vars(options).get("dry_run") or vars(options)["no_report"]
    return [folder / "report.html"] if measured and not quiet else []


def test_commands_that_are_not_run_are_few_and_understood() -> None:
    skipped = [step for page in PAGES for step in steps(page) if step.why_not]
    assert 0 < len(skipped) <= NOT_RUN_AT_MOST, skipped
    for step in skipped:
        if step.text.startswith("bitgap "):
            make_parser().parse_args(step.words)


def test_steps_are_found_in_every_way_they_are_written() -> None:
    text = (
        "```console\n$ bitgap list\nsome output\n$ bitgap show \\\n  T-004\n```\n\n"
        "% not run: why\n\n```bash\nsudo this\n```\n\n```text\nbitgap nothing\n```\n"
        "```bash\nuntil bitgap map; do [ $? = 124 ] || break; done\n```\n"
        "```python\nprint(1)\nprint(2)\n```\n"
    )
    found = [(step.text, step.kind, step.why_not) for step in steps_of("a", text)]
    assert found == [
        ("bitgap list", "console", None),
        ("bitgap show    T-004", "console", None),
        ("sudo this", "bash", "why"),
        ("bitgap map", "bash", None),
        ("print(1)\nprint(2)\n", "python", None),
    ]


def test_most_steps_are_run() -> None:
    found = [step for page in PAGES for step in steps(page)]
    assert sum(step.why_not is None for step in found) >= 40
    assert {step.words[0] for step in found if step.text.startswith("bitgap ")} >= _verbs()


def _verbs() -> set[str]:
    parser = make_parser()
    return {verb for action in parser._actions for verb in action.choices or () if action.metavar}
