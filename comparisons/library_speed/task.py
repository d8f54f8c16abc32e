"""What every implementation has to do, and how many operations that takes."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np


@dataclass(frozen=True)
class Task:
    """One supervised training step of a tanh chain with a linear output, squared errors of unit precision.

        mu_l = tanh(W_l x_(l-1) + b_l), mu_L = W_L x_(L-1) + b_L,     F = sum_l 1/2 |x_l - mu_l|^2 summed over units.

    Values start at a feed-forward sweep; input and target are held; the hidden values move by `iterations` Euler steps,
    all levels at once; then the gradients of F in the weights at the final values go to one step of Adam.

    Attributes:
        name: of the task.
        widths: units per level, input first.
        iterations: Euler steps of the values.
        rounds: how often each implementation is timed, unless the command says otherwise.
        batch: rows.
        step_size: of an Euler step.
        batches: different batches that the timed steps go round.
    """

    name: str
    widths: tuple[int, ...]
    iterations: int
    rounds: int
    batch: int = 256
    step_size: float = 0.1
    batches: int = 4

    @property
    def operations(self) -> int:
        """Floating-point operations of the matrix products that the loop needs.

        The held input's product is taken once and nothing is sent back into the input. The rest: a sweep of the hidden
        levels; per iteration one product forward and one back through every level above the first; predictions at the
        final values; the weights' gradients. Fewer are possible where an implementation uses algebra to skip some of these.
        """
        products = [2 * self.batch * below * above for below, above in zip(self.widths, self.widths[1:])]
        first, above = products[0], products[1:]
        return first + sum(above[:-1]) + (2 * self.iterations + 1) * sum(above) + sum(products)

    def describe(self) -> str:
        """The task in a few words."""
        return f"{'-'.join(map(str, self.widths))}, batch {self.batch}, {self.iterations} value steps of {self.step_size:g}"

    def write(self, folder: Path) -> Path:
        """Write weights, data and settings to an .npz file for the workers; the same for everyone, and in every run."""
        path = folder / f"{self.name}.npz"
        folder.mkdir(parents=True, exist_ok=True)
        np.savez(path, **self.arrays())
        return path

    def arrays(self) -> dict[str, np.ndarray]:
        """Weights, data and settings.

        Targets are normal with standard deviation 2: prediction errors are then of the size of the values, so that what is
        compared isn't the rounding of their difference.
        """
        generator = np.random.default_rng(0)
        drawn: dict[str, np.ndarray] = {}
        for i, (below, above) in enumerate(zip(self.widths, self.widths[1:])):
            drawn[f"weight{i}"] = generator.standard_normal((above, below)) / below**0.5
            drawn[f"bias{i}"] = 0.1 * generator.standard_normal(above)
        drawn["inputs"] = generator.standard_normal((self.batches, self.batch, self.widths[0]))
        drawn["targets"] = 2.0 * generator.standard_normal((self.batches, self.batch, self.widths[-1]))
        settings = {
            "widths": np.array(self.widths),
            "iterations": np.array(self.iterations),
            "step_size": np.array(self.step_size),
            "learning_rate": np.array(1e-4),  # of the timed steps
            "adam_rate": np.array(1.0),  # of the step of Adam that is checked: the change is not lost beside the weight
            "gradient_scale": np.array(1024.0),  # rate of the plain descent whose change of weight shows the gradient
        }
        return {name: array.astype(np.float32) for name, array in drawn.items()} | settings


SMALL = Task("small", (784, 256, 256, 10), 20, rounds=30)
LARGE = Task("large", (784, 1024, 1024, 1024, 10), 50, rounds=12)
SMOKE = Task("smoke", (20, 16, 16, 4), 5, rounds=3, batch=8)
TASKS = {task.name: task for task in (SMALL, LARGE, SMOKE)}
