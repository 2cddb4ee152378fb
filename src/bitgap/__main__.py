"""``python -m bitgap`` is ``bitgap``."""

import sys

from bitgap.cli.main import main

sys.exit(main())
