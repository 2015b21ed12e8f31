"""Pictures with handles."""
