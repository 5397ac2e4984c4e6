"""Opaque public ids for URLs and the API: nothing can be counted or guessed from them."""

from __future__ import annotations

import secrets

ALPHABET = "23456789abcdefghjkmnpqrstuvwxyz"


def new_public_id() -> str:
    """12 characters of 31 signs, about 59 bits; uniqueness is a database constraint."""
    return "".join(secrets.choice(ALPHABET) for _ in range(12))
