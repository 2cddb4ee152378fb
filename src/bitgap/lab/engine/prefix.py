"""What stands in front of every sentence before its first token, and by which rule.

A sentence's first token is scored only if something stands before it, and what stands there moves
every number: models were trained to begin with whatever their tokenizer puts there, be it a BOS
(Llama, Gemma), the EOS (XGLM) or two tokens (GLM). So the default is what the tokenizer makes;
where it makes nothing (GPT-2, BLOOM, SmolLM2, Qwen), its BOS, else its EOS, which separate
documents in such models' training; else nothing, and the first token is given, not scored. What a
tokenizer puts *behind* a text is no text and is left out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

from bitgap.errors import ModelError, UsageError

PrefixRule = Literal["auto", "tokenizer", "bos", "eos", "none"]
"""``auto`` is the rule of this module; ``tokenizer`` is what it makes and nothing else."""
PREFIX_RULES: tuple[PrefixRule, ...] = get_args(PrefixRule)

# Three texts that begin otherwise, so that what all begin with is the tokenizer's own.
_PROBES = ("One two, three.", "7", "שלום")


@dataclass(frozen=True, slots=True)
class Prefix:
    """What stands in front of every sentence.

    Attributes:
        ids: Token ids; empty where nothing stands there.
        tokens: The same as the tokenizer writes them.
        why: Whose they are, such as ``as its tokenizer makes it``.
    """

    ids: tuple[int, ...] = ()
    tokens: tuple[str, ...] = ()
    why: str = "none"

    @property
    def first(self) -> int:
        """Place of the first scored token in a sequence: behind the prefix, and never the first."""
        return max(len(self.ids), 1)

    @property
    def text(self) -> str:
        """How results tell it."""
        if not self.ids:
            return f"nothing before a sentence ({self.why}): its first token is not scored"
        return f"{' '.join(self.tokens)} before every sentence ({self.why})"


def prefix_of(tokenizer: Any, rule: PrefixRule = "auto") -> Prefix:
    """Returns what stands in front of every sentence.

    Args:
        tokenizer: A transformers tokenizer.
        rule: See the module.

    Raises:
        UsageError: If the rule is none, or asks for a token that the tokenizer has not.
        ModelError: If the tokenizer changes a text to which it adds special tokens, so that no
            prefix can be told from the text.
    """
    if rule not in PREFIX_RULES:
        raise UsageError(f"--prefix {rule!r} is no rule; give {', '.join(PREFIX_RULES)}")
    if rule == "none":
        return Prefix(why="as asked")
    if rule in ("bos", "eos"):
        found = getattr(tokenizer, f"{rule}_token_id", None)
        if found is None:
            raise UsageError(
                f"--prefix {rule}: the model's tokenizer has no {rule.upper()} token; give auto, "
                "tokenizer or none"
            )
        return _made(tokenizer, (int(found),), f"{rule.upper()}, as asked")
    own = _of_the_tokenizer(tokenizer)
    if own:
        return _made(tokenizer, own, "as its tokenizer makes it")
    if rule == "tokenizer":
        return Prefix(why="its tokenizer adds none")
    for name in ("bos", "eos"):
        found = getattr(tokenizer, f"{name}_token_id", None)
        if found is not None:
            return _made(tokenizer, (int(found),), f"{name.upper()}; its tokenizer adds none")
    return Prefix(why="its tokenizer adds none and has neither BOS nor EOS")


def _made(tokenizer: Any, ids: tuple[int, ...], why: str) -> Prefix:
    spell = getattr(tokenizer, "convert_ids_to_tokens", None)
    tokens = spell(list(ids)) if spell is not None else ids
    return Prefix(ids, tuple(map(str, tokens)), why)


def _of_the_tokenizer(tokenizer: Any) -> tuple[int, ...]:
    """Returns what the tokenizer puts in front of any text by itself."""
    probes = list(_PROBES)
    whole = tokenizer(probes, add_special_tokens=True).input_ids
    bare = tokenizer(probes, add_special_tokens=False).input_ids
    common = set.intersection(*map(_beginnings, whole, bare))
    if not common:
        raise ModelError(
            f"the tokenizer cuts a text otherwise once it adds special tokens ({probes[0]!r} is "
            f"{bare[0]} without and {whole[0]} with them), so that what it puts in front cannot be "
            "told; say what should stand there with --prefix bos, eos or none"
        )
    return max(common, key=len)


def _beginnings(whole: Sequence[int], bare: Sequence[int]) -> set[tuple[int, ...]]:
    """Returns everything that may be the prefix of a text, given the text with and without it."""
    n = len(bare)
    return {
        tuple(map(int, whole[:i]))
        for i in range(len(whole) - n + 1)
        if list(whole[i : i + n]) == list(bare)
    }
