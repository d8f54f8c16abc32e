"""Do the states of sequence models hold the belief geometry of a process, and what does an answer cost?"""

from pcnet.experiments.beliefs.comparison import BeliefComparison
from pcnet.experiments.beliefs.examination import Examination
from pcnet.experiments.beliefs.questions import Evaluation, Sites

__all__ = ["BeliefComparison", "Evaluation", "Examination", "Sites"]
