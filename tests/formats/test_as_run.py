"""Files as their toolchains run them: what is told, and what becomes of crashes and hangs."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch
from test_against import quantized
from torch import nn

from bitgap.formats import running
from bitgap.formats.running import RUNTIMES, Runtime
from bitgap.formats.running import RuntimeFailure as Failure

# Toolchains warn as they like.
pytestmark = pytest.mark.filterwarnings("ignore")


def needed(package: str) -> None:
    """Skips where a package is not installed, without importing what prints and opens files."""
    if find_spec(package) is None:
        pytest.skip(f"{package} is not installed")


HEAD = f"""
import os, signal, sys, time
import numpy as np
sys.path.insert(0, {str(Path(running.__file__).parent / "loaders")!r})
from answering import answer
"""


def made_up(tmp_path: Path, body: str) -> Runtime:
    """Returns a runtime whose ``load(request)`` is given, in a file of its own."""
    script = tmp_path / "run.py"
    script.write_text(f"{HEAD}\n{body}\nanswer(('numpy',), load)\n")
    return Runtime(name="made up", script=str(script), needs=("numpy",), extra="", files=("", ".q"))


def everything(runtime: Runtime, file: Path) -> list[tuple[int, Any]]:
    with running.running(runtime, file, [(4, [0, 3, 5]), (2, [0, 1])], 1) as begun:
        begun.loaded()
        found = []
        while (sent := begun.next()) is not None:
            found.append(sent)
    assert begun.versions["numpy"]
    return found


GOOD = """
print("loading, as toolchains do")
def load(request):
    return lambda ids: np.outer(ids, np.arange(4))
"""


def test_logits_come_over_a_pipe_that_nothing_else_is_printed_to(tmp_path: Path) -> None:
    found = everything(made_up(tmp_path, GOOD), tmp_path)
    assert [number for number, _ in found] == [4, 2]
    assert found[0][1].tolist() == [[0, 0, 0, 0], [0, 3, 6, 9]]  # the last row foretells nothing
    assert found[1][1].tolist() == [[0, 0, 0, 0]]


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("def load(request): os.kill(os.getpid(), signal.SIGSEGV)", "ended by SIGSEGV"),
        ("def load(request): raise SystemExit('no such architecture')", "no such architecture"),
        ("def load(request): return lambda ids: 1 / 0", "ZeroDivisionError"),
        ("def load(request): return lambda ids: time.sleep(600)", "longer than 2 s over a sent"),
        ("raise ImportError('too old a library')", "too old a library"),
        # Half a frame, then the end.
        ("def load(request):\n    os.write(1, b'')\n    return lambda ids: os._exit(7)",
         "nothing was said"),
    ],
)  # fmt: skip
def test_a_crash_or_hang_is_a_message(
    body: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(running, "_SENTENCE_S", 2.0)
    with pytest.raises(Failure, match=said):
        everything(made_up(tmp_path, body), tmp_path)


def test_what_a_runtime_does_not_run_or_have_is_refused(tmp_path: Path) -> None:
    for name, wrong in (("llama.cpp", "a.onnx"), ("onnxruntime", "a.gguf"), ("openvino", "a.gguf")):
        (tmp_path / wrong).touch()
        assert f"{name} runs" in RUNTIMES[name].why_not(tmp_path / wrong)
    assert not RUNTIMES["transformers"].why_not(tmp_path)
    assert not RUNTIMES["llama.cpp"].why_not(tmp_path / "a.gguf")
    absent = Runtime(name="it", script="", needs=("no_such_package",), extra="it", files=("",))
    with pytest.raises(Failure, match=r"it is not installed.*--runtime-python"):
        running.check_installed(absent)


def test_names_on_the_command_line_are_those_of_runtimes() -> None:
    from bitgap.cli.files import RUNTIMES as NAMED

    assert tuple(RUNTIMES) == NAMED


# -- an audit ------------------------------------------------------------------------------------


@pytest.fixture
def whole(tiny: Path, tmp_path: Path) -> Path:
    """A folder whose weights bitgap reads as quantized and transformers as they are."""
    return quantized(tiny, tmp_path / "q", bits=3)


def dequantized(folder: Path, model: Path, out: Path) -> Path:
    """Writes a quantized folder's weights as a plain model, which any transformers can run."""
    import transformers as hf

    from bitgap.formats.open import open_checkpoint

    loaded: Any = hf.AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32)
    found = open_checkpoint(folder)
    state = {u.name: u.weight() for u in (*found.units, *found.whole)}
    loaded.load_state_dict(state, strict=False)
    loaded.save_pretrained(out)
    return out


