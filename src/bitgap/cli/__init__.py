"""The command line: verbs only, each over public functions that Python users call too."""

STOPPED_EARLY = "bitgap: stopped before anything was measured"
"""What is told when somebody interrupts before there is anything to keep, as during imports."""
