"""Answers to the exercises of notebook 03."""
