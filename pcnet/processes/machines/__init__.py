"""Processes as machines that an observer can run: each token leads from a state to exactly one other.

`mixed_state` finds the beliefs that an observer can hold, `causal_states` the smallest machine, `reconstruction` that of a
sample. `causal_process` keeps what was found for each process; `unifilar` has what these machines share; `equivalence`
decides whether two processes emit the same words.
"""
