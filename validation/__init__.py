"""How often this toolkit is wrong: error rates where the truth is known, made by one command."""
