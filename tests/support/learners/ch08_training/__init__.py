"""Answers to the exercises of notebook 08."""
