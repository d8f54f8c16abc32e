"""How value nodes reach equilibrium.

An `Equilibrium` says what must vanish, and its subclasses what else a problem knows: an energy, a Hessian, error coordinates. A
`Solver` takes one step from one evaluated `Point` and has no loop. `solve` has the only loop and the only stopping rule and
returns a `Solution`, with a status for every row. A `Relaxation` holds the settings: `Inference` until the rule holds,
`FixedSteps` for so many steps of descent; both first ask the problem for a faster program of its own (`Equilibrium.faster`).

Solvers: `Euler`, `Heun`, `Momentum` and `Anderson` need a gradient (and a Hessian product or two where no step size is given);
`NewtonCG` and `GaussNewton` (the default) need curvature; `Direct` solves linear-Gaussian problems; `InErrors` moves another
solver in prediction errors, `Monotone` takes back steps that raise the energy. `extremes` measures curvatures, `sample` draws
from exp(-F), `unroll` differentiates through steps.
"""

from pcnet.inference.anderson import Anderson
from pcnet.inference.curvature import Extremes, extremes
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
    "conjugate_gradients",
    "extremes",
    "sample",
    "solve",
    "unroll",
]
