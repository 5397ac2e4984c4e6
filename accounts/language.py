"""In which language a page speaks: what the person has set, else what their browser asks for."""

from __future__ import annotations

import re
from collections.abc import Callable
from types import SimpleNamespace

from django.conf import settings
from django.contrib.auth.models import AnonymousUser
from django.http import HttpRequest
from django.http.response import HttpResponseBase
from django.utils import translation
from django.utils.formats import get_format
from django.utils.translation import gettext

from accounts.models import User

VALUE = re.compile(r"“[^”]*”|'[^']*'|\d+(?:\.\d+)?")


def language_middleware(get_response: Callable[[HttpRequest], HttpResponseBase]) -> Callable[..., HttpResponseBase]:
    def middleware(request: HttpRequest) -> HttpResponseBase:
        language = language_of(request.user, request.headers.get("Accept-Language", ""))
        with translation.override(language):
            response = get_response(request)
        response.headers.setdefault("Content-Language", language)
        return response

    return middleware


def language_of(user: User | AnonymousUser, accepted: str) -> str:
    """The person's choice, else the best of what the browser accepts."""
    chosen = user.preferences.get("language") if user.is_authenticated else ""
    if chosen in dict(settings.LANGUAGES):
        return chosen
    headers = SimpleNamespace(COOKIES={}, META={"HTTP_ACCEPT_LANGUAGE": accepted})
    return translation.get_language_from_request(headers)  # type: ignore[arg-type]  # it reads these two only


def translated(sentence: str) -> str:
    """A sentence that was written down in English, as the reader's language says it; unknown ones stay as they are.

    Its numbers and quotations are values: the catalogue has `{} of {} answers`, marked by `gettext_noop`.
    """
    if not sentence or (exact := gettext(sentence)) != sentence:
        return exact if sentence else ""
    pattern = VALUE.sub("{}", sentence)
    if (found := gettext(pattern)) != pattern:
        return found.format(*VALUE.findall(sentence))
    parts = sentence.split("; ")
    return "; ".join(map(translated, parts)) if len(parts) > 1 else sentence


def figures(number: str) -> str:
    """A number as Python writes it (1,234.5), with the separators of the reader's language."""
    marks = {",": get_format("THOUSAND_SEPARATOR"), ".": get_format("DECIMAL_SEPARATOR")}
    return number.translate(str.maketrans(marks))
