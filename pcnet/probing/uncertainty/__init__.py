"""Intervals for scores and tests that compare them: over sampled sequences, and over training seeds."""
