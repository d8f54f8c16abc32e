"""Networks whose values are carried on from one step to the next.

A temporal network is a graph of one step, plus the names of the nodes that are carried on and of the node that is sensed.
`TemporalNetwork` (network.py) has what all of them do: step, run, infer, and show their sites; `TemporalGraph` takes a graph of
your own, `TemporalPC` (temporal.py) makes the graph of tokens below dense levels. How one step is computed is a `Steps`
(steps.py), which also has the only loop over time, `scan`: `GraphSteps` for any graph, and `TokenSteps` for graphs like that
of `TemporalPC`, whose energy `pcnet.networks.fast` has written out by hand.
"""
