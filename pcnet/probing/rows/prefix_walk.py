"""Every word of a process through a model, once: down the prefix tree, level by level."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from pcnet.predictor import Predictor
from pcnet.probing.rows.passes import passes
from pcnet.probing.rows.sources import Rows
from pcnet.processes import Words
from pcnet.sites import hooked, matching, select
from pcnet.typing import State


@dataclass(frozen=True, eq=False)
class Walk:
    """What a model held and predicted after every word, in the order of the words.

    Attributes:
        sites: activations by site.
        logits: for the token after the word; None of a model that gives none.
    """

    sites: dict[str, Float[Tensor, "N D"]]
    logits: Float[Tensor, "N V"] | None

    def features(self, *patterns: str) -> Float[Tensor, "N D"]:
        """The sites that match, side by side."""
        chosen = [site for pattern in patterns for site in matching(list(self.sites), pattern)]
        return torch.cat([self.sites[site] for site in dict.fromkeys(chosen)], dim=-1)


@torch.no_grad()
def walk(model: nn.Module, words: Words | Rows, sites: str | list[str], chunk: int = 4096) -> Walk:
    """Run `model` over all words and keep the wanted sites.

    A `Predictor` goes down the prefix tree of unique words, so each prefix is computed once. Its memory of every word
    is kept until the word's children have been visited: a transformer's cached keys and values for the 59,049 words of
    length 9 or 10 over three tokens take about 150 MB at the default size. Any other module, which can't go on from a
    prefix, runs over the whole sequences that no other word continues; see ``passes``.

    Args:
        model: a `Predictor`, of which `step` is used, or any causal module that takes (B, L) tokens.
        words: all words of lengths 1..n, or sampled rows.
        sites: names or patterns, as in `capture`.
        chunk: words (tokens, for whole sequences) per batch.

    Raises:
        ValueError: as in ``passes``.
    """
    if isinstance(model, Predictor) and isinstance(words, Words):
        return _down_the_tree(model, words, sites, chunk)
    names = select(model, sites)
    kept: dict[str, Tensor] = {}
    for part in passes(model, words, sites, chunk):
        found = part.sites if part.logits is None else {**part.sites, "": part.logits}
        for name, values in found.items():
            if name not in kept:
                kept[name] = values.new_empty(len(words.lengths), values.shape[1])
            kept[name][part.rows] = values
    logits = kept.pop("", None)
    return Walk({name: kept[name] for name in names}, logits)


def _down_the_tree(model: Predictor, words: Words, sites: str | list[str], chunk: int) -> Walk:
    recorded: dict[str, list[Tensor]] = {name: [] for name in select(model, sites)}
    logits: list[Tensor] = []
    memory = model.start(1)
    for level in words.levels:
        memories: list[State] = []
        for rows in torch.arange(len(level.last_tokens)).split(chunk):
            parents = tuple(part[level.parents[rows]] for part in memory)
            with hooked(model, sites) as seen:
                current, after = model.step(parents, level.last_tokens[rows])
            logits.append(current)
            memories.append(after)
            for name, parts in seen.items():
                recorded[name] += [part.squeeze(1) for part in parts]
        memory = tuple(torch.cat(parts) for parts in zip(*memories, strict=True))
    return Walk({name: torch.cat(parts) for name, parts in recorded.items()}, torch.cat(logits))


def excess_loss(words: Words, logits: Float[Tensor, "N V"]) -> Float[Tensor, " L"]:
    """What the model loses beyond the exact observer, for every context length, in nats and without sampling.

    sum over words of the length of probability x KL(exact next-token law || the model's law).
    """
    law = words.next_token_laws
    divergence = (torch.xlogy(law, law) - law * logits.double().log_softmax(-1)).sum(-1)
    return torch.stack([part.sum() for part in _by_level(words, words.probabilities * divergence)])


def _by_level(words: Words, rows: Tensor) -> Iterator[Tensor]:
    return iter(rows.split([len(level.last_tokens) for level in words.levels]))
