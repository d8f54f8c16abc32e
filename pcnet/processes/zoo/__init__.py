"""Processes that have a name, and random ones."""
