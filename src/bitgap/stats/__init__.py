"""Statistics of per-sentence numbers and of block profiles, and the rules of judgement."""
