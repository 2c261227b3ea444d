"""The papers' tables beside our results."""
