"""The original study, replayed."""
