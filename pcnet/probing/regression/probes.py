"""Linear probes, as scikit-learn estimators."""

import abc
from typing import NamedTuple, Self

import numpy as np
from jaxtyping import Bool, Float, Int
from sklearn.base import BaseEstimator, MultiOutputMixin, RegressorMixin
from sklearn.metrics import r2_score
from sklearn.utils.validation import _check_sample_weight, check_is_fitted, validate_data

from pcnet.probing.regression.moments import Design, Moments, measure
from pcnet.probing.regression.ranks import check_ranks, select_rank
from pcnet.probing.regression.ridge import ALPHAS, check_alphas, select_ridge


class Folded(NamedTuple):
    """Training rows that count, dealt to folds.

    Attributes:
        features, targets, weights: of these rows; targets are a matrix.
        labels: the fold of each; negative means always in training.
    """

    features: Float[np.ndarray, "n D"]
    targets: Float[np.ndarray, "n T"]
    weights: Float[np.ndarray, " n"]
    labels: Int[np.ndarray, " n"]

    def moments(self, features: Float[np.ndarray, "n F"]) -> tuple[Moments, list[Moments]]:
        """Those of what always trains, and of each fold, for these rows' targets and other features of them."""
        design, labels = Design.single(features, self.targets), self.labels
        centre = design.centre()

        def measured(chosen: Bool[np.ndarray, " n"]) -> Moments:
            return measure(design, self.weights, np.flatnonzero(chosen), centre)

        return measured(labels < 0), [measured(labels == label) for label in np.unique(labels[labels >= 0])]


class FoldedRegressor(MultiOutputMixin, RegressorMixin, BaseEstimator, abc.ABC):
    """A map whose complexity is chosen on folds of the training rows: `cv` of them, dealt with `random_state`.

    Attributes:
        n_features_in_: D.
    """

    @abc.abstractmethod
    def _check(self) -> None:
        """ValueError if a setting isn't legal."""

    @abc.abstractmethod
    def _learn(self, rows: Folded, one_target: bool) -> None:
        """Sets what ``predict`` needs; ``one_target`` if it should answer with a vector."""

    def fit(
        self,
        X: Float[np.ndarray, "N D"],
        y: Float[np.ndarray, "N T"] | Float[np.ndarray, " N"],
        sample_weight: Float[np.ndarray, " N"] | None = None,
        folds: Int[np.ndarray, " N"] | None = None,
    ) -> Self:
        """Learns the map and chooses its complexity on held-out folds.

        Args:
            X: features.
            y: targets.
            sample_weight: not negative; rows of weight zero don't exist. All ones if None.
            folds: the fold of each row, for choosing the complexity; a negative number means always in training. By
                default the rows are dealt at random to ``cv`` folds.

        Raises:
            ValueError: on rows that are too few, not finite or don't match, negative weights, an unusable grid.
        """
        X, y = validate_data(
            self, X, y, dtype=[np.float64, np.float32], multi_output=True, y_numeric=True, ensure_min_samples=2
        )
        self._check()
        weights = _check_sample_weight(sample_weight, X, dtype=np.float64, ensure_non_negative=True)
        rows = np.flatnonzero(weights)
        labels = fold_labels(folds, rows, len(X), self.cv, self.random_state)
        whole = len(rows) == len(X)
        chosen = (part if whole else part[rows] for part in (X, y.reshape(len(y), -1), weights))
        self._learn(Folded(*chosen, labels), one_target=y.ndim == 1)
        return self

    def score(self, X, y, sample_weight=None) -> float:
        """Variance-weighted R2: one minus summed squared error over summed variance, all targets together."""
        return r2_score(y, self.predict(X), sample_weight=sample_weight, multioutput="variance_weighted")


class LinearMap(FoldedRegressor, abc.ABC):
    """A linear map whose complexity is chosen on folds of the training rows.

    Attributes:
        coef_: slopes in units of the raw features, (T, D), or (D,) for one-dimensional targets.
        intercept_: (T,) or a number; zero without one.
    """

    @abc.abstractmethod
    def _choose(
        self, always: Moments, parts: list[Moments]
    ) -> tuple[Float[np.ndarray, "D T"], Float[np.ndarray, " T"]]:
        """Slopes and intercept; ``parts`` are the folds, ``always`` what trains every fit."""

    def _learn(self, rows: Folded, one_target: bool) -> None:
        coef, intercept = self._choose(*rows.moments(rows.features))
        self.coef_ = coef[:, 0] if one_target else coef.T
        self.intercept_ = float(intercept[0]) if one_target else intercept

    def predict(self, X: Float[np.ndarray, "N D"]) -> Float[np.ndarray, "N T"] | Float[np.ndarray, " N"]:
        """Predictions, of the dimension that ``fit`` was given."""
        check_is_fitted(self)
        X = validate_data(self, X, dtype=[np.float64, np.float32], reset=False)
        return X @ self.coef_.T + self.intercept_


