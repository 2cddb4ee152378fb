"""Effects planted on purpose, P1 to P6: what a control must find."""
