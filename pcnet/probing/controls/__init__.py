"""Controls: features that know less than a model might, and targets that mean nothing.

A `Control` says which features and targets take the place of the model's; `scoring` is the one place that scores it,
`tested` makes it a test, and a `ControlBank` holds many controls of one kind, for ranks.
"""
