"""What the statistics refuse, each with a message that says what is wrong."""

from __future__ import annotations


class InvalidData(ValueError):
    """These data have no answer; the message says what is wrong with them."""


class NothingToFit(InvalidData):
    """There are no comparisons, no rankings, or none that compares anything."""


class TooFewItems(InvalidData):
    """Fewer than two items: nothing can be better than anything."""


class InvalidComparison(InvalidData):
    """A comparison is not one: an item against itself, an unknown item, NaN, a share outside [0, 1]."""


class InvalidTiers(InvalidData):
    """This is no ranking; the message says what is wrong."""


class InvalidWeights(InvalidData):
    """Weights are finite, not negative, one per row, and not all zero."""


class AllTies(InvalidData):
    """Nobody ever preferred anything, so how large a difference people notice cannot be known."""


class OneAnnotator(InvalidData):
    """Reliability is judged against other people, and there is only one."""


class TieTooLarge(InvalidData):
    """More tied items than the exact average over their orders can take."""


class TooManyItems(InvalidData):
    """A dense matrix of these items would not fit into memory."""


class NotConverged(RuntimeError):
    """The search for the best fit did not end; the data are numerically out of range."""
