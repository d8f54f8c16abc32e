"""A card as text for a terminal, and as JSON for a program."""

import json
import math
import textwrap
from collections.abc import Iterator

import torch
from jaxtyping import Float
from torch import Tensor

from pcnet.card.facts import Card, Fact, Undefined
from pcnet.processes import Quantity, Spectrum

BITS = 1 / math.log(2)
LABEL, WIDTH = 30, 100
"""Columns of a row's name, and of the card."""
MOST_ENTRIES, MOST_ROWS = 8, 64
"""Columns of a matrix, and rows of all matrices together, that are still printed."""
MOST_EIGENVALUES = 8


def render_card(card: Card) -> str:
    """The card as lines of plain text.

    Args:
        card: of a process.
    """
    blocks = (_head(card), _structure(card), _matrices(card), _information(card), _curve(card), _modes(card))
    return "\n\n".join("\n".join(block) for block in map(list, blocks) if block)


def card_json(card: Card) -> str:
    """The card as one JSON object: numbers as numbers, infinity as "infinity", what is undefined with its reason."""
    machine = card.machine
    content = {
        "name": card.name,
        "parameters": dict(card.parameters),
        "summary": card.summary,
        "reference": card.reference,
        "vocab_size": card.process.vocab_size,
        "num_states": card.process.num_states,
        "transition_matrices": card.process.transition_matrices.tolist(),
        "stationary_distribution": card.process.stationary_distribution.tolist(),
        "initial_distribution": card.process.initial_distribution.tolist(),
        "unifilar": _plain(card.unifilar),
        "mixed_states": {
            "found": len(machine),
            "recurrent": int(machine.recurrent.sum()),
            "closed": machine.closed,
            "beyond": machine.beyond,
            "depth": machine.depth,
        },
        "entropies_nats": {name: _plain(fact) for name, fact in card.entropies.items()},
        "orders_tokens": {name: _plain(fact) for name, fact in card.orders.items()},
        "mixed_state_dimension": _plain(card.dimension),
        "loss_floor_nats": card.floor.tolist(),
        "next_token_law_determines_belief": _plain(card.sufficient),
        "eigenvalues_of": "process" if isinstance(card.spectrum, Undefined) else "mixed states",
        "eigenvalues": [[complex(value).real, complex(value).imag] for value in card.modes],
        "slowest_mode": _slowest(card),
    }
    return json.dumps(content, indent=1, allow_nan=False)


def _head(card: Card) -> Iterator[str]:
    yield card.title
    if card.summary:
        yield from textwrap.wrap(card.summary[0].upper() + card.summary[1:] + ".", WIDTH)
    if card.reference:
        yield from textwrap.wrap(f"Reference: {card.reference}", WIDTH)


def _structure(card: Card) -> Iterator[str]:
    process = card.process
    yield _row("vocabulary", f"{process.vocab_size} token{'s' * (process.vocab_size != 1)}")
    kind = (
        f"{process.num_states}" if card.has_states else f"none: vectors of {process.num_states} entries (generalised)"
    )
    yield _row("states", kind)
    yield from _wrapped("unifilar", _said(card.unifilar))
    yield from _wrapped("stationary law", _vector(process.stationary_distribution))
    if not torch.allclose(process.initial_distribution, process.stationary_distribution):
        yield from _wrapped("initial law", _vector(process.initial_distribution))
    yield from _wrapped("mixed states (recurrent)", _mixed(card))
    yield from _wrapped("next-token law gives belief", _said(card.sufficient))


def _mixed(card: Card) -> str:
    machine = card.machine
    if machine.closed:
        return f"{len(machine):,} ({int(machine.recurrent.sum()):,})"
    if not (machine.leak > 0).any():
        return f"not closed: {len(machine):,} differ by more than the tolerance, and come ever closer to one another"
    return (
        f"not closed: {len(machine):,} found, all words of up to {machine.depth} tokens; "
        f"one more token leads beyond with probability {machine.beyond:.3g}"
    )


def _matrices(card: Card) -> Iterator[str]:
    matrices = card.process.transition_matrices
    tokens, states, _ = matrices.shape
    if states > MOST_ENTRIES or tokens * states > MOST_ROWS:
        yield f"{tokens} matrices T[x] of {states} x {states} entries, {int((matrices != 0).sum()):,} of them not zero"
        return
    cells = [[[_entry(value) for value in row] for row in matrix] for matrix in matrices.tolist()]
    width = max(len(cell) for matrix in cells for row in matrix for cell in row) + 2
    for token, matrix in enumerate(cells):
        lines = ["".join(cell.rjust(width) for cell in row) for row in matrix]
        name = f"T[{token}] ="
        yield from (f"{name if k == 0 else '':8}{line}" for k, line in enumerate(lines))


def _information(card: Card) -> Iterator[str]:
    yield f"{'':{LABEL}}{'nats':>10}{'bits':>11}"
    for name, fact in card.entropies.items():
        yield from _entropy(name, fact)
    for name, fact in card.orders.items():
        yield from _wrapped(f"{name}, tokens", _said(fact))
    yield from _wrapped("dimension of mixed states", _said(card.dimension))


