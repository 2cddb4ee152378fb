#!/usr/bin/env bash
# scipy 1.17.1: milp writes to standard output although disp is False, which is its default. Where
# HiGHS repairs a solution on its way out of presolve it prints, through C's own buffer,
#
#   HighsMipSolverData::transformNewIntegerFeasibleSolution tmpSolver.run();
#
# once each time. The programs here are small and well scaled: one of some choices an item, within a
# budget, which is how bits are given to the layers of a model. All are solved to optimality.
#
# Whoever prints JSON to standard output has such lines in it, and contextlib.redirect_stdout does
# not help, as it is not Python that prints: the file descriptor has to be moved, and C's buffer
# flushed before it is moved back.
#
# Seen on Linux, Python 3.11, numpy 2.4.6:
#   3 lines on standard output that nobody printed
#
# Exits 0 while that is so, 1 when it changes.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install --quiet numpy==2.4.6 scipy==1.17.1

cat > "$folder/look.py" <<'PYTHON'
import contextlib
import io
import sys

import numpy as np
from scipy.optimize import Bounds, LinearConstraint, milp

ITEMS, CHOICES = 21, 10
solved = 0
for seed in range(60):
    rng = np.random.default_rng(seed)
    bits = np.repeat([2, 3, 4, 5, 6], 2) + np.tile([1 / 8, 1 / 4], 5)
    weights = rng.choice([8, 64, 64, 128, 256], ITEMS)
    sizes = weights[:, None] * bits
    costs = weights[:, None] * rng.lognormal(0, 1, (ITEMS, 1)) * 4.0**-bits
    one_each = np.kron(np.eye(ITEMS), np.ones(CHOICES))
    budget = 3.25 * weights.sum()
    result = milp(
        1000 * costs.ravel() / costs[:, 3].sum(),
        integrality=np.ones(ITEMS * CHOICES),
        bounds=Bounds(0, 1),
        constraints=[
            LinearConstraint(one_each, 1, 1),
            LinearConstraint(sizes.ravel()[None] / budget, -np.inf, 1),
        ],
    )
    solved += result.status == 0
print(f"solved {solved} of 60", file=sys.stderr)
PYTHON
"$folder/env/bin/python" "$folder/look.py" > "$folder/out"
lines=$(grep -c 'tmpSolver.run' "$folder/out" || true)
echo "$lines lines on standard output that nobody printed"
test "$lines" -gt 0
