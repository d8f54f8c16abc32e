"""Networks of nodes and predictions, of any shape.

* `structure`: `Prediction` (a node predicted from others by layers, at an energy), `Clamped` (what is held), `Structure` (what
  follows from which nodes are clamped).
* `network`: `PCGraph` and its base: clamp, infer, answer. `hierarchical`: chains of nodes, `HierarchicalPC` and `hierarchy`.
* `problem`: the energy over the free units with its derivatives, a `GraphProblem`; evaluated it is a `point`.
* For Gauss-Newton: `trunk` goes between errors and values, `outputs` has the curvature that outputs add, `metric` inverts the
  model made of both, `curvature` multiplies with the exact one.
* `chain` hands plain descent on dense chains to `pcnet.networks.fast`; the results are the same.
* `recurrent_view` writes a graph as value units and error units; `trivial` warns where inference has nothing to do.

Modules import in the order structure, point, trunk, outputs, metric and curvature and chain, problem, network, the rest.
"""
