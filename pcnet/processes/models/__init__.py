"""What a process is, and processes made of others.

`hmm` has the two kinds of process; `stationary` solves for their long-run law and `arguments` checks what they are given.
`composition` is the abstract link from a process to its parts, `parts` has the kinds of it, and `compose` and `reversal`
the functions that make processes of others.
"""
