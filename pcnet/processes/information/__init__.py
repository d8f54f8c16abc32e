"""How hard a process is to predict: entropies, memory, orders, spectrum, dimension.

Each quantity comes from the mixed states where these are finitely many (`group_inverse` sums over all lengths at once),
and otherwise between bounds (`histories`, `forgetting`), as a `Quantity`. In nats unless a name says otherwise.
"""
