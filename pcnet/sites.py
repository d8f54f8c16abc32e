"""Record what any model holds at named sites; the same call for every architecture.

A site is the output of a submodule, named by its path: `blocks.0.resid_post`, `cells.0.hidden`, `layers.1.value`. Our own
models place identities where there is something to see, so that a site exists whether or not it is recorded.
"""

import abc
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

from pcnet.inference import Relaxation


class Iterates(abc.ABC):
    """A model that infers: what a run may ask of it, whatever it is made of.

    A model without inference is no `Iterates`, and then there is nothing to ask:

        if isinstance(model, Iterates):
            with model.examining(replace(model.inference, max_steps=3)):
                seen = capture(model, tokens, [site, *model.diagnostic_sites])

    Attributes:
        inference: how its values relax: solver, tolerance, most steps, initial values. Assign to it to change it for good.
        diagnostic_sites: patterns of the sites that tell how inference ended: status, steps, and rms of the residual. Empty
            where the model has none.
        slowdown: roughly how much longer an answer takes than that of a model without inference with as many operations.
    """

    inference: Relaxation
    diagnostic_sites: ClassVar[tuple[str, ...]] = ()
    slowdown: ClassVar[float] = 20.0

    @property
    @abc.abstractmethod
    def tolerance(self) -> float:
        """Root mean square of the residual at which inference stops; NaN where it takes a fixed number of steps."""

    @abc.abstractmethod
    def examining(self, inference: Relaxation) -> AbstractContextManager[None]:
        """While this lasts, the model's values relax in another way; afterwards as before, also after an exception."""

    @abc.abstractmethod
    def recording(self, iterations: tuple[int, ...]) -> AbstractContextManager[None]:
        """While this lasts, sites are (B, L, K, D): one entry per number of inference iterations."""


@dataclass(frozen=True)
class Activations(Mapping[str, Float[Tensor, "B L D"]]):
    """Recorded sites by name, in the order in which the model has them.

    Attributes:
        output: what the model returned.
        sites: (B, L, D) each, or (B, L, K, D) by inference iteration.
    """

    output: object
    sites: dict[str, Tensor] = field(default_factory=dict)

    def __getitem__(self, site: str) -> Tensor:
        if site not in self.sites:
            raise KeyError(f"no site {site!r} was recorded; there are {', '.join(self.sites)}")
        return self.sites[site]

    def __iter__(self) -> Iterator[str]:
        return iter(self.sites)

    def __len__(self) -> int:
        return len(self.sites)


class Site(nn.Identity):
    """An identity that marks something worth seeing; its path is its name."""

    @property
    def watched(self) -> bool:
        """Whether it is being recorded; what is costly to show is only made then."""
        return bool(self._forward_hooks)


@contextmanager
def hooked(model: nn.Module, wanted: str | list[str]) -> Iterator[dict[str, list[Tensor]]]:
    """Collect the outputs of the wanted sites while this lasts, detached, one entry per call of the submodule."""
    seen: dict[str, list[Tensor]] = {name: [] for name in select(model, wanted)}
    with ExitStack() as stack:
        for name, outputs in seen.items():
            handle = model.get_submodule(name).register_forward_hook(_recorder(outputs))
            stack.callback(handle.remove)
        yield seen


def capture(
    model: nn.Module, tokens: Tensor, sites: str | list[str] = "*", iterations: tuple[int, ...] = ()
) -> Activations:
    """Run `model` on `tokens` and keep what its sites held.

    A site that fires several times in one run (a model that steps through time) is joined along the length axis.

    Args:
        model: any `torch.nn.Module`.
        tokens: what the model takes.
        sites: names or shell patterns, as in `layers.*.value`.
        iterations: numbers of inference iterations to see the sites at; predictive-coding networks only.

    Raises:
        ValueError: no site has a wanted name, or the model has no iterations.
    """
    if iterations and not isinstance(model, Iterates):
        raise ValueError(f"iterations: a {type(model).__name__} does not infer by iteration; leave iterations empty")
    with torch.no_grad(), hooked(model, sites) as seen, model.recording(iterations) if iterations else nullcontext():
        output = model(tokens)
    return Activations(output, {name: torch.cat(parts, dim=1) for name, parts in seen.items() if parts})


def select(model: nn.Module, wanted: str | list[str]) -> list[str]:
    """The sites of `model` that match, in the model's own order.

    A pattern is matched against the model's `Site`s (against every submodule, if it has none); the exact path of any
    submodule is a site as well.

    Raises:
        ValueError: a pattern matches nothing.
    """
    paths = [name for name, _ in model.named_modules() if name]
    marked = [name for name, module in model.named_modules() if isinstance(module, Site)] or paths
    found: set[str] = set()
    for pattern in [wanted] if isinstance(wanted, str) else wanted:
        found.update([pattern] if pattern in paths else matching(marked, pattern))
    return [name for name in paths if name in found]


def matching(names: list[str], pattern: str) -> list[str]:
    """The names that match a shell pattern.

    Raises:
        ValueError: none does.
    """
    matches = [name for name in names if fnmatchcase(name, pattern)]
    if not matches:
        raise ValueError(f"sites: nothing matches {pattern!r}; there are {', '.join(names)}")
    return matches


def _recorder(outputs: list[Tensor]) -> Callable[[nn.Module, tuple, object], None]:
    def record(module: nn.Module, inputs: tuple, output: object) -> None:
        first = output[0] if isinstance(output, tuple) and output else output
        if isinstance(first, Tensor):
            outputs.append(first.detach())

    return record
