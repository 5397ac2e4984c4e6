"""What people have set for themselves: language, keys, and how the annotator's screen looks.

Kept with the account, so that it is the same on every machine. What is not set has its default, so nothing is stored
for people who never touched anything.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace

from django.conf import settings
from django.utils.translation import gettext as _

from accounts.models import User

TEXT_SIZES = ("normal", "large", "largest")
LAYOUTS = ("auto", "columns", "stacked", "tabs")
# Keys of the annotator's screen that may be moved elsewhere. Enter, Escape and the arrows are the same everywhere.
KEYS = (*"1234567890", "=", *"cdefghjkpqrstu", "?", "[", "]")


class InvalidPreference(Exception):
    """Not a setting, or not one of its values; the message says which."""


@dataclass(frozen=True)
class Preferences:
    language: str = ""
    """Empty: what the browser asks for."""
    text_size: str = "normal"
    layout: str = "auto"
    """Side by side; on a narrow screen one below the other, long ones one at a time."""
    raw: bool = False
    """Texts as they were written instead of rendered."""
    wrap: bool = True
    """Long lines of code are broken; else they scroll."""
    diff: bool = False
    """Nearly equal answers show in which words they differ."""
    keys: Mapping[str, str] = field(default_factory=dict)
    """Which key does what another one does by default: {"s": "x"} skips by x."""

    @property
    def moved_keys(self) -> str:
        return json.dumps(self.keys)


DEFAULTS = Preferences()
SWITCHES = ("raw", "wrap", "diff")


def preferences_of(user: User) -> Preferences:
    known = {setting.name for setting in fields(Preferences)}
    return Preferences(**{name: value for name, value in user.preferences.items() if name in known})


def set_preferences(user: User, given: Mapping[str, str]) -> Preferences:
    """Change what is given, as texts of a form, and keep the rest. Raises InvalidPreference."""
    changes = {name: _value(name, text) for name, text in given.items()}
    preferences = replace(preferences_of(user), **changes)  # type: ignore[arg-type]
    default = asdict(DEFAULTS)
    user.preferences = {name: value for name, value in asdict(preferences).items() if value != default[name]}
    user.save(update_fields=["preferences"])
    return preferences


def _value(name: str, text: str) -> object:
    if name in SWITCHES:
        return text == "yes"
    if name == "keys":
        return _keys(text)
    choices = {"language": ("", *dict(settings.LANGUAGES)), "text_size": TEXT_SIZES, "layout": LAYOUTS}
    if text not in choices.get(name, ()):
        raise InvalidPreference(_("{name} cannot be {text!r}.").format(name=name, text=text[:20]))
    return text


def _keys(text: str) -> dict[str, str]:
    """Moved keys, of which no two may come to lie on one."""
    try:
        given = json.loads(text)
    except ValueError:
        given = None
    if not isinstance(given, dict):
        raise InvalidPreference(_("Keys are an object."))
    moved = {old: new for old, new in given.items() if old != new}
    places = [moved.get(key, key) for key in KEYS]
    for old, new in moved.items():
        if old not in KEYS or not isinstance(new, str) or len(new) != 1 or not new.isprintable() or new == " ":
            raise InvalidPreference(_("{old!r} cannot be moved to {new!r}.").format(old=old[:10], new=str(new)[:10]))
        if places.count(new) > 1:
            raise InvalidPreference(_("{new} is taken by another action.").format(new=new))
    return moved
