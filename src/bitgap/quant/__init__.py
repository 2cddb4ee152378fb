"""How weights are rounded: schemes by name, the arithmetic, and plans that give blocks schemes.

``schemes`` and ``plan`` are torch-free; only ``rounding`` touches weights.
"""
