"""How large an adapter is beside its base, as its artifact's card says."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from django.template.defaultfilters import filesizeformat
from django.utils.translation import gettext as _

from training.models import ModelArtifact


def size_text(model: ModelArtifact | None) -> str:
    """For example "1.2 MB, 1/350 of the base"; empty where nothing is known."""
    if model is None or model.format != "adapter":
        return ""
    try:
        card: dict[str, Any] = json.loads((Path(model.path) / "card.json").read_text(encoding="utf-8"))
        adapter, base = int(card["size"]["bytes"]), int(card["size"]["base_bytes"])
    except (OSError, ValueError, TypeError, KeyError):  # made elsewhere, or before sizes were written down
        return ""
    return _("{adapter}, {share} of the base ({base})").format(
        adapter=filesizeformat(adapter), share=_share(adapter, base), base=filesizeformat(base)
    )


def _share(part: int, whole: int) -> str:
    if 0 < part * 2 <= whole:
        return f"1/{round(whole / part)}"
    return f"{100 * part / whole:.0f} %" if whole > 0 else _("an unknown part")
