"""``python -m bitgap`` is ``bitgap``."""

import sys

from bitgap.cli import main

sys.exit(main())
