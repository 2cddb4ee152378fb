"""The scoring engine: plan tree, heads, arithmetic, budget; knows no lab."""
