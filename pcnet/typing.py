"""The dimension legend, used in every shape annotation of pcnet.

======  =============================================================
letter  meaning
======  =============================================================
``B``   batch: independent samples
``L``   length: tokens of a sequence
``V``   vocabulary: distinct tokens
``S``   states of a process; a belief is a point of the (S-1)-simplex
``D``   width: units of one node group, or features of a probe
``N``   rows: words, or packed values
``K``   recorded inference iterations
======  =============================================================
"""

from torch import Tensor

State = tuple[Tensor, ...]
"""One contiguous tensor per node group, batch first; layer 1 (next to the senses) stands first."""
