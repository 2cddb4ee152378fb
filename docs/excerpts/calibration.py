"""Fills what was found in ``how-to/calibration.md`` from the records in ``calibration/``.

    python docs/excerpts/calibration.py            # writes the page
    python docs/excerpts/calibration.py --check    # exits 1 if it differs from that

A record is what ``bitgap calibration … --json`` printed; its text may not be committed, and no
number of it is typed in.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from bitgap.show.tables.calibration import answer_rows, calibration_table
from bitgap.show.to_markdown import to_markdown

HERE = Path(__file__).parent
RECORDS = HERE / "calibration"
PAGE = HERE.parent / "how-to" / "calibration.md"
NAMES = {"reference": "The bundled model", "smollm2-135m": "SmolLM2-135M"}
START, END = "% found, from records\n", "% end of found\n"


def found() -> str:
    """Returns the section of every record, by the number in front of its name."""
    records = (json.loads(file.read_text("utf-8")) for file in sorted(RECORDS.glob("*.json")))
    return "\n\n".join(map(_section, records))


def _section(record: dict[str, Any]) -> str:
    title = (
        f"### {NAMES.get(record['model'], record['model'])}, {record['n_tokens']:,} tokens of "
        f"{record['corpus']}, {record['calibration_scheme']}"
    )
    said = "\n".join(f"- *{name}*: {text}." for name, text in answer_rows(record))
    return f"{title}\n\n{said}\n\n{to_markdown(calibration_table(record), 0)}"


def filled(page: str) -> str:
    """Returns a page with what was found between its two marks."""
    before, _, rest = page.partition(START)
    _, _, after = rest.partition(END)
    return f"{before}{START}\n{found()}\n\n{END}{after}"


def main() -> int:
    """Writes the page, or compares it."""
    page = PAGE.read_text("utf-8")
    made = filled(page)
    if "--check" in sys.argv[1:]:
        return int(made != page)
    PAGE.write_text(made, "utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
