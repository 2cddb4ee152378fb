"""GGUF: a file as a checkpoint (``read.py``) and as a model with its tokenizer (``load.py``)."""
