"""Loading a language model and splitting it into embed, blocks and tail; the reference model.

Importing this package does not import torch; its modules do.
"""
