"""What mismatches, values and weights cost. Per sample, in nats, summed over units, never averaged over the batch."""

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
