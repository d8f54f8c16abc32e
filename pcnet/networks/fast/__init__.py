"""Programs for particular structures: the same numbers as the generic problem and solver, in less time.

* `chain_flow`, with its `chain_levels`: plain descent on dense chains between clamped ends, everything in place.
  `GraphProblem.faster` chooses it.
* `token_problem`: the energy of one token of a temporal network, with its derivatives written out.

They know layers' activations and tensors, no graphs. A test holds each equal to the generic path.
"""
