"""Which rows a probe sees: words or sampled positions, the model's states there, what they may encode, and how they group.

Nothing is scored here. `ProbeData` is what every other room works on: features, targets, lengths, weights and groups,
checked once.
"""
