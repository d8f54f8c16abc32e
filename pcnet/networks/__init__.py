"""Predictive-coding networks: what is predicted from what.

    graph   nodes that hold values, predictions of them by layers, and an energy of every mismatch: `PCGraph` for a graph of
            your own, `HierarchicalPC` and `hierarchy` for chains from the senses to the top
    time    a graph whose values are carried on: `TemporalPC` for tokens, `TemporalGraph` for everything else
    fast    programs for particular structures, chosen by structure and equal to the general ones

A layer (`Dense`, `ActiveDense`, `convolution`, `AutogradLayer` for any torch module) says how one node predicts another; an
energy (`pcnet.energies`) what it costs to miss; `Inference` (`pcnet.inference`) how values relax. What is held is not a matter
of the network: the same graph classifies, completes and generates, by what its `clamp` is given.

    network = HierarchicalPC([784, 256, 10], energies={2: Categorical()})     # images below, classes on top
    law = network(images)                                                     # hold the images, relax, answer
    held = network.clamp({"0": images, "2": labels})
    solution = network.infer(held)                                            # values at equilibrium, one status a row
"""

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
