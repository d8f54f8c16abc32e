"""Predictive-coding networks beside transformers and recurrent networks: one probing layer, one bill."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
