"""The card that `pcnet process` prints: everything that is known about a process, as facts, as text and as JSON.

`facts` computes it, `listing` finds the processes that have a name and their parameters, `text` writes it.
"""

from pcnet.card.facts import Card, Fact, Undefined, make_card
from pcnet.card.listing import Entry, Parameter, catalogue
from pcnet.card.text import card_json, render_card

__all__ = ["Card", "Entry", "Fact", "Parameter", "Undefined", "card_json", "catalogue", "make_card", "render_card"]
