"""A tiny model that has learned a little, on disk with its tokenizer, and a corpus to try it on."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import transformers as hf
from tokenizers import Regex, Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Split

torch.set_num_threads(1)

ENGLISH = (
    "The baker opened her shop before the sun came up.",
    "Two children waited at the corner with a small red kite.",
    "Nobody had told the old man that the bridge was closed.",
    "We counted nine boats on the lake and went home.",
    "The letter arrived three weeks after it was written.",
    "She keeps her keys in a bowl beside the door.",
    "Rain fell all night and the field turned to mud.",
    "He asked the nurse twice and she gave the same answer.",
)
HEBREW = (
    "האופה פתחה את החנות שלה לפני שהשמש זרחה.",
    "שני ילדים חיכו בפינה עם עפיפון אדום קטן.",
    "איש לא אמר לזקן שהגשר סגור.",
    "ספרנו תשע סירות באגם והלכנו הביתה.",
    "המכתב הגיע שלושה שבועות אחרי שנכתב.",
    "היא שומרת את המפתחות שלה בקערה ליד הדלת.",
    "גשם ירד כל הלילה והשדה הפך לבוץ.",
    "הוא שאל את האחות פעמיים והיא נתנה אותה תשובה.",
)
GERMAN = (
    "Die Bäckerin öffnete ihren Laden, bevor die Sonne aufging.",
    "Zwei Kinder warteten mit einem kleinen roten Drachen an der Ecke.",
    "Niemand hatte dem alten Mann gesagt, dass die Brücke gesperrt war.",
    "Wir zählten neun Boote auf dem See und gingen nach Hause.",
    "Der Brief kam drei Wochen nach dem Schreiben an.",
    "Sie bewahrt ihre Schlüssel in einer Schale neben der Tür auf.",
    "Es regnete die ganze Nacht, und das Feld wurde zu Schlamm.",
    "Er fragte die Schwester zweimal, und sie gab dieselbe Antwort.",
)
TEXTS = {"en": ENGLISH, "he": HEBREW, "de": GERMAN}


def write_corpus_folder(folder: Path, **changed: tuple[str, ...]) -> Path:
    """Writes ``<language>.txt`` files, some of them changed or added."""
    folder.mkdir(parents=True)
    for code, sentences in (TEXTS | changed).items():
        (folder / f"{code}.txt").write_text("\n".join(sentences) + "\n", encoding="utf-8")
    return folder


def write_longer_corpus(folder: Path, turns: int = 5) -> Path:
    """Writes the corpus with its sentences turned, so many times as long."""

    def turned(text: str, by: int) -> str:
        words = text.split(" ")
        return " ".join(words[by % len(words) :] + words[: by % len(words)])

    longer = {
        code: tuple(turned(text, by) for by in range(turns) for text in texts)
        for code, texts in TEXTS.items()
    }
    return write_corpus_folder(folder, **longer)


def save_model(
    folder: Path, *, blocks: int = 3, width: int = 32, steps: int = 0, family: str = "llama"
) -> Path:
    """Saves a model whose tokens are characters, trained on the corpus for some steps."""
    letters = sorted(set("".join(text for texts in TEXTS.values() for text in texts)))
    vocabulary = {token: i for i, token in enumerate(["<s>", "<unk>", *letters])}
    tokenizer: Any = Tokenizer(WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = Split(Regex("."), "isolated")
    hf.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<s>", unk_token="<unk>"
    ).save_pretrained(folder)
    kind = {"llama": hf.LlamaConfig, "qwen3": hf.Qwen3Config}[family]
    config = kind(
        vocab_size=len(vocabulary),
        hidden_size=width,
        intermediate_size=2 * width,
        num_hidden_layers=blocks,
        num_attention_heads=2,
        num_key_value_heads=2,
        head_dim=width // 2,
        max_position_embeddings=96,
        tie_word_embeddings=False,
        bos_token_id=0,
        eos_token_id=0,
    )
    with torch.random.fork_rng():
        torch.manual_seed(7)
        model: Any = hf.AutoModelForCausalLM.from_config(config)
        _train(model, vocabulary, steps)
    model.save_pretrained(folder)
    return folder


def _train(model: Any, vocabulary: dict[str, int], steps: int) -> None:
    rows = [[0, *(vocabulary[c] for c in text)] for texts in TEXTS.values() for text in texts]
    longest = max(map(len, rows))
    ids = torch.tensor([row + [0] * (longest - len(row)) for row in rows])
    labels = torch.tensor([row + [-100] * (longest - len(row)) for row in rows])
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    for _ in range(steps):
        optimizer.zero_grad()
        model(input_ids=ids, labels=labels, use_cache=False).loss.backward()
        optimizer.step()


@dataclass(frozen=True)
class Ran:
    """What one command did."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)

    def refused(self, code: int, *words: str) -> None:
        """Fails unless nothing came out but one message with these words."""
        assert self.code == code, self
        assert self.out == ""
        assert "Traceback" not in self.err
        for word in words:
            assert word in self.err, f"{word!r} is not in {self.err!r}"


Run = Callable[..., Ran]


def stored_plans(path: str | Path) -> set[str]:
    """Returns the plans a store has scores of."""
    with sqlite3.connect(path) as db:
        found = {plan for (plan,) in db.execute("SELECT plan FROM scores")}
    db.close()
    return found
