"""What a stranger hands over runs no code, reaches no file elsewhere, and becomes no markup."""

from __future__ import annotations

import ast
import html.parser
import json
import pickle
from dataclasses import replace
from pathlib import Path

import pytest

import bitgap
from bitgap.errors import BitgapError, ModelError
from bitgap.show.to_markdown import prose, rows_of
from bitgap.show.to_typst import escape

SOURCE = Path(bitgap.__file__).parent
WIRE = "lab/crew/wire.py"
"""What a command and its own workers say to each other, and nothing that is read from a file."""
HOSTILE = 'a|b\n<script>alert("x")</script> [x](javascript:y) ![z](http://evil/x) `c` <!-- #panic()'


# -- doors, as code has them -----------------------------------------------------------------------


def calls(tree: ast.AST) -> list[tuple[str, ast.Call]]:
    return [(ast.unparse(node.func), node) for node in ast.walk(tree) if isinstance(node, ast.Call)]


@pytest.mark.parametrize("path", sorted(SOURCE.rglob("*.py")), ids=lambda p: p.name)
def test_nothing_in_the_package_can_run_what_it_reads(path: Path) -> None:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for name, call in calls(tree):
        told = {word.arg: ast.unparse(word.value) for word in call.keywords}
        where = f"{path.name}:{call.lineno} {name}"
        assert name not in ("eval", "exec", "compile", "__import__", "os.system", "os.popen"), where
        if path.relative_to(SOURCE).as_posix() != WIRE:
            assert not name.startswith(("pickle.", "marshal.", "shelve.", "dill.", "joblib.")), (
                where
            )
        assert name not in ("yaml.load", "yaml.unsafe_load", "yaml.full_load"), where
        if name == "torch.load":
            assert told.get("weights_only") == "True", where
        # Both doors are told on, from one option each, and never opened by a line of code; None of
        # `{"trust_remote_code": True} if trust_remote_code` is a keyword.
        assert told.get("trust_remote_code") != "True", where
        assert told.get("allow_pickle") != "True", where
        assert told.get("shell") != "True", where


def test_only_workers_and_their_command_read_what_may_run() -> None:
    users = [
        path.relative_to(SOURCE).as_posix()
        for path in SOURCE.rglob("*.py")
        if "crew.wire" in path.read_text(encoding="utf-8")
    ]
    crew = ("cluster", "process", "processes", "worker")
    assert sorted(users) == [f"lab/crew/{name}.py" for name in crew]


def test_both_doors_are_shut_by_default() -> None:
    from bitgap.cli.main import make_parser

    parsed = make_parser().parse_args(["audit"])
    assert (parsed.allow_pickle, parsed.trust_remote_code) == (False, False)


# -- doors, as models try them ---------------------------------------------------------------------


class Evil:
    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> object:
        return (Path.touch, (self.mark,))


CODE = """
from pathlib import Path
Path({mark!r}).touch()
from transformers import LlamaConfig, LlamaForCausalLM
class EvilConfig(LlamaConfig):
    model_type = "evil"
class EvilModel(LlamaForCausalLM):
    config_class = EvilConfig
"""


@pytest.fixture
def copied(tiny: Path, tmp_path: Path) -> Path:
    import shutil

    return shutil.copytree(tiny, tmp_path / "model")


def test_pickles_are_read_only_where_they_are_allowed_and_run_nothing_then(copied: Path) -> None:
    from bitgap.models.load import load_model

    mark = copied / "ran"
    (copied / "model.safetensors").unlink()
    (copied / "pytorch_model.bin").write_bytes(pickle.dumps({"x": Evil(mark)}))
    with pytest.raises(ModelError, match="--allow-pickle"):
        load_model(str(copied))
    with pytest.raises(BitgapError):
        load_model(str(copied), allow_pickle=True)
    assert not mark.exists()


def test_code_that_comes_with_a_model_is_run_only_where_it_is_trusted(copied: Path) -> None:
    from bitgap.models.load import load_model

    mark = copied / "ran"
    config = json.loads((copied / "config.json").read_text())
    config["auto_map"] = {
        "AutoConfig": "modeling_evil.EvilConfig",
        "AutoModelForCausalLM": "modeling_evil.EvilModel",
    }
    config["model_type"] = "evil"
    (copied / "config.json").write_text(json.dumps(config))
    (copied / "modeling_evil.py").write_text(CODE.format(mark=str(mark)))
    with pytest.raises(BitgapError):
        load_model(str(copied))
    assert not mark.exists()
    # The door is one: with it, the code is run.
    try:
        load_model(str(copied), trust_remote_code=True)
    except BitgapError:
        pass
    assert mark.exists()


