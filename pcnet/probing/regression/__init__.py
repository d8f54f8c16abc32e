"""Linear and nonlinear maps from activations to targets, and their held-out scores."""
