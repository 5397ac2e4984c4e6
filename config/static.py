"""Static files in production: named by the hash of their content, compressed, kept by browsers for good."""

from __future__ import annotations

from whitenoise.storage import CompressedManifestStaticFilesStorage

IMPORT = (r"""(?P<matched>(?P<word>from|import) "(?P<url>\.[^"]+)";)""", '%(word)s "%(url)s";')


class HashedFiles(CompressedManifestStaticFilesStorage):
    """Our scripts import each other by hashed names as well, so no browser ever mixes those of two versions.

    Django's own switch for that stops at packages' scripts whose imports lead nowhere and are never loaded.
    """

    patterns = (*CompressedManifestStaticFilesStorage.patterns, ("js/*.js", (IMPORT,)))
