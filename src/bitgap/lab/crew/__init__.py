"""Workers that share the scoring of plans: processes of this machine, or of a Ray cluster."""
