"""An audit of a real file beside the audit of a simulated plan, in CPU seconds of one process.

Both are measured in turns on new labs, each from a store that is empty: what is compared is reading
the file, its digest, the pass with flips and the table, with rounding, the pass and the table.

    python benchmarks/against.py MODEL FILE [CORPUS] [SENTENCES]
"""

from __future__ import annotations

import sys
import time

from bitgap import Lab
from bitgap.formats.open import open_checkpoint
from bitgap.jobs.against import audit_file, weights_in_hand

ROUNDS = 3
MOST = 1.3


def simulated(lab: Lab) -> None:
    lab.audit("rtn4-g32")


def real(lab: Lab, file: str) -> None:
    checkpoint = open_checkpoint(file)
    with weights_in_hand(lab, checkpoint) as plan:
        audit_file(lab, checkpoint, plan)


def main(model: str, file: str, corpus: str | None = None, sentences: int = 8) -> int:
    def cost(work) -> float:
        lab = Lab.from_pretrained(model, corpus or None).spread(sentences)
        lab.measured_rates()
        before = time.process_time()
        work(lab)
        return time.process_time() - before

    pairs = [(cost(simulated), cost(lambda lab: real(lab, file))) for _ in range(ROUNDS)]
    plan, against = (min(column) for column in zip(*pairs, strict=True))
    print(f"simulated plan {plan:.2f} CPU s, file {against:.2f} CPU s: {against / plan:.2f} x")
    return int(against > MOST * plan)


if __name__ == "__main__":
    given = sys.argv[1:]
    sys.exit(main(*given[:3], *map(int, given[3:])))
