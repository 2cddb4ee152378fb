"""What a command and a Python user call alike."""
