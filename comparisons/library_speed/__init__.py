"""Same work, same answer, in one run: a training step of pcnet beside other libraries and the loops that people write.

``python -m comparisons.library_speed`` makes an environment for every peer, checks what each computes against a float64
reference of its own, and times them in interleaved rounds.
"""

from comparisons.library_speed.experiment import LibrarySpeed

__all__ = ["LibrarySpeed"]
