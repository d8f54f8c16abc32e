"""What predictive coding is compared with: models of token sequences without inference.

`Transformer` is the architecture, at the size, in which belief geometry was found; `RNN`, `GRU` and `LSTM` are torch's own
cells. All are `Predictor`s, as `TemporalPC` is: the same calls train, probe and bill them, and `Backprop` is their rule.

    model = GRU(vocab_size=3, width=64)
    logits = model(tokens)                       # (B, L, V), for the tokens to come
    logits, memory = model.step(model.start(8), tokens[:, 0])
"""

from pcnet.baselines.recurrent import GRU, LSTM, RNN
from pcnet.baselines.transformer import Transformer

__all__ = ["GRU", "LSTM", "RNN", "Transformer"]
