"""Pages for people, made from stored results alone."""
