"""What a process was composed of, and so what its beliefs split into."""

import abc
from collections.abc import Mapping

import torch
from jaxtyping import Float
from numpy.typing import ArrayLike
from torch import Tensor


class Composition(abc.ABC):
    """Where a process comes from; stored as its `composition`.

    A belief of a process that was composed is a belief about each of its parts, which have names: ``component`` and
    ``component.0``, ``component.1``, ... of a mixture, ``factor.0``, ``factor.1``, ... of a product. Parts of parts go
    on after a dot: ``factor.1.component.0``. What only changes the tokens (a channel, blocks) leaves beliefs alone, so
    the names are those of its source.
    """

    @property
    @abc.abstractmethod
    def num_states(self) -> int:
        """Length of a whole belief."""

    @property
    @abc.abstractmethod
    def sizes(self) -> dict[str, int]:
        """Length of the belief about every part, by name; parts of parts follow them."""

    def split(self, beliefs: Float[Tensor, "... S"] | ArrayLike) -> dict[str, Float[Tensor, "... s"]]:
        """Compute the marginals of beliefs (filtered, predicted or smoothed): one belief about each part.

        Args:
            beliefs: of the whole process; laws sum to 1, generalised ones have ``eta r = 1``.

        Returns:
            A belief for each name of `sizes`, in that order and float64. Of a mixture, ``component`` is the law of which
            component it is, and ``component.k`` the belief in component k, given that it is this one; where that is
            ruled out (probability 0), it is the component's stationary belief. Of a product, ``factor.k`` is
            the marginal belief in factor k.

        Raises:
            ValueError: if a belief doesn't have the length of the whole process's.
        """
        beliefs = torch.as_tensor(beliefs, dtype=torch.float64)
        if beliefs.ndim == 0 or beliefs.shape[-1] != self.num_states:
            raise ValueError(f"beliefs must have a shape (..., {self.num_states}), got {tuple(beliefs.shape)}")
        return self._split(beliefs)

    def join(self, parts: Mapping[str, Float[Tensor, "... s"]]) -> Float[Tensor, "... S"]:
        """Combine beliefs about the parts into one about the whole, with factors taken as independent.

        The inverse of `split` for a mixture, and for a product whose factors are independent given the tokens, as they are
        unless a channel blurs these. Elsewhere the difference is the dependence between the factors.

        Args:
            parts: by name; those at the top are used, parts of parts aren't.

        Raises:
            ValueError: if a part is missing or doesn't have its length.
        """
        names = [name for name in self.sizes if name in self._top]
        for name in names:
            if name not in parts:
                raise ValueError(f"parts must have a belief about {', '.join(names)}; {name} is missing")
            if parts[name].shape[-1] != self.sizes[name]:
                raise ValueError(
                    f"parts[{name!r}] must have a shape (..., {self.sizes[name]}), got {parts[name].shape}"
                )
        return self._join({name: parts[name].double() for name in names})

    @property
    @abc.abstractmethod
    def _top(self) -> tuple[str, ...]: ...

    @abc.abstractmethod
    def _split(self, beliefs: Float[Tensor, "... S"]) -> dict[str, Float[Tensor, "... s"]]: ...

    @abc.abstractmethod
    def _join(self, parts: Mapping[str, Float[Tensor, "... s"]]) -> Float[Tensor, "... S"]: ...
