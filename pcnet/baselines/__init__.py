"""What predictive coding is compared with."""

from pcnet.baselines.recurrent import GRU, LSTM, RNN
from pcnet.baselines.transformer import Transformer

__all__ = ["GRU", "LSTM", "RNN", "Transformer"]
