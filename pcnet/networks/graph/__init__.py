"""Networks of nodes and predictions: structure, energy, derivatives."""
