"""Lightning data modules."""

from pcnet.data.sequences import SequenceBatch, SequenceData, SequenceStream

__all__ = ["SequenceBatch", "SequenceData", "SequenceStream"]
