"""Belief geometry, layer by layer and iteration by iteration. ``python -m comparisons.belief_geometry``"""

from comparisons.belief_geometry.experiment import BeliefGeometry

__all__ = ["BeliefGeometry"]
