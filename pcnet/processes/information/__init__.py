"""Entropies, complexities, orders, modes and dimensions."""
