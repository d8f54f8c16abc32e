"""What a belief comparison asks, and at which sites."""

from dataclasses import dataclass, field

from pcnet.inference import Euler, Momentum, Solver


@dataclass(frozen=True)
class Sites:
    """Where one model is probed; patterns as in `capture`, all sites that match a pattern side by side.

    Args:
        headline: the site that counts, fixed before training; judged against the filtered belief.
        filtered: further sites judged against the filtered belief (after the token).
        predicted: further sites judged against the predicted belief (before the token).
    """

    headline: str
    filtered: list[str] = field(default_factory=list)
    predicted: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Evaluation:
    """What is asked of trained models, and of what they are compared with.

    Args:
        untrained_scales: scales of the initial weights of the untrained copies.
        untrained_seeds: seeds of the untrained copies.
        permutations: shuffled beliefs; the 95th percentile of their scores is the one to beat.
        verdict_copies: untrained copies that a verdict ranks a model among, at least 19; 0 asks for no verdict.
        verdict_length: longest word that a verdict is asked about, at most the context; null is the context.
        iterations: numbers of inference iterations after which a network that infers is scored as well.
        iteration_solver: the solver whose iterations these are.
        robust: models whose numbers are repeated with another solver, other initial values and in float64.
        robust_solver: the other solver.
        batch_sizes: sequences per call when latency is measured.
        timing_seconds: how long each latency is measured.
    """

    untrained_scales: list[float] = field(default_factory=lambda: [0.5, 0.9, 1.2])
    untrained_seeds: list[int] = field(default_factory=lambda: [0, 1, 2])
    permutations: int = 100
    verdict_copies: int = 39
    verdict_length: int | None = None
    iterations: list[int] = field(default_factory=lambda: [0, 1, 2, 4, 8, 16, 32])
    iteration_solver: Solver = field(default_factory=Euler)
    robust: list[str] = field(default_factory=list)
    robust_solver: Solver = field(default_factory=Momentum)
    batch_sizes: list[int] = field(default_factory=lambda: [1, 64])
    timing_seconds: float = 1.0
