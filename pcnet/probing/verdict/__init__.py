"""One calibrated judgement: yes, no, not decidable here, or present and not linear.

`judge` is the entry. `examination` compares features with every control, `significance` has the tests, `presence` asks a
nonlinear probe where the linear answer is no, and `answers` is what comes back.
"""
