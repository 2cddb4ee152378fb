"""``bitgap protect``: what it leaves, what it says beforehand, and what it refuses."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest

from bitgap.cli.main import main, make_parser
from bitgap.cli.protect import command_of
from bitgap.lab.protect import steps
from bitgap.protect.recipe import read_recipe
from bitgap.report.figures.protect import recipe_figures
from bitgap.report.run import read_run
from bitgap.report.words.answers import answers
from bitgap.show.tables.protect import frontier_table, proof_table, recipe_languages_table
from cli_samples import Ran, save_model, write_longer_corpus
from harness import check_figure

FEW = ("--choices", "rtn3-g32,rtn4-g32,rtn5-g32,rtn6-g32", "--instrument", "screen")


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("protect")
    save_model(folder / "model", steps=80)
    write_longer_corpus(folder / "corpus")
    return folder


def _ran(capsys: pytest.CaptureFixture[str], home: Path, *words: str) -> Ran:
    store = ("--store", str(home / "bitgap.db"))
    code = main([*words, *store])
    out = capsys.readouterr()
    return Ran(code, out.out, out.err)


def _protect(home: Path, *words: str) -> tuple[str, ...]:
    measured = ("--corpus", str(home / "corpus"), "--languages", "en,de")
    return ("protect", str(home / "model"), *measured, *FEW, *words)


def test_the_cost_is_told_and_nothing_is_left(
    capsys: pytest.CaptureFixture[str], home: Path
) -> None:
    ran = _ran(capsys, home, *_protect(home, "--budget", "4.6", "--dry-run", "--json"))
    assert ran.code == 0
    assert ran.json["preflight"]["plans"] > 100
    for step in ("table by screen", "calibration", "search", "solving", "proof"):
        assert step in ran.err
    assert not (home / "bitgap.db").exists()
    assert not (home / "recipe.toml").exists()


def test_a_run_leaves_recipe_page_and_numbers(
    capsys: pytest.CaptureFixture[str], home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Fewer of what chance makes: a page of them looks the same.
    monkeypatch.setattr(steps, "Asked", partial(steps.Asked, random=3, placebos=2, draws=1))
    monkeypatch.chdir(home)  # where a page goes that is asked for again
    out = home / "out"
    words = _protect(home, "--budget", "4.6", "--triple", "0,1", "--out", str(out))
    ran = _ran(capsys, home, *words)
    assert ran.code == 0, ran.err
    assert "language-blind" in ran.out
    assert {path.name for path in out.iterdir()} >= {
        "recipe.toml", "report.html", "protect.json", "damage.table.zip", "recipe.vl.json",
    }  # fmt: skip
    recipe = read_recipe(out / "recipe.toml")
    assert recipe.bytes <= recipe.budget_bytes
    page = (out / "report.html").read_text(encoding="utf-8")
    for question in ("What does it cost?", "Who gains, and who pays?",
                     "Did it matter to know languages?"):  # fmt: skip
        assert question in page
    run = read_run("latest", str(home / "bitgap.db"))
    found = run.outcome
    assert found is not None
    assert found.recipe.sealed == recipe.sealed
    for figure in recipe_figures(found):
        check_figure(figure.spec)
        assert figure.alt
    assert [answer.key for answer in answers(run)] == ["cost", "gains", "mattered"]
    # A stored run has the same tables as the one in hand had.
    json = run.result
    for table in (proof_table, recipe_languages_table, frontier_table):
        assert table(json).texts() == table(found).texts()
    for again in ("report", "figures", "results"):
        more = ("--out", str(home / again)) if again == "figures" else ()
        assert _ran(capsys, home, again, *more).code == 0, again
    assert _ran(capsys, home, "compare", "1", "1").code == 2
    pytest.importorskip("onnx", reason="the extra bitgap[onnx] is not installed")
    _ships(capsys, home, out / "recipe.toml")


def _ships(capsys: pytest.CaptureFixture[str], home: Path, recipe: Path) -> None:
    """From the recipe to files, counted, and from those files back to damage by language."""
    text = ("--corpus", str(home / "corpus"), "--languages", "en,de")
    shipped = ("--nearest", "--no-load", "--out", str(home / "shipped"), *text)
    ran = _ran(capsys, home, "export", str(recipe), "--to", "onnxruntime,gptq", *shipped, "--json")
    assert ran.code == 0, ran.err
    for made in ran.json["exports"]:
        assert not made["failures"]
        own = read_recipe(home / "shipped" / made["target"] / "recipe.toml")
        assert {u["name"]: u["scheme"] for u in made["units"]} == own.schemes
        # The prediction that the nearest recipe was chosen by, to the byte.
        changed = [
            u for u in made["units"] if u["scheme"] != read_recipe(recipe).schemes[u["name"]]
        ]
        assert changed
        assert all(u["file_bytes"] == u["recipe_bytes"] for u in changed)
    files = [w for n in ("onnxruntime", "gptq") for w in ("--against", str(home / "shipped" / n))]
    ran = _ran(capsys, home, "audit", str(home / "model"), *text, "--json", *files)
    assert ran.code == 0, ran.err
    assert all(name in ran.out for name in ("en", "de"))


def test_commands_leave_out_where_results_go() -> None:
    def command(*words: str) -> str:
        return command_of(make_parser().parse_args(["protect", *words]))

    plain = command("my-model", "--budget", "4.25")
    assert plain == "bitgap protect my-model --budget 4.25 --seed 0"
    assert command("my-model", "--budget", "4.250", "--out", "a", "--threads", "2") == plain
    assert command("--size", "4MB", "--no-harm", "nobody", "--spare", "any") == (
        "bitgap protect --size 4MB --no-harm nobody --spare any --seed 0"
    )


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        ((), 2, "--budget 4.25"),
        (("--budget", "4", "--size", "1MB"), 2, "one of"),
        (("--budget", "-1"), 2, "above 0"),
        (("--budget", "1.2"), 1, "least"),
        (("--size", "lots"), 2, "180MB"),
        (("--like", "nowhere.gguf"), 2, "nowhere.gguf"),
        (("--budget", "4.6", "--triple", "0;1"), 2, "0,9,11"),
        (("--budget", "4.6", "--triple", "0,9"), 2, "block 9"),
        (("--budget", "4.6", "--for", "ollama"), 2, "gguf"),
        (("--budget", "4.6", "--no-harm", "all,us"), 2, "reference, mean, all"),
        (("--budget", "4.6", "--sentences", "20"), 1, "27 or more"),
    ],
)
def test_bad_input_is_told_and_nothing_else_happens(
    capsys: pytest.CaptureFixture[str], home: Path, words: tuple[str, ...], code: int, said: str
) -> None:
    ran = _ran(capsys, home, *_protect(home, *words))
    assert ran.code == code, ran
    assert said in ran.err
    assert ran.out == "" and "Traceback" not in ran.err
