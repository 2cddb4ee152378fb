"""``python -m bitgap`` is ``bitgap``."""

import sys


def main() -> int:
    """Runs the command line; who interrupts it while it is still imported gets one line too."""
    try:
        from bitgap.cli.main import main

        return main()
    except KeyboardInterrupt:
        from bitgap.cli import STOPPED_EARLY

        print(STOPPED_EARLY, file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
