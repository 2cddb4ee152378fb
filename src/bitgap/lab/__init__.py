"""Measuring: one model, one text, and the instruments that score plans on them."""
