"""Comparison of our results with the papers' tables."""
