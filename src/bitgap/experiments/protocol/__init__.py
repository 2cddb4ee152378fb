"""What experiments are made of: their declaration, controls and archives of scores."""
