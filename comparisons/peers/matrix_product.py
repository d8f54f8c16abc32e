"""What the machine can do: one single-precision matrix product after another, nothing else."""

import numpy as np
import torch


class Product:
    """A step is one product of 256 x n by n x n."""

    width: int

    def __init__(self, task: dict[str, np.ndarray], threads: int):
        torch.set_num_threads(threads)
        self.left, self.right = torch.randn(256, self.width), torch.randn(self.width, self.width)
        self.out = torch.empty(256, self.width)

    def run(self, steps: int) -> None:
        for _ in range(steps):
            torch.mm(self.left, self.right, out=self.out)

    def versions(self) -> dict[str, str]:
        return {"torch": torch.__version__}


class Product256(Product):
    width = 256


class Product1024(Product):
    width = 1024
