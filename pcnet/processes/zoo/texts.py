"""Processes whose tokens read like words: a children's book, the days of a week, brackets."""

from collections.abc import Sequence

import torch

from pcnet.processes.models.arguments import require_probability
from pcnet.processes.models.hmm import HiddenMarkovModel

DAYS = ("M", "Tu", "W", "Th", "F", "Sa", "Su")
"""States of `days_of_week`, and its first seven tokens; then come Tmrw, Yest, Wknd and Wkdy."""


def mr_name(p: float = 0.4, q: float = 0.25) -> HiddenMarkovModel:
    """Build Mr. Name: a Markov chain of four words, each token the state that it leads to.

    Tokens and states Mr., Something, Blah, name: Mr. is always followed by name, name by Something or Blah evenly; both
    of these by Mr. with probability q, by the other one with p and by themselves with ``1 - p - q``.

    The last token is the state: a Markov chain of order 1, whose next-token law determines the belief wherever the rows
    are independent. By symmetry the stationary law is ``(q, 1/2, 1/2, q)/(1 + 2 q)``.

    Args:
        p: probability to change between Something and Blah.
        q: probability of Mr. At 0 it never comes back.

    Raises:
        TypeError, ValueError: if an argument isn't a number in [0, 1], or their sum exceeds 1.
    """
    require_probability("p", p)
    require_probability("q", q)
    if p + q > 1 + 1e-12:
        raise ValueError(f"p + q must be at most 1, got {p} + {q}")
    stay = max(0.0, 1 - p - q)
    chain = torch.tensor([[0, 0, 0, 1], [q, stay, p, 0], [q, p, stay, 0], [0, 0.5, 0.5, 0]], dtype=torch.float64)
    return HiddenMarkovModel(torch.eye(4, dtype=torch.float64).unsqueeze(1) * chain)


def days_of_week() -> HiddenMarkovModel:
    """Build the days of the week: a jump to a day, named itself, by its neighbours or by its kind.

    Eleven tokens M, Tu, W, Th, F, Sa, Su, Tmrw, Yest, Wknd, Wkdy over seven states. From any day, out of 15: the token of
    a day leads there, with weight 5 for the next day and 1 for any other; Tmrw and Yest lead one day on or back, with
    weight 1 each; Wknd, with weight 1, to Sa or Su evenly; Wkdy, with weight 1, to one of the other five evenly.
    """
    count, days = 7, torch.arange(7)
    matrices = torch.zeros(count + 4, count, count, dtype=torch.float64)
    matrices[days, :, days] = 1
    matrices[(days + 1) % count, days, (days + 1) % count] = 5
    matrices[count, days, (days + 1) % count] = 1
    matrices[count + 1, days, (days - 1) % count] = 1
    matrices[count + 2, :, 5:] = 1 / 2
    matrices[count + 3, :, :5] = 1 / 5
    return HiddenMarkovModel(matrices / 15)


def matching_parentheses(
    open_probabilities: Sequence[float] = (1, 0.6, 0.5, 0.4, 0), *, starts_empty: bool = False
) -> HiddenMarkovModel:
    """Build matching parentheses of limited depth: token 0 opens one, token 1 closes the last that is open.

    The state is the number of open parentheses, 0 to S - 1; at depth d one is opened with probability p[d]. No depth is
    left out: at depth 0 all must open (p[0] = 1) and at the greatest depth all must close (the last p is 0), so every
    probability is exact. Depths alternate between even and odd: the chain has period 2. By balance of what goes up and
    down the stationary law has ``pi[d + 1] (1 - p[d + 1]) = pi[d] p[d]``.

    Args:
        open_probabilities: p, one for each depth; p[0] = 1, the last is 0, those between in [0, 1]. If one of them is 0 or
            1, some depths can't be reached any more.
        starts_empty: whether sequences start at depth 0, so that every closing token has its opening one and the belief
            is certain. Otherwise they start from the stationary law, as if in the middle of a text.

    Raises:
        TypeError, ValueError: if there are fewer than two entries, one isn't a number in [0, 1], the first isn't 1, the
            last isn't 0, or ``starts_empty`` isn't a bool.
    """
    if not isinstance(starts_empty, bool):
        raise TypeError(f"starts_empty must be True or False, got {type(starts_empty).__name__} {starts_empty!r}")
    if len(open_probabilities) < 2:
        raise ValueError(f"open_probabilities must have at least 2 entries, got {len(open_probabilities)}")
    for depth, probability in enumerate(open_probabilities):
        require_probability(f"open_probabilities[{depth}]", probability)
    if open_probabilities[0] != 1 or open_probabilities[-1] != 0:
        raise ValueError(
            "open_probabilities must begin with 1 (nothing to close) and end with 0 (no deeper), "
            f"got {open_probabilities[0]} and {open_probabilities[-1]}"
        )
    opens = torch.tensor([float(probability) for probability in open_probabilities], dtype=torch.float64)
    matrices = torch.stack([torch.diag(opens[:-1], 1), torch.diag(1 - opens[1:], -1)])
    return HiddenMarkovModel(matrices, initial=torch.eye(len(opens))[0] if starts_empty else None)
