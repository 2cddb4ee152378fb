#!/usr/bin/env bash
# scipy 1.17.1: milp says "Optimization terminated successfully. (HiGHS Status 7: Optimal)", with a
# gap of 0, of a plan that is nowhere near the best, where the objective's coefficients are small.
# A knapsack of 50 items of which some 28 fit: with values of about 1e-8 it packs one item, 2 % of
# what all are worth, where 61 % can be had; the same values times 1e8 are solved rightly. At 1e-7
# it stops at 52 %. HiGHS compares reduced costs with absolute tolerances of 1e-7.
#
# Damage of a language model is of that size where it is counted per parameter or as a product of
# small probabilities. Whoever minimises it must scale the objective to about 1, and compare what
# comes back with the numbers themselves: neither status nor gap tells.
#
# Seen on Linux, Python 3.11, numpy 2.4.6:
#   values times 1: status 0, gap 0.0, 0.61 of all
#   values times 1e-08: status 0, gap 0.0, 0.02 of all
#
# Exits 0 while that is so, 1 when it changes.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install --quiet numpy==2.4.6 scipy==1.17.1

cat > "$folder/look.py" <<'PYTHON'
import sys

import numpy as np
from scipy.optimize import Bounds, LinearConstraint, milp

rng = np.random.default_rng(0)
values, sizes = rng.uniform(1, 2, 50), rng.uniform(1, 2, 50)
packed = {}
for scale in (1, 1e-8):
    result = milp(
        -scale * values,
        integrality=np.ones(50),
        bounds=Bounds(0, 1),
        constraints=LinearConstraint(sizes[None], -np.inf, sizes.sum() / 2),
    )
    share = float(values @ np.round(result.x) / values.sum())
    packed[scale] = (result.status, result.mip_gap, round(share, 2))
    print(f"values times {scale:g}: status {result.status}, gap {result.mip_gap}, "
          f"{share:.2f} of all")
sys.exit(packed != {1: (0, 0.0, 0.61), 1e-8: (0, 0.0, 0.02)})
PYTHON
"$folder/env/bin/python" "$folder/look.py"
