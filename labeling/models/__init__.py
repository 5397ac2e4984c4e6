"""Campaigns, their items and slots, the rankings people gave, and what watches over their quality.

State and invariants of one row live here and in database constraints; reads in `querysets.py`; writes over several
rows in `assignment.py` (slots), `annotation.py` (rankings), `importing.py` (items), `chats.py` (live chats) and
`campaigns.py` (the rest).
"""

from labeling.models.answers import Ranking
from labeling.models.audit import AuditEntry
from labeling.models.campaigns import Campaign, Membership, PastForm
from labeling.models.chats import Chat, ChatReply, ChatServer, ChatTurn, Contestant, LiveChat
from labeling.models.exports import ExportFile
from labeling.models.items import Completion, DatasetSample, Import, Item, RefusedLines, UploadPiece
from labeling.models.practice import PracticeAnswer
from labeling.models.quality import Gold, Leak, OverlapChange, QualityRules, Review
from labeling.models.queue import Contribution, Kind, LapsedLease, Skip, Slot, new_pseudonym, new_random_key
from labeling.models.upkeep import CampaignStatistics, ItemGain, Steering
from labeling.models.webhooks import Delivery, Webhook

__all__ = [
    "AuditEntry",
    "Campaign",
    "CampaignStatistics",
    "Chat",
    "ChatReply",
    "ChatServer",
    "ChatTurn",
    "Completion",
    "Contestant",
    "Contribution",
    "DatasetSample",
    "Delivery",
    "ExportFile",
    "Gold",
    "Import",
    "Item",
    "ItemGain",
    "Kind",
    "LapsedLease",
    "Leak",
    "LiveChat",
    "Membership",
    "OverlapChange",
    "PastForm",
    "PracticeAnswer",
    "QualityRules",
    "Ranking",
    "RefusedLines",
    "Review",
    "Skip",
    "Slot",
    "Steering",
    "UploadPiece",
    "Webhook",
    "new_pseudonym",
    "new_random_key",
]
