"""Every causal LM of the installed transformers, tiny, split and compared with itself."""
