"""How value nodes reach equilibrium."""

from pcnet.inference.equilibrium import CurvedProblem, EnergyPoint, EnergyProblem, Equilibrium, ErrorProblem, Point
from pcnet.inference.error_coordinates import GaussNewton
from pcnet.inference.gradient import Euler, Momentum
from pcnet.inference.linear import conjugate_gradients
from pcnet.inference.settings import CarriedOver, Expected, Inference, InitialValues, RandomValues
from pcnet.inference.solve import Solution, Solver, Status, solve, unroll

__all__ = [
    "CarriedOver",
    "CurvedProblem",
    "EnergyPoint",
    "EnergyProblem",
    "Equilibrium",
    "ErrorProblem",
    "Euler",
    "Expected",
    "GaussNewton",
    "Inference",
    "InitialValues",
    "Momentum",
    "Point",
    "RandomValues",
    "Solution",
    "Solver",
    "Status",
    "conjugate_gradients",
    "solve",
    "unroll",
]
