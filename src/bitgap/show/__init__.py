"""Results as tables, charts and text."""
