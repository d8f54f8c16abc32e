"""The independent factors of a product, which are drawn and followed one by one."""

from pcnet.processes.models.composition import Product
from pcnet.processes.models.hmm import Process


def leaves(process: Process) -> list[Process]:
    """The factors of a product, those of factors that are products in their place; the process itself if it is none."""
    if not isinstance(process.composition, Product):
        return [process]
    return [leaf for factor in process.composition.factors for leaf in leaves(factor)]
