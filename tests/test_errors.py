"""Messages are one line that shows what it says, whatever names they tell of."""

from __future__ import annotations

import pickle
import shutil
import time
from pathlib import Path

import pytest

from bitgap.cli.main import main
from bitgap.corpora.grammar.treebank import load_treebanks
from bitgap.corpora.parallel import load_corpus
from bitgap.errors import BitgapError, CorpusError, plain_text
from bitgap.models import load


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a\nb", r"a\nb"),
        ("a\x1b[2Jb\x07", r"a\x1b[2Jb\x07"),
        ("\u202egnp.exe", r"\u202egnp.exe"),
        ("half \udc80", r"half \udc80"),
        ("שלום עולם", "שלום עולם"),
        ("می\u200cخواهم", "می\u200cخواهم"),
        ("a\u2028b\xa0c", r"a\u2028b\xa0c"),
    ],
)
def test_what_shows_nothing_is_told_as_python_writes_it(text: str, shown: str) -> None:
    assert plain_text(text) == shown
    error = CorpusError(text, 3)
    assert error.args == (shown, 3)
    assert pickle.loads(pickle.dumps(error)).args == error.args


def test_a_key_with_a_line_break_is_told_in_one_line(tmp_path: Path) -> None:
    file = tmp_path / "x.jsonl"
    file.write_text('{"en": "One.", "he": "Two."}\n{"en": "A.", "he": "B.", "do\\ncs": "C."}\n')
    with pytest.raises(CorpusError, match=r"line 2: adds do\\ncs"):
        load_corpus(file)


def test_a_name_cannot_write_to_the_terminal(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["audit", str(tmp_path / "no\x1b]0;title\x07such\nmodel")]) == 2
    said = capsys.readouterr().err
    assert "\x1b" not in said and "\x07" not in said and r"\x1b" in said


def test_results_of_a_model_with_such_a_name_write_nothing_else(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    name = "my\x1b[31m model"
    shutil.copytree(Path(load.__file__).parent / "reference", tmp_path / name)
    words = ("--languages", "en,he", "--sentences", "4", "--store", str(tmp_path / "s.db"))
    code = main(["audit", str(tmp_path / name), *words, "--out", str(tmp_path / "out")])
    both = capsys.readouterr()
    assert code == 0 and r"\x1b[" in both.out
    assert "\x1b" not in both.out + both.err


def test_a_multiword_token_of_absurd_numbers_takes_no_time(tmp_path: Path) -> None:
    columns = "\t_\t_\t_\t_\t_\t_\t_\t_"
    lines = ["# sent_id = 1", "# text = Dogs don't bark.",
             "1\tDogs\tdog\tNOUN\t_\tNumber=Plur\t4\tnsubj\t_\t_",
             f"2-3{'1' * 60}\tdon't{columns[2:]}",
             "2\tdo\tdo\tAUX\t_\tMood=Ind\t4\taux\t_\t_",
             "3\tn't\tnot\tPART\t_\t_\t4\tadvmod\t_\t_",
             "4\tbark\tbark\tVERB\t_\t_\t0\troot\t_\t_", "", ""]  # fmt: skip
    file = tmp_path / "en-ud-test.conllu"
    file.write_text("\n".join(lines))
    began = time.process_time()
    try:
        load_treebanks(file)
    except BitgapError as error:
        assert "\n" not in str(error)
    assert time.process_time() - began < 1
