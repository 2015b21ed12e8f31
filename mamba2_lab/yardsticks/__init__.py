"""Other models to measure ours against."""
