"""``python -m bitgap`` is ``bitgap``."""

# Before anything that takes time, and without it: ``signal`` imports ``enum`` and what that needs.
import _signal  # pyright: ignore[reportMissingImports]
import os
import sys

_over = False


def _leave(number: int, _: object) -> None:
    """Ends the process where it is; an exception would be a traceback of what is being imported."""
    if not _over:
        os.write(2, b"bitgap: stopped before anything was measured\n")
    os._exit(128 + number)


def main() -> int:
    """Runs the command line; who stops it while it is imported, or ends, gets no traceback."""
    global _over
    if _signal.getsignal(_signal.SIGINT) is _signal.default_int_handler:
        _signal.signal(_signal.SIGINT, _leave)
    if _signal.getsignal(_signal.SIGTERM) == _signal.SIG_DFL:
        _signal.signal(_signal.SIGTERM, _leave)
    from bitgap.cli.main import main

    code = main(alone=True)
    _over = True
    if code > 128:
        # Threads that still work on what was stopped would be waited for.
        for stream in (sys.stdout, sys.stderr):
            if stream is not None:
                stream.flush()
        os._exit(code)
    return code


if __name__ == "__main__":
    sys.exit(main())
