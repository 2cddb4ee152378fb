"""One builder per result: each table is made here once, for every surface that shows it."""
