"""Shapes, distances and subspaces of what is decoded."""
