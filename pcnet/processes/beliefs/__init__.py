"""What the tokens seen so far say about the hidden state.

`scan` is the recursion for many sequences at once (`stack`: for the factors of a product). `filtering`, `parallel` and
`smoothing` follow beliefs along given tokens; `sampling` draws tokens, and `observation` draws and follows them in one
call. `word_tree` follows all possible words. `constrained` is the belief that attention alone can form, and `sufficiency`
asks whether the next-token law determines the belief.
"""