@pytest.mark.parametrize(
    "file",
    ["../elsewhere.safetensors", "/etc/passwd", "pytorch_model.bin", "a\\b.safetensors", "", 7],
)
def test_an_index_names_safetensors_of_its_own_folder_only(copied: Path, file: object) -> None:
    from bitgap.models.load import load_model

    index = {"weight_map": {"lm_head.weight": file}}
    (copied / "model.safetensors.index.json").write_text(json.dumps(index))
    (copied / "pytorch_model.bin").write_bytes(pickle.dumps({"x": Evil(copied / "ran")}))
    for allowed in (False, True):
        with pytest.raises(ModelError, match=r"no \.safetensors file of the folder"):
            load_model(str(copied), allow_pickle=allowed)
    assert not (copied / "ran").exists()


@pytest.mark.parametrize("text", ["", "[]", "{", '{"weight_map": 3}', "[" * 100_000])
def test_an_index_that_is_none_is_told(copied: Path, text: str) -> None:
    from bitgap.models.load import load_model

    (copied / "model.safetensors.index.json").write_text(text)
    with pytest.raises(ModelError, match=r"index\.json"):
        load_model(str(copied))


# -- paths -----------------------------------------------------------------------------------------


def test_evidence_is_written_into_its_folder_whatever_the_model_is_called(tmp_path: Path) -> None:
    from bitgap.theory.files import SUFFIX, read_evidence, write_evidence

    some = read_evidence(next((SOURCE.parents[1] / "evidence").glob("*.zip")))
    for i, name in enumerate(("../../up", "/etc/passwd", "a/../../b", "..", "c\0d", "e\nf")):
        folder = tmp_path / str(i) / "in"
        path = write_evidence(replace(some, model=name), folder)
        assert path.parent == folder and path.name.endswith(SUFFIX)
        assert [p.name for p in (tmp_path / str(i)).iterdir()] == ["in"]


def test_a_link_out_of_a_model_s_folder_is_not_shipped(tmp_path: Path) -> None:
    from bitgap.formats.source import _refuse_link

    cache = tmp_path / "models--me--it"
    for folder in (tmp_path / "model", cache / "snapshots" / "abc", cache / "blobs"):
        folder.mkdir(parents=True)
    (tmp_path / "secret").write_text("key")
    (cache / "blobs" / "1f").write_text("{}")
    (tmp_path / "model" / "own.json").write_text("{}")
    (tmp_path / "model" / "link.json").symlink_to("own.json")
    (cache / "snapshots" / "abc" / "tokenizer.json").symlink_to("../../blobs/1f")
    for path in (*(tmp_path / "model").iterdir(), *(cache / "snapshots" / "abc").iterdir()):
        _refuse_link(path)
    for folder in (tmp_path / "model", cache / "snapshots" / "abc"):
        (folder / "LICENSE").symlink_to(tmp_path / "secret")
        with pytest.raises(ModelError, match=r"LICENSE is a link to .*secret, outside"):
            _refuse_link(folder / "LICENSE")


# -- markup ----------------------------------------------------------------------------------------


def test_markdown_of_a_page_is_no_markup_of_data() -> None:
    row = rows_of(["model"], [[HOSTILE]]).splitlines()
    assert len(row) == 3, "a newline ends no row"
    for text in (row[2], prose(HOSTILE)):
        live = text.replace("\\\\", "").replace("\\<", "").replace("\\]", "").replace("\\|", "")
        assert "<" not in live and "](" not in live
    assert row[2].count("|") - row[2].count("\\|") == 2
    # A backslash of the data's own does not undo ours.
    assert prose("\\<script>") == "\\\\\\<script>"
    assert prose("|D| fell by .1 < .2, [.1, .3]") == "|D| fell by .1 < .2, [.1, .3]"


def test_typst_of_a_paper_is_no_markup_of_data() -> None:
    text = escape(HOSTILE)
    for sign in "#[]*_`$<>@":
        assert text.count(sign) == text.count(f"\\{sign}"), sign


class Tags(html.parser.HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.seen: list[str] = []

    def handle_starttag(self, tag: str, attrs: object) -> None:
        self.seen.append(f"{tag} {attrs}")


def test_html_of_a_page_is_no_markup_of_data() -> None:
    from bitgap.show.table import Column, Table
    from bitgap.show.to_html import to_html

    quote = '" onmouseover="alert(1)'
    table = Table(
        id="x", title=HOSTILE + quote, columns=(Column("a", HOSTILE), Column("b", "language")),
        rows=((HOSTILE + quote, "en"),),
    )  # fmt: skip
    tags = Tags()
    tags.feed(str(to_html(table)))
    assert not any(one.startswith(("script", "img", "a ")) for one in tags.seen), tags.seen
    assert not any("'onmouseover'" in one for one in tags.seen)