def _entropy(name: str, fact: Fact) -> Iterator[str]:
    if isinstance(fact, Undefined):
        yield from _wrapped(name, _said(fact))
    else:
        doubt = _doubt(fact)
        yield f"{name:{LABEL}}{_decimal(fact):>10}{_decimal(fact * BITS):>11}{doubt and doubt + ' nats'}"


def _curve(card: Card) -> Iterator[str]:
    yield "loss floor h(L), nats, after L tokens of context"
    for start in range(0, len(card.floor), 11):
        part = card.floor[start : start + 11].tolist()
        yield "L     " + "".join(f"{start + k:>8}" for k in range(len(part)))
        yield "h(L)  " + "".join(f"{value:8.5f}" for value in part)


def _modes(card: Card) -> Iterator[str]:
    closed = not isinstance(card.spectrum, Undefined)
    values = [complex(value) for value in card.modes]
    shown = ", ".join(_complex(value) for value in values[:MOST_EIGENVALUES])
    rest = len(values) - MOST_EIGENVALUES
    label = "spectrum of mixed states" if closed else "spectrum of T = sum T[x]"
    yield from _wrapped(label, shown + (f", and {rest:,} more" if rest > 0 else ""))
    yield from _wrapped("slowest transient mode", _search(card.spectrum) if closed else _said(card.spectrum))


def _search(found: Spectrum) -> str:
    """What the slowest mode means for an observer who has to find out the state."""
    if found.slowest is None:
        return "none: an observer knows all there is to know before the first token"
    if found.slowest == 0:
        return f"0: the search through histories ends after {found.depth:.0f} tokens"
    size = abs(found.slowest)
    return f"{_complex(found.slowest)}, modulus {size:.4f}: the search falls to 1/e in {found.depth:.3g} tokens"


def _said(fact: Fact | bool) -> str:
    """A fact in words; why there is none, where there is none."""
    if isinstance(fact, Undefined):
        return f"undefined: {fact.reason}"
    if isinstance(fact, bool):
        return "yes" if fact else "no"
    return _decimal(fact) + (_doubt(fact) if isinstance(fact, Quantity) else "")


def _doubt(fact: float) -> str:
    """What is known of an error, for a number that isn't exact."""
    if not isinstance(fact, Quantity) or fact.exact or fact.low == fact.high:
        return ""
    if math.isinf(fact):
        return f"  for certain at least {_decimal(fact.low)}" if fact.low > 0 else ""
    if fact.standard_error:
        return f"  standard error {fact.standard_error:.1g}"
    if fact.high - fact.low < 1e-6:
        return f"  within {fact.high - fact.low:.0e}"
    return f"  between {_decimal(fact.low)} and {_decimal(fact.high)}"


def _plain(fact: Fact | bool) -> object:
    if isinstance(fact, Undefined):
        return {"undefined": fact.reason}
    if isinstance(fact, Quantity) and not fact.exact and math.isfinite(fact):
        bounds = {"low": _finite(fact.low), "high": _finite(fact.high), "standard_error": _finite(fact.standard_error)}
        return {"value": _finite(fact), **bounds}
    return fact if isinstance(fact, bool) else _finite(fact)


def _slowest(card: Card) -> object:
    if isinstance(card.spectrum, Undefined):
        return _plain(card.spectrum)
    slowest = card.spectrum.slowest
    return (
        None if slowest is None else {"eigenvalue": [slowest.real, slowest.imag], "depth_tokens": card.spectrum.depth}
    )


def _finite(value: float | None) -> float | str | None:
    if value is None or math.isfinite(value):
        return value if value is None or isinstance(value, int) else float(value)
    return "infinity" if value > 0 else "-infinity"


def _row(label: str, content: str) -> str:
    return f"{label:{LABEL}}{content}"


def _wrapped(label: str, content: str) -> Iterator[str]:
    lines = textwrap.wrap(content, WIDTH - LABEL) or [""]
    yield from (_row(label if k == 0 else "", line) for k, line in enumerate(lines))


def _decimal(value: float) -> str:
    if isinstance(value, int) or math.isinf(value):
        return "infinite" if math.isinf(value) else str(value)
    return f"{value + 0.0:.6f}"


def _entry(value: float) -> str:
    if value == 0:
        return "0"
    return f"{value:.4g}" if abs(value) >= 0.0001 else f"{value:.2e}"


def _vector(values: Float[Tensor, " S"]) -> str:
    shown = "  ".join(_entry(value) for value in values[:24].tolist())
    return shown + (f"  ... ({len(values)} entries)" if len(values) > 24 else "")


def _complex(value: complex) -> str:
    if abs(value.imag) < 1e-9:
        return f"{value.real + 0.0:.4g}" if abs(value.real) > 1e-9 else "0"
    return f"{value.real:.4g}{value.imag:+.4g}i"
