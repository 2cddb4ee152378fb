"""Statistics of per-sentence numbers and of layer profiles, and the rules of judgement."""
