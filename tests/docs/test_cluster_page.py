"""What the page on clusters says of a large model is what the tool foretells."""

from __future__ import annotations

import re

from docs_samples import DOCS

from bitgap.theory.forecast.cards import find_card
from bitgap.theory.forecast.plan import A100_TFLOPS, UTILISATION, at_scale

PAGE = DOCS / "how-to" / "cluster.md"
_TABLE = re.compile(r"(?<=<!-- large -->\n).*?(?=<!-- end -->)", re.DOTALL)
_PROCESSOR_TFLOPS = 0.05


def rendered() -> str:
    card = find_card("Llama-2-70B")
    rows = ["| workers | rate of each | hours |", "| --- | --- | --- |"]
    for n, what, tflops, used in (
        (64, "processor, 50 GFLOP/s", _PROCESSOR_TFLOPS, 1.0),
        (1024, "processor, 50 GFLOP/s", _PROCESSOR_TFLOPS, 1.0),
        (8, f"A100, {UTILISATION:.0%} of its peak", A100_TFLOPS, UTILISATION),
    ):
        told = at_scale(card, n_languages=200, n_gpus=n, tflops=tflops, utilisation=used)
        rows.append(f"| {n:,} | {what} | {told['hours']:,.0f} |")
    return "\n".join(rows) + "\n"


def test_the_table_is_what_the_formula_gives() -> None:
    found = _TABLE.search(PAGE.read_text(encoding="utf-8"))
    assert found is not None
    assert found[0] == rendered()
