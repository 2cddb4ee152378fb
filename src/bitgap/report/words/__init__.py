"""Sentences that answer questions, from numbers."""