def replayed(model: Path, plain: Path, tmp_path: Path) -> Runtime:
    """Returns a runtime that sends what transformers computes of a plain model, said beforehand."""
    import numpy as np
    import transformers as hf

    from bitgap.lab.lab import Lab

    loaded: Any = hf.AutoModelForCausalLM.from_pretrained(plain, dtype=torch.float32)
    found = {}
    for language in Lab.from_pretrained(model, "text").text.ids:
        for ids in language:
            with torch.no_grad():
                name = "-".join(map(str, ids))
                found[name] = loaded(torch.tensor([list(ids)])).logits[0].numpy()
    np.savez(tmp_path / "said.npz", **found)
    body = (
        f"said = np.load({str(tmp_path / 'said.npz')!r})\n"
        "def load(request): return lambda ids: said['-'.join(map(str, ids))]"
    )
    return replace(made_up(tmp_path, body), name="transformers")


def test_the_toolchain_that_computes_as_the_weights_say_adds_nothing(
    tiny: Path, whole: Path, run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stand_in = replayed(tiny, dequantized(whole, tiny, tmp_path / "plain"), tmp_path)
    monkeypatch.setattr(running, "RUNTIMES", dict(RUNTIMES) | {"transformers": stand_in})
    asked = ("audit", tiny, "--corpus", "text", "--against", whole, "--runtime", "transformers")
    ran = run(*asked, "--json")
    assert ran.code == 0, ran.err
    (told,) = ran.json["runtimes"]["runs"]
    assert told["runtime"] == "transformers" and not told["failure"]
    assert told["apart_nats"] < 1e-5
    for code, row in told["languages"].items():
        audited = ran.json["languages"][code]
        assert row["damage"] == pytest.approx(audited["damage"], rel=1e-4)
        assert abs(row["extra"]) < 1e-5
        assert row["delta"] == pytest.approx(audited["delta"], abs=1e-5)
        assert row["flips"] == pytest.approx(ran.json["flips"][code]["share"], abs=1e-9)
    page = (tmp_path / "report.html").read_text()
    assert "As transformers runs it" in page and "K run" in page
    # Nothing is run again; what is kept of a run is what it told.
    monkeypatch.setattr("bitgap.lab.as_run._compared", None)
    again = run(*asked)
    assert again.code == 0, again.err
    assert "As transformers runs it" in again.out
    card = run("card", "1")
    assert card.code == 0 and "### As transformers runs it" in card.out
    from bitgap.report.run import read_run

    stored = read_run("1", "bitgap.db").result["runtimes"]["runs"][0]
    assert stored["languages"] == told["languages"]


@pytest.mark.timeout(900)
@pytest.mark.parametrize(
    ("runtime", "package", "kind", "apart_nats"),
    [
        ("transformers", "transformers", "Q4_0", 1e-5),
        # Keys and values are cached in half precision.
        ("llama.cpp", "llama-cpp-python", "F16", 1e-4),
        # Activations are rounded to 8 bits before they meet codes.
        ("llama.cpp", "llama-cpp-python", "Q4_0", 1e-2),
    ],
)
def test_a_gguf_file_runs_as_its_weights_say(
    runtime: str, package: str, kind: str, apart_nats: float, run: Any, tmp_path: Path
) -> None:
    pytest.importorskip("gguf")
    needed("accelerate" if runtime == "transformers" else "llama_cpp")
    from gguf_files import write_gguf
    from tiny_checkpoints import tiny_model

    model = tiny_model("llama", vocab_size=300, max_position_embeddings=512)
    write_gguf(tmp_path / "f32.gguf", model)
    write_gguf(tmp_path / "file.gguf", model, kind=kind)
    ran = run("audit", tmp_path / "f32.gguf", "--corpus", "text", "--against",
              tmp_path / "file.gguf", "--runtime", runtime, "--json")  # fmt: skip
    assert ran.code == 0, ran.err
    (told,) = ran.json["runtimes"]["runs"]
    assert told["versions"][package] and not told["failure"]
    assert told["apart_nats"] < apart_nats
    for code, row in told["languages"].items():
        assert row["damage"] > 0
        if kind != "F16":
            assert row["damage"] == pytest.approx(ran.json["languages"][code]["damage"], rel=0.1)


@pytest.mark.timeout(300)
@pytest.mark.parametrize("shape", ["llama", "qwen2", "qwen3", "gemma", "gemma2", "gemma3", "gpt2"])
def test_llama_cpp_computes_what_is_read_of_a_file(shape: str, tmp_path: Path) -> None:
    pytest.importorskip("gguf")
    needed("llama_cpp")
    from gguf_files import write_gguf
    from tiny_checkpoints import tiny_model

    from bitgap.formats.gguf.load import load_gguf

    # Longer than the windows of those that have them.
    asked = [(0, [1, *range(5, 45)]), (1, [1, *range(90, 60, -1)])]
    write_gguf(tmp_path / "f32.gguf", tiny_model(shape, vocab_size=300))
    own: Any = load_gguf(tmp_path / "f32.gguf").model
    with running.running(RUNTIMES["llama.cpp"], tmp_path / "f32.gguf", asked, 1) as begun:
        begun.loaded()
        for _, ids in asked:
            sent = begun.next()
            assert sent is not None
            with torch.no_grad():
                wanted = own(torch.tensor([ids])).logits[0, :-1].double().log_softmax(-1)
            found = torch.from_numpy(sent[1]).double().log_softmax(-1)
            kl = (wanted.exp() * (wanted - found)).sum(-1).mean()
            assert abs(kl) < 1e-4, float(kl)  # keys and values are cached in half precision
            assert (found - wanted).abs().max() < 0.05


@pytest.mark.timeout(300)
def test_what_llama_cpp_says_of_a_file_it_refuses_is_told(tmp_path: Path) -> None:
    pytest.importorskip("gguf")
    needed("llama_cpp")
    from gguf_files import write_gguf
    from tiny_checkpoints import tiny_model

    # A vocabulary with fewer tokens than bytes has no merges.
    write_gguf(tmp_path / "few.gguf", tiny_model("llama"))
    with pytest.raises(Failure, match=r"does not load the file .*merges"):
        everything(RUNTIMES["llama.cpp"], tmp_path / "few.gguf")


def test_a_runtime_that_fails_costs_nothing_of_the_audit(
    tiny: Path, whole: Path, run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    crashing = made_up(tmp_path, "def load(request): os.kill(os.getpid(), signal.SIGSEGV)")
    other = made_up(tmp_path, "")
    monkeypatch.setattr(
        running, "RUNTIMES", dict(RUNTIMES) | {"transformers": crashing, "llama.cpp": other}
    )
    (tmp_path / "run.py").write_text(
        f"{HEAD}\ndef load(request): os.kill(os.getpid(), signal.SIGSEGV)\nanswer((), load)\n"
    )
    asked = ("audit", tiny, "--corpus", "text", "--against", whole, "--runtime")
    ran = run(*asked, "transformers")
    assert ran.code == 1 and "ended by SIGSEGV" in ran.err and "Traceback" not in ran.err
    assert "K/M" in ran.out and "Not run: made up failed" in " ".join(ran.out.split())
    assert run("report", "1").code == 0
    (tmp_path / "run.py").write_text(f"{HEAD}\ndef load(request):\n"
        "    return lambda ids: np.zeros((len(ids), 7))\nanswer((), load)\n")  # fmt: skip
    wide = run(*asked, "transformers", "--no-report")
    assert wide.code == 1 and "7 logits" in wide.err and "of another model" in wide.err
    rows = json.loads((tiny / "config.json").read_text())["vocab_size"]
    body = f"    return lambda ids: np.full((len(ids), {rows}), np.nan)\nanswer((), load)\n"
    (tmp_path / "run.py").write_text(f"{HEAD}\ndef load(request):\n{body}")
    nan = run(*asked, "transformers", "--no-report")
    assert nan.code == 1 and "not finite" in nan.err


def test_of_several_files_it_is_said_where_each_run_is_told(
    tiny: Path, whole: Path, run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = json.loads((tiny / "config.json").read_text())["vocab_size"]
    even = made_up(tmp_path, f"def load(request): return lambda ids: np.zeros((len(ids), {rows}))")
    monkeypatch.setattr(running, "RUNTIMES", dict(RUNTIMES) | {"transformers": even})
    other = quantized(tiny, tmp_path / "other", bits=4)
    ran = run("audit", tiny, "--corpus", "text", "--against", whole, "--against", other,
              "--runtime", "transformers")  # fmt: skip
    assert ran.code == 0, ran.err
    assert "bitgap report 1, bitgap report 2" in ran.err
    assert run("report", "2").code == 0
    assert "As transformers runs it" in (tmp_path / "report.html").read_text()


def test_what_cannot_be_asked_is_told_before_a_model_is_read(
    tiny: Path, whole: Path, run: Any, tmp_path: Path
) -> None:
    run("audit", tiny, "--runtime", "llama.cpp").refused(2, "--against FILE")
    run("audit", tiny, "--generate", "4").refused(2, "--against FILE")
    asked = ("audit", tiny, "--corpus", "text", "--against", whole)
    run(*asked, "--runtime", "llama.cpp").refused(2, "llama.cpp runs .gguf")
    run(*asked, "--runtime", "vllm").refused(2, "invalid choice")
    run(*asked, "--runtime-python", sys.executable).refused(2, "name it with --runtime")
    (tmp_path / "nothing").write_text("")
    run(*asked, "--runtime", "transformers", "--runtime-python", tmp_path / "nothing").refused(
        2, "cannot be run"
    )
    (tmp_path / "a.onnx").write_text("x")
    against = ("audit", tiny, "--corpus", "text", "--against", tmp_path / "a.onnx")
    run(*against).refused(2, "--runtime onnxruntime")
    (tmp_path / "alone.xml").write_text("<net><layers/></net>")
    run("audit", tiny, "--corpus", "text", "--against", tmp_path / "alone.xml").refused(
        1, "no alone.bin beside it"
    )
    absent = ("--against", tmp_path / "none.onnx")
    run("audit", tiny, "--corpus", "text", *absent).refused(2, "no such file")


# -- graphs, whose weights are not read -----------------------------------------------------------


def write_onnx(model: Path, out: Path) -> Path:
    """Writes a graph of one table and one matrix that takes a model's token ids."""
    onnx = pytest.importorskip("onnx")
    import numpy as np
    from onnx import TensorProto, helper, numpy_helper
    from safetensors.torch import load_file

    state = load_file(model / "model.safetensors")
    table = state["model.embed_tokens.weight"].float().numpy()
    head = np.ascontiguousarray(state["lm_head.weight"].float().numpy().T)
    graph = helper.make_graph(
        [helper.make_node("Gather", ["table", "input_ids"], ["h"]),
         helper.make_node("MatMul", ["h", "head"], ["logits"])],
        "tiny",
        [helper.make_tensor_value_info("input_ids", TensorProto.INT64, ["b", "s"]),
         helper.make_tensor_value_info("attention_mask", TensorProto.INT64, ["b", "s"])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["b", "s", head.shape[1]])],
        [numpy_helper.from_array(table, "table"), numpy_helper.from_array(head, "head")],
    )  # fmt: skip
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.save(made, out)
    return out


def wanted_kl(model: Path, lab: Any) -> torch.Tensor:
    """Returns KL to that graph, nats of each sentence, by other code than the instrument's."""
    weights: Any = lab.loaded.model
    table, head = weights.model.embed_tokens.weight, weights.lm_head.weight
    rows = []
    for language in lab.text.ids:
        for ids in language:
            tokens = torch.tensor(ids)
            with torch.no_grad():
                p = weights(tokens[None]).logits[0, :-1].double().log_softmax(-1)
                q = nn.functional.linear(table[tokens[:-1]], head).double().log_softmax(-1)
            rows.append(nn.functional.kl_div(q, p, log_target=True, reduction="sum"))
    return torch.stack(rows)


@pytest.mark.parametrize("name", ["onnxruntime", "openvino"])
def test_a_graph_is_audited_as_it_runs(name: str, tiny: Path, run: Any, tmp_path: Path) -> None:
    pytest.importorskip(name)
    from bitgap.lab.lab import Lab

    file = write_onnx(tiny, tmp_path / "tiny.onnx")
    if name == "openvino":
        openvino: Any = pytest.importorskip("openvino")

        openvino.save_model(openvino.Core().read_model(file), tmp_path / "tiny.xml", False)
        file = tmp_path / "tiny.xml"
    ran = run("audit", tiny, "--corpus", "text", "--against", file, "--runtime", name, "--json")
    assert ran.code == 0, ran.err
    lab = Lab.from_pretrained(tiny, "text")
    kl = wanted_kl(tiny, lab).view(len(lab.languages), -1).sum(1) / torch.log(torch.tensor(2.0))
    length = lab.text.counts.characters[0].sum()
    for a, code in enumerate(lab.languages):
        told = ran.json["languages"][code]["damage"]
        assert told == pytest.approx(float(kl[a] / length), rel=1e-4)
    assert "the weights of" in " ".join(ran.json["caveats"])
    assert f"As {name} runs it" in (tmp_path / "report.html").read_text()
    assert run("audit", tiny, "--corpus", "text", "--scheme", "rtn3-g32").code == 0
    beside = run("compare", "1", "2", "--json")
    assert beside.code == 0, beside.err
    asked = ("audit", tiny, "--corpus", "text", "--against", file, "--runtime", name)
    run(*asked, "--generate", "2").refused(2, "weights that are read")


# -- what a file writes --------------------------------------------------------------------------


def greedy(model: Any, ids: list[int], n: int, end: int) -> list[int]:
    """Continues by the plainest code there is: the whole text again for each token."""
    written: list[int] = []
    for _ in range(n):
        with torch.no_grad():
            token = int(model(torch.tensor([ids + written])).logits[0, -1].argmax())
        if token == end:
            break
        written.append(token)
    return written


def test_continuations_are_those_of_the_models_themselves(
    tiny: Path, whole: Path, run: Any, tmp_path: Path
) -> None:
    import transformers as hf

    from bitgap.formats.open import open_checkpoint
    from bitgap.jobs.against import weights_in_hand
    from bitgap.lab.generation import continuations, prompts
    from bitgap.lab.lab import Lab
    from bitgap.quant.plan import Plan

    lab = Lab.from_pretrained(tiny, "text").spread(3)
    made = continuations(lab, Plan.uniform("fp", lab.n_blocks), 6)
    with weights_in_hand(lab, open_checkpoint(whole)) as plan:
        file = continuations(lab, plan, 6)
        assert (continuations(lab, plan, 6) == file).all()
    plain: Any = hf.AutoModelForCausalLM.from_pretrained(tiny, dtype=torch.float32)
    other: Any = hf.AutoModelForCausalLM.from_pretrained(
        dequantized(whole, tiny, tmp_path / "plain"), dtype=torch.float32
    )
    for a, language in enumerate(prompts(lab)):
        for n, ids in enumerate(language):
            for found, model in ((made, plain), (file, other)):
                wanted = greedy(model, list(ids), 6, 0)
                assert [t for t in found[a, n] if t >= 0] == wanted
    assert (made != file).any()


def test_the_command_tells_what_a_file_writes(
    tiny: Path, whole: Path, run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = ("audit", tiny, "--corpus", "text", "--against", whole, "--generate", "4")
    ran = run(*asked, "--json")
    assert ran.code == 0, ran.err
    told = ran.json["generation"]
    assert told["sentences"] == 4 and set(told["languages"]) == {"en", "he", "de"}
    for row in told["languages"].values():
        assert 0 <= row["agreement"] <= 1 and 0 <= row["same"] <= 1
        assert row["same"] < 1 or row["agreement"] == 1
        low, high = row["script_added_ci"] or (0, 0)
        assert -1 <= low <= high <= 1
    assert set(told["examples"]) <= {"en", "he", "de"}
    page = (tmp_path / "report.html").read_text()
    assert "Greedy continuations, whole model against file" in page
    assert "Where they part first" in page
    assert "### Greedy continuations" in run("card", "1").out
    # Without an identifier the script is told all the same.
    monkeypatch.setattr("bitgap.lab.identify._MODULE", "no_such_module")
    bare = run(*asked)
    assert bare.code == 0 and "bitgap[identify]" in bare.out


def test_a_language_that_is_left_is_found() -> None:
    pytest.importorskip("lingua")
    from bitgap.lab.identify import Identifier

    known = Identifier(["de", "he", "en", "yo-Latn", "qu"])
    assert known.left("Der Brief kam drei Wochen nach dem Schreiben an.", "de") is False
    assert known.left("The letter arrived three weeks after it was written.", "de") is True
    assert known.left("האופה פתחה את החנות שלה", "he") is False
    assert known.left("12 + 4", "he") is None
    assert known.left("Wasi", "qu") is None and "does not know" in known.unknown["qu"]
    alone = Identifier(["en"])
    assert alone.left("The letter", "en") is None and "no other" in alone.unknown["en"]
