"""Predictive-coding networks: what is predicted from what."""

from pcnet.networks.base import PCNetwork
from pcnet.networks.temporal import TemporalPC

__all__ = ["PCNetwork", "TemporalPC"]
