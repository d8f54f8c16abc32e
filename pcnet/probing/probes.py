"""The linear probe, as a scikit-learn estimator."""

from typing import Self

import numpy as np
from jaxtyping import Float, Int
from sklearn.base import BaseEstimator, MultiOutputMixin, RegressorMixin
from sklearn.metrics import r2_score
from sklearn.utils.validation import _check_sample_weight, check_is_fitted, validate_data

from pcnet.probing.moments import Design, measure
from pcnet.probing.ridge import ALPHAS, check_alphas, select_ridge


class LinearProbe(MultiOutputMixin, RegressorMixin, BaseEstimator):
    r"""Linear map from activations to targets: ridge regression that chooses its penalty on held-out folds.

    .. math:: \min_{W, b} \sum_i w_i |y_i - b - W^T z_i|^2 + \alpha \lambda_{max}(\sum_i w_i z_i z_i^T) |W|^2

    with z the standardised features. It is the fit inside the default protocol (``pcnet.probing.probe``), for other
    rows and other targets. All in float64; collinear and constant features are safe. One pass over the rows, then
    ``num_folds + 1`` eigendecompositions of a D x D matrix.

    Args:
        alphas: penalties to choose from, ascending, relative to the top eigenvalue of the standardised Gram matrix.
        offset: whether to fit b. Without it features are scaled by their root mean square and not centred.
        num_folds: folds on which the penalty is chosen; ignored where ``fit`` is told the folds.
        fold_seed: seed of the shuffle that makes these folds.

    Attributes:
        coef_: slopes in units of the raw features, (T, D), or (D,) for one-dimensional targets.
        intercept_: b, (T,) or a number; zero without offset.
        alpha_: the chosen penalty, relative to the top eigenvalue; one for all targets.
        alpha_at_edge_: whether that is an end of the grid, so a wider grid might fit better.
        n_features_in_: D.
    """

    def __init__(self, alphas=ALPHAS, offset=True, num_folds=5, fold_seed=0):
        self.alphas = alphas
        self.offset = offset
        self.num_folds = num_folds
        self.fold_seed = fold_seed

    def fit(
        self,
        X: Float[np.ndarray, "N D"],
        y: Float[np.ndarray, "N T"] | Float[np.ndarray, " N"],
        sample_weight: Float[np.ndarray, " N"] | None = None,
        folds: Int[np.ndarray, " N"] | None = None,
    ) -> Self:
        """Learns the map and its penalty.

        Args:
            X: features.
            y: targets.
            sample_weight: not negative; rows of weight zero don't exist. All ones if None.
            folds: the fold of each row, for choosing the penalty; a negative number means always in training. By
                default the rows are dealt at random to ``num_folds`` folds.

        Raises:
            ValueError: on rows that are too few, not finite or don't match, negative weights, an unusable grid.
        """
        X, y = validate_data(
            self, X, y, dtype=[np.float64, np.float32], multi_output=True, y_numeric=True, ensure_min_samples=2
        )
        check_alphas(self.alphas)
        weights = _check_sample_weight(sample_weight, X, dtype=np.float64, ensure_non_negative=True)
        rows = np.flatnonzero(weights)
        labels = self._deal(len(rows)) if folds is None else check_folds(folds, len(X))[rows]
        design = Design.single(X, y.reshape(len(y), -1))
        centre = design.centre()
        parts = [measure(design, weights, rows[labels == label], centre) for label in np.unique(labels[labels >= 0])]
        always = measure(design, weights, rows[labels < 0], centre)
        fitted = select_ridge(always, parts, self.alphas, self.offset)
        self.coef_ = fitted.coef.T if y.ndim == 2 else fitted.coef[:, 0]
        self.intercept_ = fitted.intercept if y.ndim == 2 else float(fitted.intercept[0])
        self.alpha_, self.alpha_at_edge_ = float(fitted.alpha[0]), bool(fitted.at_edge[0])
        return self

    def _deal(self, num_rows: int) -> Int[np.ndarray, " N"]:
        if not 2 <= self.num_folds <= num_rows:
            raise ValueError(f"num_folds={self.num_folds}: it must be at least 2 and at most n_samples={num_rows}")
        shuffled = np.random.default_rng(self.fold_seed).permutation(num_rows)
        return shuffled % self.num_folds

    def predict(self, X: Float[np.ndarray, "N D"]) -> Float[np.ndarray, "N T"] | Float[np.ndarray, " N"]:
        """Predictions, of the dimension that ``fit`` was given."""
        check_is_fitted(self)
        X = validate_data(self, X, dtype=[np.float64, np.float32], reset=False)
        return X @ self.coef_.T + self.intercept_

    def score(self, X, y, sample_weight=None) -> float:
        """Variance-weighted R2: one minus summed squared error over summed variance, all targets together."""
        return r2_score(y, self.predict(X), sample_weight=sample_weight, multioutput="variance_weighted")


def check_folds(folds: Int[np.ndarray, " N"], num_rows: int) -> Int[np.ndarray, " N"]:
    """Raises ValueError unless there is one whole number for each row."""
    folds = np.asarray(folds)
    if folds.shape != (num_rows,) or folds.dtype.kind != "i":
        raise ValueError(
            f"folds has shape {folds.shape} and dtype {folds.dtype}; it must hold one integer for each of the "
            f"{num_rows} rows"
        )
    return folds
