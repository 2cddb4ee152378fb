"""What models not measured yet will lose."""
