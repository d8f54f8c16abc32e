"""Which rows a probe sees, what a model holds there and what it may encode."""
