"""What a graph network learns from: values to hold, and values to say."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from torch import Tensor

from pcnet.networks import Clamped, GraphNetwork


@dataclass(frozen=True)
class Example:
    """A batch for a graph network: what is an input, and what it should say.

    Local rules hold both while values relax. Rules with a task loss hold the inputs alone and judge what the network then
    predicts of the targets. Without targets an example is unsupervised.

    Args:
        held: values by node name, as `GraphNetwork.clamp` takes them: (B, width), images (B, ...), or class labels (B,).
        targets: the same for the nodes that the network should learn to say.

    Raises:
        ValueError: a node is in both.
    """

    held: Mapping[str, Tensor]
    targets: Mapping[str, Tensor] = field(default_factory=dict)

    def __post_init__(self) -> None:
        both = sorted(self.held.keys() & self.targets.keys())
        if both:
            raise ValueError(f"node {both[0]!r} is both held and a target; it can be one of them")

    def whole(self, network: GraphNetwork) -> Clamped:
        """Inputs and targets held.

        Raises:
            ValueError: there is no row, or something that `GraphNetwork.clamp` refuses.
        """
        clamped = network.clamp({**self.held, **self.targets})
        if not clamped.batch_size:
            raise ValueError("the batch has no rows")
        return clamped

    def split(self, network: GraphNetwork) -> tuple[Clamped, dict[str, Tensor]]:
        """The inputs held, and the targets in the same form.

        Raises:
            ValueError: there is no input or no target, or something that `GraphNetwork.clamp` refuses.
        """
        for name, part in (("held", self.held), ("targets", self.targets)):
            if not part:
                raise ValueError(f"{name} is empty: a task loss compares targets with what follows from held values")
        values = self.whole(network).values
        return Clamped({name: values[name] for name in self.held}), {name: values[name] for name in self.targets}
