"""Settings under test: the real ones, a throw-away `PREFLOOP_VAR` unless one is given, a quick password hash."""

import atexit
import os
import shutil
import tempfile

if "PREFLOOP_VAR" not in os.environ:
    os.environ["PREFLOOP_VAR"] = _var = tempfile.mkdtemp(prefix="prefloop-test-")
    # Registered before the embedded server registers its stop, so it runs after that. Child processes inherit the
    # variable and share the folder, and its server, with the process that made it.
    atexit.register(shutil.rmtree, _var, ignore_errors=True)

# Each worker of xdist has a folder and a server of its own: one test kills the server it runs on.
_worker = os.environ.get("PYTEST_XDIST_WORKER", "")
if _worker and os.path.basename(os.environ["PREFLOOP_VAR"]) != _worker:
    os.environ["PREFLOOP_VAR"] = os.path.join(os.environ["PREFLOOP_VAR"], _worker)
    os.makedirs(os.environ["PREFLOOP_VAR"], mode=0o700, exist_ok=True)

from config.settings import *  # noqa: E402, F403

PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
# A test database need not survive a power cut. (It still survives kill -9: the kernel keeps what was written.)
EMBEDDED_POSTGRES_OPTIONS = "-c fsync=off -c synchronous_commit=off -c full_page_writes=off"