class LinearProbe(LinearMap):
    r"""Linear map from activations to targets: ridge regression that chooses its penalty on held-out folds.

    .. math:: \min_{W, b} \sum_i w_i |y_i - b - W^T z_i|^2 + \alpha \lambda_{max}(\sum_i w_i z_i z_i^T) |W|^2

    with z the standardised features. It is the fit inside the default protocol (``pcnet.probing.probe``), for other
    rows and other targets. All in float64; collinear and constant features are safe. One pass over the rows, then
    ``cv + 1`` eigendecompositions of a D x D matrix.

    Args:
        alphas: penalties to choose from, ascending, relative to the top eigenvalue of the standardised Gram matrix.
        fit_intercept: whether to fit b. Without it features are scaled by their root mean square and not centred.
        cv: folds on which the penalty is chosen; ignored where ``fit`` is told the folds.
        random_state: seed of the shuffle that makes these folds.

    Attributes:
        coef_: slopes in units of the raw features, (T, D), or (D,) for one-dimensional targets.
        intercept_: b, (T,) or a number; zero without one.
        alpha_: the chosen penalty, relative to the top eigenvalue; one for all targets.
        alpha_at_edge_: whether that is an end of the grid, so a wider grid might fit better.
        n_features_in_: D.
    """

    def __init__(self, alphas=ALPHAS, fit_intercept=True, cv=5, random_state=0):
        self.alphas = alphas
        self.fit_intercept = fit_intercept
        self.cv = cv
        self.random_state = random_state

    def _check(self) -> None:
        check_alphas(self.alphas)

    def _choose(
        self, always: Moments, parts: list[Moments]
    ) -> tuple[Float[np.ndarray, "D T"], Float[np.ndarray, " T"]]:
        fitted = select_ridge(always, parts, self.alphas, self.fit_intercept)
        self.alpha_, self.alpha_at_edge_ = float(fitted.alpha[0]), bool(fitted.at_edge[0])
        return fitted.coef, fitted.intercept


class PrincipalComponentProbe(LinearMap):
    r"""Linear map from activations to targets: least squares on the largest principal directions of the features.

    .. math:: W_r = V_r \Lambda_r^{-1} V_r^T Z^T Y, \qquad Z^T Z = V \Lambda V^T

    with z the standardised features, and the number of directions r chosen on held-out folds. It cuts where ridge
    shrinks: principal-component regression. Where both agree the choice of penalty decides nothing. Costs one
    eigendecomposition for each fold and one more.

    Args:
        ranks: numbers of directions to choose from, ascending; all, 1 to D, if None. What the features don't have of a
            rank (collinear ones) adds nothing.
        fit_intercept: whether to fit a constant. Without it features are scaled by their root mean square and not centred.
        cv: folds on which the rank is chosen; ignored where ``fit`` is told the folds.
        random_state: seed of the shuffle that makes these folds.

    Attributes:
        coef_: slopes in units of the raw features, (T, D), or (D,) for one-dimensional targets.
        intercept_: (T,) or a number; zero without one.
        rank_: the chosen number of directions; one for all targets, of equals the smallest.
        n_features_in_: D.
    """

    def __init__(self, ranks=None, fit_intercept=True, cv=5, random_state=0):
        self.ranks = ranks
        self.fit_intercept = fit_intercept
        self.cv = cv
        self.random_state = random_state

    def _check(self) -> None:
        if self.ranks is not None:
            check_ranks(self.ranks)

    def _choose(
        self, always: Moments, parts: list[Moments]
    ) -> tuple[Float[np.ndarray, "D T"], Float[np.ndarray, " T"]]:
        ranks = tuple(range(1, self.n_features_in_ + 1)) if self.ranks is None else tuple(self.ranks)
        self.rank_, coef, intercept = select_rank(always, parts, ranks, self.fit_intercept)
        return coef, intercept


def check_folds(folds: Int[np.ndarray, " N"], num_rows: int) -> Int[np.ndarray, " N"]:
    """Raises ValueError unless there is one whole number for each row."""
    folds = np.asarray(folds)
    if folds.shape != (num_rows,) or folds.dtype.kind != "i":
        raise ValueError(
            f"folds has shape {folds.shape} and dtype {folds.dtype}; it must hold one integer for each of the "
            f"{num_rows} rows"
        )
    return folds


def fold_labels(
    folds: Int[np.ndarray, " N"] | None, rows: Int[np.ndarray, " n"], num_rows: int, cv: int, random_state: int
) -> Int[np.ndarray, " n"]:
    """The fold of each of `rows` out of `num_rows`: what was given, or dealt at random to `cv` folds."""
    if folds is not None:
        return check_folds(folds, num_rows)[rows]
    if not 2 <= cv <= len(rows):
        raise ValueError(f"cv={cv}: it must be at least 2 and at most n_samples={len(rows)}")
    return np.random.default_rng(random_state).permutation(len(rows)) % cv
