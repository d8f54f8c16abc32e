"""Intervals for scores, and tests that compare them."""
