"""The formal model: rows, the ladder F0 … F5, inference, controls, and its judge in model.py."""
