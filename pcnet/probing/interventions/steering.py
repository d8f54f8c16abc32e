"""Optimising a state: small steps of what a place holds until a probe, or the model's own prediction, says what is wanted."""

import torch
from jaxtyping import Float
from torch import Tensor

from pcnet.probing.interventions.edits import Encoding
from pcnet.probing.interventions.places import Moment, Place

RANK_CUT = 1e-6
"""Directions of a Jacobian with a relative singular value below this don't change the prediction."""
LEAST_PROBABILITY = 1e-3
"""To which a wanted law is raised: no state of a softmax model predicts an exact zero."""


def steer_to_belief(
    encoding: Encoding, values: Float[Tensor, "B D"], target: Float[Tensor, "B S"], steps: int = 200
) -> Float[Tensor, "B D"]:
    r"""Natural-gradient descent on the squared distance between decoded and wanted belief.

    .. math:: a \leftarrow a - \lambda^{-1} C\, \nabla_a \tfrac12 |W a + c - b'|^2

    with C the activations' covariance and lambda the greatest eigenvalue of W C W^T, so that steps stay where
    activations vary. It ends where `LeastEdit` goes in one step; on the way it is a dose-response curve of its own.

    Args:
        encoding: of the place.
        values: where to start.
        target: wanted beliefs.
        steps: how many; 0 leaves the values.

    Raises:
        ValueError: if ``steps`` is negative.
    """
    if steps < 0:
        raise ValueError(f"steps={steps}: it must not be negative")
    reach = encoding.covariance @ encoding.decoder.T
    rate = 1.0 / torch.linalg.eigvalsh(encoding.decoder @ reach)[-1]
    current = values.double()
    for _ in range(steps):
        current = current + rate * (target.double() - encoding.decode(current)) @ reach.T
    return current.to(values.dtype)


def steer_to_law(place: Place, moment: Moment, laws: Float[Tensor, "B V"], steps: int = 12) -> Float[Tensor, "B D"]:
    r"""Gauss-Newton steps on what a place holds until the model's next-token law is the wanted one.

    .. math:: a \leftarrow a + J^+ (\log p - \log q(a)), \qquad J = \partial \log q / \partial a

    Every step is the shortest one in the directions that the next-token law reads and moves nothing else: right about the
    next token, it need not be about those after it. Costs V backward passes per step.

    Args:
        place: one whose `put` can be differentiated; not a `ClampedLevel`.
        moment: where to start.
        laws: wanted, strictly inside the simplex or raised to 1e-3 where they are not.
        steps: how many; one that makes a row worse is taken back and the next is half as long.

    Returns:
        Values for the place.

    Raises:
        ValueError: if the place cannot be differentiated.
    """
    wanted = laws.clamp(min=LEAST_PROBABILITY)
    wanted = wanted / wanted.sum(-1, keepdim=True)
    best = moment.values.detach()
    logs, jacobian = _differentiate(place, moment, best)
    least, share = _distance(wanted, logs), torch.ones(len(best), dtype=best.dtype)
    for _ in range(steps):
        way = torch.linalg.pinv(jacobian, rtol=RANK_CUT) @ (wanted.log() - logs).to(best.dtype).unsqueeze(-1)
        values = best + share.unsqueeze(-1) * way.squeeze(-1)
        new_logs, new_jacobian = _differentiate(place, moment, values)
        distance = _distance(wanted, new_logs)
        better = distance < least
        best, logs = (torch.where(better[:, None], *pair) for pair in ((values, best), (new_logs, logs)))
        jacobian = torch.where(better[:, None, None], new_jacobian, jacobian)
        least, share = torch.minimum(distance, least), torch.where(better, (2 * share).clamp(max=1.0), share / 2)
    return best


def _distance(wanted: Float[Tensor, "B V"], logs: Float[Tensor, "B V"]) -> Float[Tensor, " B"]:
    """Divergence of the predicted law from the wanted one, in nats."""
    return (wanted * (wanted.log() - logs)).sum(-1)


def _differentiate(
    place: Place, moment: Moment, values: Float[Tensor, "B D"]
) -> tuple[Float[Tensor, "B V"], Float[Tensor, "B V D"]]:
    """Log-law that these values predict, and its Jacobian."""
    leaf = values.detach().requires_grad_(True)
    with torch.enable_grad():
        logs = place.put(moment, leaf).logits.log_softmax(-1)
        try:
            rows = [torch.autograd.grad(column.sum(), leaf, retain_graph=True)[0] for column in logs.unbind(-1)]
        except RuntimeError as error:
            raise ValueError(f"place: {type(place).__name__} cannot be differentiated ({error})") from error
    return logs.detach(), torch.stack(rows, 1)
