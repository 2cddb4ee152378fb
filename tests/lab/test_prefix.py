"""What stands before a sentence: told by the tokenizer, and every number against transformers."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import transformers as hf
from lab_samples import Letters, make_lab, quantized_copy, write_corpus
from tokenizers import Tokenizer, decoders
from tokenizers.models import BPE, Unigram
from tokenizers.pre_tokenizers import ByteLevel
from tokenizers.processors import TemplateProcessing

from bitgap.corpora.parallel import ParallelCorpus
from bitgap.errors import ModelError, UsageError
from bitgap.lab.engine.prefix import prefix_of
from bitgap.lab.engine.scoring import ENGINE_VERSION
from bitgap.lab.lab import Lab
from bitgap.lab.store import Store, content_key
from bitgap.models.load import load_model
from bitgap.quant.plan import Plan
from cli_samples import Run

TEXT = {
    "en": ("It rains.", "We read a book.", "Who is there?", "Good night, all."),
    "he": ("יורד גשם.", "אנחנו קוראים ספר.", "מי שם?", "לילה טוב לכולם."),
    "th": ("ฝนตก", "เราอ่านหนังสือ", "ใครอยู่ที่นั่น", "ราตรีสวัสดิ์ทุกคน"),
    # Mixed directions, with marks for them, digits and Latin words inside.
    "ar": (
        "\u200fيقرأ Tom كتابًا.",
        "الصفحة 12 من \u202aABC\u202c.",
        "مَن هناك؟ (Anna)",
        "٣ قطط و 3 cats.",
    ),
}
CORPUS = ParallelCorpus("mixed", TEXT, "us", "Apache-2.0")
SPECIAL = ("<s>", "</s>", "[gMASK]", "<sop>")
KINDS = {
    # What the tokenizer puts around a text, what else it has, and what must stand before the text.
    "llama": ("<s> $A", {"bos_token": "<s>", "eos_token": "</s>"}, ("<s>",)),
    "gpt2": ("$A", {"bos_token": "<s>", "eos_token": "</s>"}, ("<s>",)),
    "qwen": ("$A", {"eos_token": "</s>"}, ("</s>",)),
    "bare": ("$A", {}, ()),
    "xglm": ("</s> $A", {"bos_token": "<s>", "eos_token": "</s>"}, ("</s>",)),
    "glm": ("[gMASK] <sop> $A", {"eos_token": "</s>"}, ("[gMASK]", "<sop>")),
    "bert": ("<s> $A </s>", {"bos_token": "<s>", "eos_token": "</s>"}, ("<s>",)),
    "t5": ("$A </s>", {"eos_token": "</s>"}, ("</s>",)),
}


def save(folder: Path, kind: str) -> Path:
    """A random model whose tokens are bytes, with one of these tokenizers."""
    template, named, _ = KINDS[kind]
    vocabulary = {t: i for i, t in enumerate([*SPECIAL, *sorted(ByteLevel.alphabet())])}
    engine: Any = Tokenizer(BPE(vocabulary, []))
    engine.pre_tokenizer, engine.decoder = ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    engine.add_special_tokens(list(SPECIAL))
    engine.post_processor = TemplateProcessing(
        single=template, special_tokens=[(t, vocabulary[t]) for t in SPECIAL]
    )
    hf.PreTrainedTokenizerFast(tokenizer_object=engine, **named).save_pretrained(folder)
    config = hf.LlamaConfig(
        vocab_size=len(vocabulary), hidden_size=32, intermediate_size=48, num_hidden_layers=2,
        num_attention_heads=2, num_key_value_heads=2, max_position_embeddings=96,
        tie_word_embeddings=False, bos_token_id=0, eos_token_id=1,
    )  # fmt: skip
    with torch.random.fork_rng():
        torch.manual_seed(3)
        hf.LlamaForCausalLM(config).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def folders(tmp_path_factory: Any) -> dict[str, Path]:
    return {kind: save(tmp_path_factory.mktemp(kind), kind) for kind in KINDS}


def log_probabilities(model: Any, ids: list[int]) -> Any:
    with torch.no_grad():
        return torch.log_softmax(model(torch.tensor([ids])).logits[0].double(), -1)


@pytest.mark.parametrize("kind", KINDS)
def test_scores_are_those_of_transformers_on_what_the_tokenizer_makes(
    folders: dict[str, Path], kind: str
) -> None:
    folder, (template, _, wanted) = folders[kind], KINDS[kind]
    loaded = load_model(folder)
    lab = Lab.of(loaded, CORPUS)
    assert lab.text.prefix.tokens == wanted
    scores = lab.score([Plan.parse("rtn3-g32", 2)])
    tokenizer = hf.AutoTokenizer.from_pretrained(folder)
    full: Any = hf.AutoModelForCausalLM.from_pretrained(folder).eval()
    rounded = quantized_copy(lab.decoder, Plan.parse("rtn3-g32", 2))
    for row, code in enumerate(lab.languages):
        for number, text in enumerate(TEXT[code]):
            made = tokenizer(text).input_ids
            n = len(text.encode())
            if template.endswith("</s>"):
                made = made[:-1]  # what stands behind a text is none
            lead = max(len(made) - n, 0)
            if not lead:  # the tokenizer makes none: BOS, else EOS
                made = [*map(SPECIAL.index, wanted), *made]
                lead = len(wanted)
            first = max(lead, 1)
            before, after = log_probabilities(full, made), log_probabilities(rounded, made)
            at = torch.arange(first - 1, len(made) - 1)
            nll = -before[at, torch.tensor(made[first:])].sum()
            kl = (before.exp() * (before - after))[at].sum()
            assert scores.counts.tokens[row, number] == len(at) == n - (not wanted)
            assert scores.nll_fp_nats[row, number] == pytest.approx(float(nll), abs=1e-4 * n)
            assert scores.kl_nats[0, row, number] == pytest.approx(float(kl), abs=1e-4 * n)


@pytest.mark.parametrize("rule", ["tokenizer", "bos", "eos", "none"])
@pytest.mark.parametrize("kind", ["llama", "gpt2", "xglm", "glm"])
def test_a_rule_asked_for_is_the_one_that_holds(
    folders: dict[str, Path], kind: str, rule: Any
) -> None:
    tokenizer = hf.AutoTokenizer.from_pretrained(folders[kind])
    template, named, _ = KINDS[kind]
    if rule == "bos" and "bos_token" not in named:
        with pytest.raises(UsageError, match=r"--prefix bos.*no BOS token; give auto, tokenizer"):
            prefix_of(tokenizer, rule)
        return
    wanted = {
        "tokenizer": tuple(template.split()[:-1]),
        "bos": ("<s>",),
        "eos": ("</s>",),
        "none": (),
    }[rule]
    assert prefix_of(tokenizer, rule).tokens == wanted


def test_runs_of_different_prefixes_are_different_texts_in_the_store(
    folders: dict[str, Path],
) -> None:
    loaded, store = load_model(folders["glm"]), Store(":memory:")
    labs = {
        rule: Lab.of(loaded, CORPUS, store=store, prefix=rule)  # type: ignore[arg-type]
        for rule in ("auto", "eos", "none")
    }
    assert len({lab.text_key for lab in labs.values()}) == 3
    nll = [lab.score([Plan.parse("rtn4-g32", 2)]).nll_fp_nats for lab in labs.values()]
    assert not (nll[0] == nll[1]).any() and not (nll[1] == nll[2]).any()
    stored = store.get_text(labs["auto"].text_key)
    assert stored is not None and stored[0]["prefix"] == labs["auto"].text.prefix.text


def test_the_same_ids_with_another_prefix_are_another_text(folders: dict[str, Path]) -> None:
    loaded = load_model(folders["glm"])
    written = {c: tuple(f"[gMASK]<sop>{s}" for s in texts) for c, texts in TEXT.items()}
    given = Lab.of(loaded, CORPUS)
    typed = Lab.of(loaded, ParallelCorpus("t", written, "us", "CC0-1.0"), prefix="none")
    assert given.text.ids == typed.text.ids
    # Whether the second token is text is then another question, with another answer.
    assert (typed.text.counts.tokens - given.text.counts.tokens == 1).all()
    renamed = typed.corpus.info.fingerprint != given.corpus.info.fingerprint
    assert renamed and typed.text_key != given.text_key


def test_a_prefix_of_two_tokens_is_no_text_to_activations_and_errors_of_linears(
    folders: dict[str, Path],
) -> None:
    lab = Lab.of(load_model(folders["glm"]), CORPUS)
    kept = lab.activations(per_language=12)
    assert not set(kept.token.tolist()) & set(lab.text.prefix.ids)
    for chunk in lab.chunks:
        columns = chunk.positions.numpy() % chunk.shape[1]
        assert columns.min() == 1 and chunk.first == 2
    shuffled = lab.with_shuffled_tokens(0)
    for before, after in zip(lab.text.ids[0], shuffled.text.ids[0], strict=True):
        assert after[:2] == before[:2] == lab.text.prefix.ids
        assert sorted(after) == sorted(before)


def test_numbers_and_keys_of_the_bundled_model_are_what_they_were() -> None:
    lab = Lab.from_pretrained(languages="he").spread(2)
    assert lab.text.prefix.ids == (lab.loaded.tokenizer.bos_token_id,)
    counted = lab.unigrams.fingerprint(lab.languages) if lab.unigrams else {}
    # As at commit 118b718, when a BOS was put in front of everything.
    kept = [int(i) for i in lab.text.kept]
    about = [lab.info.fingerprint, lab.corpus.info.fingerprint, kept, lab.text.ids, "float32"]
    assert lab.text_key == content_key("text", ENGINE_VERSION, *about, counted)


def test_what_is_text_and_what_is_prefix_must_be_told_apart() -> None:
    class Merging(Letters):
        def __call__(self, texts: list[str], add_special_tokens: bool) -> Any:
            rows = super().__call__(texts, add_special_tokens).input_ids
            if add_special_tokens:  # as a unigram model may that sees another beginning
                rows = [[1, 9, *row[1:]] for row in rows]
            return SimpleNamespace(input_ids=rows)

    with pytest.raises(ModelError, match=r"cuts a text otherwise.*--prefix bos, eos or none"):
        prefix_of(Merging())
    assert prefix_of(Merging(), "bos").ids == (1,)


def test_a_text_that_begins_with_its_own_prefix_confuses_nobody() -> None:
    class Doubling(Letters):
        def __call__(self, texts: list[str], add_special_tokens: bool) -> Any:
            rows = [[5] * len(text) for text in texts]
            lead = [5] if add_special_tokens else []
            return SimpleNamespace(input_ids=[lead + row for row in rows])

    assert prefix_of(Doubling()).ids == (5,)


def test_xglm_begins_with_its_eos_by_its_own_class() -> None:
    pieces = [("<s>", 0.0), ("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0)]
    pieces += [(c, -3.0) for c in "▁Onetwhr,.7"]
    tokenizer = hf.XGLMTokenizer(vocab=pieces)
    assert isinstance(tokenizer.backend_tokenizer.model, Unigram)
    assert prefix_of(tokenizer).tokens == ("</s>",)


def test_the_prefix_is_printed_and_in_the_json(
    folders: dict[str, Path], run: Run, tmp_path: Path
) -> None:
    corpus = tmp_path / "mixed"
    corpus.mkdir()
    for code, texts in TEXT.items():
        (corpus / f"{code}.txt").write_text("\n".join(texts) + "\n", encoding="utf-8")
    audit = ["audit", str(folders["glm"]), "--corpus", str(corpus), "--scheme", "rtn4-g32"]
    audit += ["--no-report"]
    told = "[gMASK] <sop> before every sentence (as its tokenizer makes it)"
    assert run(*audit, "--json").json["prefix"] == told
    assert told in " ".join(run(*audit).out.split())
    assert "nothing before a sentence (as asked)" in run(*audit, "--prefix", "none", "--json").out
    run(*audit, "--prefix", "bos").refused(2, "no BOS token")
    run(*audit, "--prefix", "both").refused(2, "invalid choice: 'both'")


# -- too short and too long ------------------------------------------------------------------------


def test_a_sentence_too_short_is_not_called_too_long(caplog: pytest.LogCaptureFixture) -> None:
    texts = {"en": ("abc", "defg", "h", "ijk"), "he": ("אבג", "דהוז", "חט", "יכל" * 20)}
    lab = make_lab(corpus=ParallelCorpus("c", texts, "us", "CC0-1.0"))
    assert lab.text.n_dropped == 1 and lab.text.n_short == 0, "with a BOS one token is enough"
    assert "1 of 4 sentences do not fit the model's context" in caplog.text
    caplog.clear()
    lab = Lab.of(lab.loaded, lab.corpus, prefix="none")
    assert lab.text.n_dropped == 2 and lab.text.n_short == 1
    assert "1 of 4 sentences are too short to be scored in some language" in caplog.text
    assert lab.text.kept.tolist() == [0, 1]


def test_without_a_prefix_no_more_is_lost_than_the_first_token() -> None:
    corpus = write_corpus(3)
    loaded = make_lab(corpus=corpus).loaded
    given, none = (Lab.of(loaded, corpus, prefix=rule) for rule in ("bos", "none"))  # type: ignore[arg-type]
    assert np.array_equal(given.text.counts.tokens - 1, none.text.counts.tokens)
