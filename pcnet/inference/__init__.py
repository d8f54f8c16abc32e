"""How value nodes reach equilibrium."""

from pcnet.inference.anderson import Anderson
from pcnet.inference.curvature import Extremes, condition_number, extremes, largest_curvature
from pcnet.inference.equilibrium import (
    CurvedProblem,
    EnergyProblem,
    Equilibrium,
    ErrorProblem,
    InitialValues,
    LinearGaussian,
    Relaxation,
)
from pcnet.inference.error_coordinates import InErrors
from pcnet.inference.gauss_newton import GaussNewton
from pcnet.inference.gradient import Euler, Heun, Momentum
from pcnet.inference.langevin import sample
from pcnet.inference.linear import conjugate_gradients
from pcnet.inference.loop import solve, unroll
from pcnet.inference.monotone import Monotone
from pcnet.inference.newton import Direct, NewtonCG
from pcnet.inference.point import EnergyPoint, Point
from pcnet.inference.settings import (
    CarriedOver,
    Expected,
    FixedSteps,
    Inference,
    RandomValues,
)
from pcnet.inference.solution import Solution, Status, Work
from pcnet.inference.solver import Solver

__all__ = [
    "Anderson",
    "CarriedOver",
    "CurvedProblem",
    "Direct",
    "EnergyPoint",
    "EnergyProblem",
    "Equilibrium",
    "ErrorProblem",
    "Euler",
    "Expected",
    "Extremes",
    "FixedSteps",
    "GaussNewton",
    "Heun",
    "InErrors",
    "Inference",
    "InitialValues",
    "LinearGaussian",
    "Momentum",
    "Monotone",
    "NewtonCG",
    "Point",
    "RandomValues",
    "Relaxation",
    "Solution",
    "Solver",
    "Status",
    "Work",
    "condition_number",
    "conjugate_gradients",
    "extremes",
    "largest_curvature",
    "sample",
    "solve",
    "unroll",
]
