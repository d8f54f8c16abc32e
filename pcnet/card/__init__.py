"""Everything exact that is known about a process, gathered for a person to read: the card of `pcnet process`."""

from pcnet.card.facts import Card, Fact, Undefined, make_card
from pcnet.card.listing import Entry, Parameter, catalogue
from pcnet.card.text import card_json, render_card

__all__ = ["Card", "Entry", "Fact", "Parameter", "Undefined", "card_json", "catalogue", "make_card", "render_card"]
