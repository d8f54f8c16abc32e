"""Predictive-coding networks: what is predicted from what."""

from pcnet.networks.activations import Activation, Identity, LeakyReLU, ReLU, Softplus, Tanh
from pcnet.networks.base import PCNetwork
from pcnet.networks.convolutions import convolution, transposed_convolution
from pcnet.networks.graph.hierarchical import HierarchicalPC, MuPC, Parameterisation, Standard, hierarchy
from pcnet.networks.graph.network import GraphNetwork, Node, PCGraph
from pcnet.networks.graph.problem import GraphPoint, GraphProblem
from pcnet.networks.graph.recurrent_view import RecurrentView
from pcnet.networks.graph.structure import Clamped, Prediction
from pcnet.networks.layers import (
    ActiveDense,
    AutogradLayer,
    Dense,
    Layer,
    Linearised,
    Skip,
)
from pcnet.networks.time.network import TemporalGraph, TemporalNetwork
from pcnet.networks.time.temporal import TemporalPC

__all__ = [
    "Activation",
    "ActiveDense",
    "AutogradLayer",
    "Clamped",
    "Dense",
    "GraphNetwork",
    "GraphPoint",
    "GraphProblem",
    "HierarchicalPC",
    "Identity",
    "Layer",
    "LeakyReLU",
    "Linearised",
    "MuPC",
    "Node",
    "PCGraph",
    "PCNetwork",
    "Parameterisation",
    "Prediction",
    "ReLU",
    "RecurrentView",
    "Skip",
    "Softplus",
    "Standard",
    "Tanh",
    "TemporalGraph",
    "TemporalNetwork",
    "TemporalPC",
    "convolution",
    "hierarchy",
    "transposed_convolution",
]
