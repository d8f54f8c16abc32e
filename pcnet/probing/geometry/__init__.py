"""Shapes, distances and subspaces of what a site holds: where it is, what it merges, whether it can be taken at its word."""
