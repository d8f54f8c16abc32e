"""What mismatches, values and weights cost. Per sample, in nats, summed over units, never averaged over the batch.

* An `Energy` is of a value and its prediction: `Gaussian`, `InputPrecision`, `Huber` and `Laplace` for free or clamped values,
  `Categorical` and `Bernoulli` for clamped ones. Write your own as an `AutogradEnergy` (the cost alone) or an `ErrorEnergy` (a
  function of value - prediction, with two derivatives).
* A `Prior` is of a value alone, a `WeightPrior` of a network's weights.

Each has the derivatives that inference needs: gradient, product with the curvature, and a positive part of it.
"""

from pcnet.energies.bernoulli import Bernoulli
from pcnet.energies.categorical import Categorical
from pcnet.energies.energy import AutogradEnergy, Energy, ErrorEnergy
from pcnet.energies.gaussian import Gaussian, InputPrecision
from pcnet.energies.priors import GaussianPrior, KurtoticPrior, LaplacianPrior, Prior
from pcnet.energies.robust import Huber, Laplace
from pcnet.energies.weight_priors import GaussianWeights, LaplacianWeights, WeightPrior

__all__ = [
    "AutogradEnergy",
    "Bernoulli",
    "Categorical",
    "Energy",
    "ErrorEnergy",
    "Gaussian",
    "GaussianPrior",
    "GaussianWeights",
    "Huber",
    "InputPrecision",
    "KurtoticPrior",
    "Laplace",
    "LaplacianPrior",
    "LaplacianWeights",
    "Prior",
    "WeightPrior",
]
