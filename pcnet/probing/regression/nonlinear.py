"""A nonlinear probe: is something present that no linear map can read?"""

import numpy as np
from jaxtyping import Float
from sklearn.base import clone
from sklearn.metrics.pairwise import euclidean_distances, rbf_kernel
from sklearn.utils.validation import check_is_fitted, validate_data

from pcnet.probing.regression.moments import Moments
from pcnet.probing.regression.principal import LinearPath
from pcnet.probing.regression.probes import Folded, FoldedRegressor
from pcnet.probing.regression.protocol import Protocol
from pcnet.probing.regression.ridge import check_alphas, errors_on_folds, ridge_path, select_ridge
from pcnet.probing.regression.scoring import explained
from pcnet.probing.rows.dataset import ProbeData

NONLINEAR_ALPHAS = tuple(10.0**exponent for exponent in range(-9, 1))
"""Default penalties, each relative to the top eigenvalue of the standardised Gram matrix."""


class NonlinearProbe(FoldedRegressor):
    r"""Ridge regression on the features and on Gaussian bumps around some of the rows.

    .. math:: \hat y(x) = b + W^T z + \sum_j c_j \exp(-|z - z_j|^2 / (2 h^2 d)), \qquad d = \text{median } |z_i - z_j|^2

    with z the standardised features and z_j landmarks drawn from the training rows. Width h and penalty are chosen
    together on held-out folds. Costs ``len(widths) * cv`` eigendecompositions of side D + landmarks, so a few
    hundred features and landmarks are the limit of comfort.

    Args:
        landmarks: bumps at most; fewer where there are fewer rows.
        widths: h, positive; 1 is the typical distance between rows.
        alphas: penalties, ascending, relative to the top eigenvalue of the standardised Gram matrix.
        cv: folds for choosing; ignored where ``fit`` is told the folds.
        random_state: seed of the landmarks, and of the shuffle that makes these folds.

    Attributes:
        width_, alpha_: those chosen.
        n_features_in_: D.

    Reference: Williams and Seeger (2001), NIPS 13 (landmarks, the Nyström method); the penalty here is on c itself.
    """

    def __init__(
        self,
        landmarks: int = 100,
        widths: tuple[float, ...] = (0.15, 0.3, 0.6, 1.2),
        alphas: tuple[float, ...] = NONLINEAR_ALPHAS,
        cv: int = 5,
        random_state: int = 0,
    ) -> None:
        self.landmarks = landmarks
        self.widths = widths
        self.alphas = alphas
        self.cv = cv
        self.random_state = random_state

    def _check(self) -> None:
        check_alphas(self.alphas)
        if self.landmarks < 1:
            raise ValueError(f"landmarks={self.landmarks}: it must be at least 1")
        if not len(self.widths) or min(self.widths) <= 0:
            raise ValueError(f"widths={self.widths}: give at least one, all positive")

    def _learn(self, rows: Folded, one_target: bool) -> None:
        rows = rows._replace(features=rows.features.astype(np.float64))
        self._place(rows)
        moments = [rows.moments(self._features(rows.features, width)) for width in self.widths]
        least = [errors_on_folds(*each, self._path).sum(axis=1).min() for each in moments]
        best = int(np.argmin(least))
        fitted = select_ridge(*moments[best], self.alphas, fit_intercept=True)
        self.width_, self.alpha_ = self.widths[best], float(fitted.alpha[0])
        self._coef = fitted.coef[:, 0] if one_target else fitted.coef
        self._intercept = fitted.intercept[0] if one_target else fitted.intercept
        self.fitted_ = True

    def _path(self, train: Moments) -> LinearPath:
        return ridge_path(train, self.alphas, fit_intercept=True)

    def _place(self, rows: Folded) -> None:
        """Where the features' centre, scale and landmarks are."""
        X, weights = rows.features, rows.weights
        self._centre = np.average(X, axis=0, weights=weights)
        deviation = np.sqrt(np.average((X - self._centre) ** 2, axis=0, weights=weights))
        self._scale = np.where(deviation > 1e-7 * np.abs(self._centre), deviation, np.inf)
        chosen = np.random.default_rng(self.random_state).permutation(len(X))[: self.landmarks]
        self._landmarks = self._standardised(X[chosen])
        distances = euclidean_distances(self._landmarks, squared=True)[np.triu_indices(len(chosen), 1)]
        positive = distances[distances > 1e-12]
        self._distance = float(np.median(positive)) if len(positive) else 1.0

    def _standardised(self, X: Float[np.ndarray, "N D"]) -> Float[np.ndarray, "N D"]:
        return (X - self._centre) / self._scale

    def _features(self, X: Float[np.ndarray, "N D"], width: float) -> Float[np.ndarray, "N F"]:
        z = self._standardised(X)
        return np.concatenate([z, rbf_kernel(z, self._landmarks, 0.5 / (width**2 * self._distance))], axis=1)

    def predict(self, X: Float[np.ndarray, "N D"]) -> Float[np.ndarray, "N T"] | Float[np.ndarray, " N"]:
        """Predictions, of the dimension that ``fit`` was given."""
        check_is_fitted(self, "fitted_")
        X = validate_data(self, X, dtype=np.float64, reset=False)
        return self._features(X, self.width_) @ self._coef + self._intercept


def held_out_r2(estimator: FoldedRegressor, data: ProbeData, protocol: Protocol) -> float:
    """R2 of any estimator under the protocol's rows, weights and first deal to folds; words equally weighted within a length.

    Each fold is decoded by a fit to the others, which chooses its complexity on those same folds.

    Args:
        estimator: cloned for each fit; its grids take the place of the protocol's penalties.
        data: features, targets and groups.
        protocol: its numbers.

    Raises:
        ValueError: if there are fewer words, or groups, than folds.
    """
    labels = protocol.folds(data.lengths, protocol.fold_seeds[0], data.groups)
    weights, found = protocol.fit_weights(data), np.zeros_like(data.targets)
    for fold in range(protocol.num_folds):
        train, held = labels != fold, labels == fold
        fitted = clone(estimator).fit(data.features[train], data.targets[train], weights[train], labels[train])
        found[held] = fitted.predict(data.features[held])
    rows = protocol.scored(data.lengths)
    mass, targets = data.score_weights()["equal"][rows], data.targets[rows]
    variance = (mass @ (targets - np.average(targets, axis=0, weights=mass)) ** 2).sum()
    return float(explained((mass @ (targets - found[rows]) ** 2).sum(), variance))
