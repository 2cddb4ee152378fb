"""The theory over model families: verdicts, formal model, predictions, the origin replayed."""
