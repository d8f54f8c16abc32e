"""Models of any kind over whole sequences: what they hold at every row, a batch of sequences at a time."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import NamedTuple, Self

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from pcnet.probing.rows.sources import Rows
from pcnet.processes import Words
from pcnet.sites import hooked

TOLERANCE = 1e-3
"""Positions that differ by more, relative to a site's size, once a later token changes have looked at that token."""


class Pass(NamedTuple):
    """What a model held in one batch of sequences.

    Attributes:
        rows: numbers of the rows that the batch decides.
        sites: activations by site.
        logits: for the token after each row; None of a model that returns something else.
    """

    rows: Int[Tensor, " n"]
    sites: dict[str, Float[Tensor, "n D"]]
    logits: Float[Tensor, "n V"] | None


@dataclass(frozen=True, eq=False)
class Cover:
    """Sequences of which every row is a prefix: run these, and all rows are known.

    Args:
        sequences: tokens of each, by length.
        origin: sequence of each row.
        lengths: how many of its tokens the row has seen.
    """

    sequences: tuple[Int[Tensor, "B length"], ...]
    origin: Int[Tensor, " N"]
    lengths: Int[Tensor, " N"]

    @classmethod
    def of(cls, rows: Words | Rows) -> Self:
        """The sequences themselves, or the words that no other word continues."""
        if isinstance(rows, Rows):
            return cls._of_rows(rows)
        origin, sequences, made = [], [], 0
        below = torch.empty(0, dtype=torch.int64), torch.empty(0, dtype=torch.int64)
        for level in reversed(rows.levels):
            found = torch.full((len(level.last_tokens),), -1)
            parents, numbers = below
            found[parents.flip(0)] = numbers.flip(0)  # of several, the first child
            leaves = found < 0
            found[leaves] = made + torch.arange(int(leaves.sum()))
            made += int(leaves.sum())
            sequences.append(level.tokens[leaves])
            origin.append(found)
            below = level.parents, found
        return cls(tuple(part for part in sequences if len(part)), torch.cat(origin[::-1]), rows.lengths)

    @classmethod
    def _of_rows(cls, rows: Rows) -> Self:
        ends = (rows.sequences >= 0).sum(1)
        order = torch.argsort(ends, stable=True)
        place = torch.empty_like(order)
        place[order] = torch.arange(len(order))
        sequences = tuple(rows.sequences[ends == end][:, :end] for end in ends.unique().tolist())
        return cls(sequences, place[rows.origin], rows.lengths)

    def batches(self, chunk: int) -> Iterator[tuple[Int[Tensor, "b length"], int]]:
        """Sequences of one length, at most ``chunk`` tokens at once (one sequence at least), and the first one's number."""
        start = 0
        for part in self.sequences:
            for batch in part.split(max(chunk // part.shape[1], 1)):
                yield batch, start
                start += len(batch)


@torch.no_grad()
def passes(model: nn.Module, rows: Words | Rows, sites: str | list[str], chunk: int = 4096) -> Iterator[Pass]:
    """Run a model over all rows, one batch at a time, so that no more than a batch need be held.

    Works for every causal ``torch.nn.Module`` that takes (B, L) tokens: a site is any submodule, by its path, whose
    output is (B, L, D), alone or first in a tuple, or (B, D) once for each token. Dropout is off meanwhile.

    Args:
        model: the module; its output may be logits (B, L, V), a tuple that begins with them, or a mapping that has
            "logits".
        rows: which words.
        sites: names or patterns, as in `capture`.
        chunk: tokens per batch.

    Raises:
        ValueError: no site has a wanted name; a site isn't per token; a site changes when a later token does.
    """
    cover = Cover.of(rows)
    order = torch.argsort(cover.origin, stable=True)
    counts = torch.bincount(cover.origin, minlength=int(cover.origin.max()) + 1)
    ends = counts.cumsum(0)
    with evaluating(model):
        for batch, start in cover.batches(chunk):
            if start == 0:
                _require_causal(model, batch, sites)
            held, logits = _run(model, batch, sites)
            first = int(ends[start - 1]) if start else 0
            wanted = order[first : int(ends[start + len(batch) - 1])]
            place = cover.origin[wanted] - start, cover.lengths[wanted] - 1
            picked = {name: part[place] for name, part in held.items()}
            yield Pass(wanted, picked, None if logits is None else logits[place])


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Everything in evaluation mode while this lasts; afterwards each module is what it was."""
    training = [module for module in model.modules() if module.training]
    model.eval()
    try:
        yield
    finally:
        for module in training:
            module.training = True


def _run(
    model: nn.Module, tokens: Int[Tensor, "b L"], sites: str | list[str]
) -> tuple[dict[str, Float[Tensor, "b L D"]], Float[Tensor, "b L V"] | None]:
    device = next((parameter.device for parameter in model.parameters()), tokens.device)
    with hooked(model, sites) as seen:
        output = model(tokens.to(device))
    held = {name: _joined(name, parts, tokens).cpu() for name, parts in seen.items()}
    return held, _logits(output, tokens)


def _joined(name: str, parts: list[Tensor], tokens: Int[Tensor, "b L"]) -> Float[Tensor, "b L D"]:
    batch, length = tokens.shape
    by_step = len(parts) == length and all(part.ndim == 2 for part in parts)
    whole = torch.stack(parts, 1) if by_step else torch.cat(parts, 1) if parts and parts[0].ndim == 3 else None
    if whole is None or whole.shape[:2] != (batch, length):
        shapes = ", ".join(str(tuple(part.shape)) for part in parts) or "no tensor"
        raise ValueError(
            f"sites: {name} gave {shapes[:80]} for tokens of shape {(batch, length)}; a site holds (B, L, D), or (B, D) "
            "once for each token"
        )
    return whole


def _logits(output: object, tokens: Int[Tensor, "b L"]) -> Float[Tensor, "b L V"] | None:
    if isinstance(output, Mapping):
        output = output.get("logits")
    elif isinstance(output, tuple) and output:
        output = output[0]
    fits = isinstance(output, Tensor) and output.ndim == 3 and output.shape[:2] == tokens.shape
    return output.cpu() if fits else None


def _require_causal(model: nn.Module, batch: Int[Tensor, "b L"], sites: str | list[str]) -> None:
    """Two sequences that differ in the last token must agree before it."""
    one = batch[:1]
    others = batch[batch != one[0, -1]]
    if one.shape[1] < 2 or not len(others):
        return
    changed = one.clone()
    changed[0, -1] = others[0]
    before, after = (_run(model, tokens, sites)[0] for tokens in (one, changed))
    for name, values in before.items():
        earlier = values[:, :-1].double()
        if (earlier - after[name][:, :-1].double()).abs().max() > TOLERANCE * earlier.abs().max().clamp_min(1e-12):
            raise ValueError(f"sites: {name} changes at earlier positions when the last token does; it isn't causal")
