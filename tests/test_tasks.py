"""Tasks for lm-evaluation-harness: what is written, and what lm-eval makes of it.

``BITGAP_LM_EVAL`` names the Python of an environment that has lm-eval; else this one is asked.
"""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from bitgap.cli.main import main
from bitgap.corpora.grammar.agreement import load_agreement
from bitgap.corpora.parallel import load_corpus
from bitgap.errors import UsageError
from bitgap.jobs.tasks import write_tasks

PYTHON = os.environ.get("BITGAP_LM_EVAL", sys.executable)


class _Loader(yaml.SafeLoader):
    """Reads what lm-eval calls, as text."""


_Loader.add_constructor("!function", lambda loader, node: loader.construct_scalar(node))


def test_every_language_has_its_text_and_its_pairs(tmp_path: Path) -> None:
    corpus, pairs = load_corpus(languages="en,he,zh"), load_agreement()
    made = write_tasks(corpus, tmp_path, pairs)
    assert made.languages == corpus.languages
    text = made.groups["bitgap_bundled_text"]
    assert [name.rpartition("_")[2] for name in text] == [*corpus.languages]
    for name, code in zip(text, corpus.languages, strict=True):
        lines = (tmp_path / "data" / f"{name}.jsonl").read_text(encoding="utf-8").splitlines()
        assert [json.loads(line)["text"] for line in lines] == [*corpus.sentences[code]]
        task = yaml.load((tmp_path / f"{name}.yaml").read_text(encoding="utf-8"), _Loader)
        assert task["task"] == name and task["output_type"] == "loglikelihood_rolling"
        assert task["dataset_kwargs"]["file"] == f"{name}.jsonl"
    paired = {name.rpartition("_")[2] for g, names in made.groups.items() if g.endswith("_pairs")
              for name in names}  # fmt: skip
    assert paired == {*corpus.languages} & {*pairs.languages}
    assert {*made.without_pairs} == {*corpus.languages} - paired
    for group, names in made.groups.items():
        told = yaml.safe_load((tmp_path / f"{group}.yaml").read_text(encoding="utf-8"))
        assert told == {"group": group, "task": [*names]}


def test_likelihood_is_divided_by_characters_and_by_bytes(tmp_path: Path) -> None:
    write_tasks(load_corpus(languages="en,he"), tmp_path)
    scoring: dict[str, object] = {}
    code = (tmp_path / "bitgap_scoring.py").read_text(encoding="utf-8")
    exec(code.replace("import datasets", ""), scoring)
    found = scoring["of_text"]({"text": "\u05e9\u05dc\u05d5\u05dd"}, [-8.0])  # type: ignore[operator]
    assert found == {"bits_per_character": (-8.0, 4), "bits_per_byte": (-8.0, 8)}


def test_a_folder_that_holds_something_is_left_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "mine").write_text("x")
    with pytest.raises(UsageError, match="holds something already"):
        write_tasks(load_corpus(languages="en,de"), tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["mine"]
    assert main(["tasks", "--languages", "en,de"]) == 2
    assert "--out names the folder" in capsys.readouterr().err
    assert main(["tasks", "--languages", "en,de", "--out", str(tmp_path / "mine")]) == 2
    assert "cannot write there" in capsys.readouterr().err


def test_the_command_says_how_tasks_are_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["tasks", "--languages", "en,he", "--out", str(tmp_path / "t")]) == 0
    said = "".join(capsys.readouterr().out.split())
    assert "lm_eval--include_path" in said and "bitgap_bundled_text" in said


@pytest.mark.timeout(1800)
def test_lm_eval_gives_the_bits_that_the_model_has(tmp_path: Path) -> None:
    code = "import sys, importlib.util as u; sys.exit(u.find_spec('lm_eval') is None)"
    if subprocess.run([PYTHON, "-c", code]).returncode:
        pytest.skip("lm-eval is not installed; BITGAP_LM_EVAL names a Python that has it")
    import torch

    from bitgap.models.load import load_model, model_folder

    corpus = load_corpus(languages="en,he")
    few = {code: texts[:4] for code, texts in corpus.sentences.items()}
    corpus = type(corpus)(name="few", sentences=few, source="bundled", licence="Apache-2.0")
    made = write_tasks(corpus, tmp_path / "tasks", load_agreement(languages="en,he"))
    loaded = load_model(None)
    command = [PYTHON, "-m", "lm_eval", "--model", "hf", "--model_args",
               f"pretrained={model_folder(None)},dtype=float32", "--device", "cpu",
               "--include_path", made.folder, "--tasks", ",".join(made.groups), "--limit", "4",
               "--output_path", str(tmp_path / "out")]  # fmt: skip
    env = os.environ | {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1",
                        "HF_HOME": str(tmp_path / "home")}  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, env=env, cwd=tmp_path)
    assert done.returncode == 0, done.stderr[-2000:]
    file = next((tmp_path / "out").rglob("results_*.json"))
    results = json.loads(file.read_text(encoding="utf-8"))["results"]
    tokenizer = loaded.tokenizer
    first = tokenizer.bos_token_id if tokenizer.bos_token_id is not None else tokenizer.eos_token_id
    for code in corpus.languages:
        nats, n_characters = 0.0, 0
        for text in corpus.sentences[code]:
            ids = [first, *tokenizer(text, add_special_tokens=False).input_ids]
            with torch.no_grad():
                logits = loaded.model(torch.tensor([ids])).logits[0].float().log_softmax(-1)
            nats -= float(logits[:-1].gather(1, torch.tensor(ids[1:])[:, None]).sum())
            n_characters += len(text)
        found = results[f"bitgap_few_text_{code}"]["bits_per_character,none"]
        assert found == pytest.approx(nats / math.log(2) / n_characters, rel=1e-3)
        pairs = next(v for k, v in results.items() if k.endswith(f"_pairs_{code}"))
        assert 0 <= pairs["acc,none"] <= 1
