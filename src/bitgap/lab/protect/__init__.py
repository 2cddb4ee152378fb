"""Recipes for a model in hand: what :mod:`bitgap.protect` solves and proves is measured here.

==============  ====================================================================================
``units``       what of a model can have bits of its own, its choices with their bytes, as plans
``table``       the damage table, by the screen or by exact single swaps; squared errors
``steps``       a text split, what is measured on each part, and what that will cost
``search``      calibration and search, and which plan the text of the search may take
``run``         the whole: table, search, seal, proof
==============  ====================================================================================
"""
