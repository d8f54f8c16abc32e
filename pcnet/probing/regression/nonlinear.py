"""A probe that bends: is something present that no linear map can read?"""

from typing import Self

import numpy as np
from jaxtyping import Float, Int
from sklearn.base import BaseEstimator, MultiOutputMixin, RegressorMixin
from sklearn.metrics import r2_score
from sklearn.metrics.pairwise import euclidean_distances, rbf_kernel
from sklearn.utils.validation import _check_sample_weight, check_is_fitted, validate_data

from pcnet.probing.regression.moments import Design, measure, total
from pcnet.probing.regression.probes import fold_labels
from pcnet.probing.regression.ridge import check_alphas, ridge_path

NONLINEAR_ALPHAS = tuple(10.0**exponent for exponent in range(-9, 1))
"""Default penalties, each relative to the top eigenvalue of the standardised Gram matrix."""


class NonlinearProbe(MultiOutputMixin, RegressorMixin, BaseEstimator):
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

    def fit(
        self,
        X: Float[np.ndarray, "N D"],
        y: Float[np.ndarray, "N T"] | Float[np.ndarray, " N"],
        sample_weight: Float[np.ndarray, " N"] | None = None,
        folds: Int[np.ndarray, " N"] | None = None,
    ) -> Self:
        """Learns the map, its width and its penalty.

        Args:
            X: features.
            y: targets.
            sample_weight: not negative; rows of weight zero don't exist. All ones if None.
            folds: the fold of each row, for choosing; negative means always in training.

        Raises:
            ValueError: on rows that are too few, not finite or don't match, or settings that aren't legal.
        """
        X, y = validate_data(self, X, y, dtype=np.float64, multi_output=True, y_numeric=True, ensure_min_samples=2)
        self._check()
        weights = _check_sample_weight(sample_weight, X, dtype=np.float64, ensure_non_negative=True)
        rows = np.flatnonzero(weights)
        labels = fold_labels(folds, rows, len(X), self.cv, self.random_state)
        self._place(X[rows], weights[rows])
        found = []
        for width in self.widths:
            design = Design.single(self._features(X[rows], width), y[rows].reshape(len(rows), -1))
            found += [(*self._choose(design, weights[rows], labels), width)]
        _, self.alpha_, path, self.width_ = min(found, key=lambda each: each[0])
        coef, intercept = path.coef[0], path.intercept[0]
        self._coef, self._intercept = (coef, intercept) if y.ndim == 2 else (coef[:, 0], intercept[0])
        self.fitted_ = True
        return self

    def _check(self) -> None:
        check_alphas(self.alphas)
        if self.landmarks < 1:
            raise ValueError(f"landmarks={self.landmarks}: it must be at least 1")
        if not len(self.widths) or min(self.widths) <= 0:
            raise ValueError(f"widths={self.widths}: give at least one, all positive")

    def _place(self, X: Float[np.ndarray, "N D"], weights: Float[np.ndarray, " N"]) -> None:
        """Where the features' centre, scale and landmarks are."""
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

    def _choose(
        self, design: Design, weights: Float[np.ndarray, " N"], labels: Int[np.ndarray, " N"]
    ) -> tuple[float, float, object]:
        """Least held-out error, the penalty that has it, and the fit to all rows with it."""
        centre = design.centre()
        parts = [measure(design, weights, np.flatnonzero(labels == fold), centre) for fold in np.unique(labels)]
        judged = [place for place, fold in enumerate(np.unique(labels)) if fold >= 0]
        if len(judged) < 2:
            raise ValueError(f"folds: {len(judged)} given; choosing needs at least 2")
        errors = np.zeros(len(self.alphas))
        for held in judged:
            others = total([part for place, part in enumerate(parts) if place != held])
            errors += ridge_path(others, self.alphas, fit_intercept=True).squared_errors(parts[held]).sum(axis=1)
        best = len(errors) - 1 - int(np.argmin(errors[::-1]))
        return (
            float(errors[best]),
            self.alphas[best],
            ridge_path(total(parts), (self.alphas[best],), fit_intercept=True),
        )

    def predict(self, X: Float[np.ndarray, "N D"]) -> Float[np.ndarray, "N T"] | Float[np.ndarray, " N"]:
        """Predictions, of the dimension that ``fit`` was given."""
        check_is_fitted(self, "fitted_")
        X = validate_data(self, X, dtype=np.float64, reset=False)
        return self._features(X, self.width_) @ self._coef + self._intercept

    def score(
        self,
        X: Float[np.ndarray, "N D"],
        y: Float[np.ndarray, "N T"],
        sample_weight: Float[np.ndarray, " N"] | None = None,
    ) -> float:
        """Variance-weighted R2: one minus summed squared error over summed variance, all targets together."""
        return r2_score(y, self.predict(X), sample_weight=sample_weight, multioutput="variance_weighted")
