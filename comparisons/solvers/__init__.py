"""Which solver reaches the equilibrium first? ``python -m comparisons.solvers``

tanh networks 64 - width x depth - 10 with input and target held (and a linear one), in float32 on one thread. Every solver
starts at the feedforward sweep and runs until every node group of every row lies within 1e-4 (rms) of an equilibrium found in
float64.
"""
