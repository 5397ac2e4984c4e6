"""Campaigns, their items and slots, and the rankings people gave.

State and invariants of one row live here and in database constraints; reads in `querysets.py`; writes over several
rows in `assignment.py` (slots), `annotation.py` (rankings), `importing.py` (items) and `campaigns.py` (the rest).
"""

from labeling.models.answers import Ranking
from labeling.models.campaigns import Campaign, Membership
from labeling.models.items import Completion, Import, Item, UploadPiece
from labeling.models.queue import Contribution, LapsedLease, Skip, Slot, new_pseudonym, new_random_key
from labeling.models.upkeep import CampaignStatistics, ItemGain, Steering

__all__ = [
    "Campaign",
    "CampaignStatistics",
    "Completion",
    "Contribution",
    "Import",
    "Item",
    "ItemGain",
    "LapsedLease",
    "Membership",
    "Ranking",
    "Skip",
    "Slot",
    "Steering",
    "UploadPiece",
    "new_pseudonym",
    "new_random_key",
]
