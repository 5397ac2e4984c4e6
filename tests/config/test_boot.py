"""What production refuses to start with, and what a first start leaves on the disk."""

from __future__ import annotations

import os
import secrets
import stat
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SAFE = {
    "PREFLOOP_ENV": "production",
    "SECRET_KEY": secrets.token_urlsafe(50),
    "ALLOWED_HOSTS": "prefloop.example.org",
    "DATABASE_URL": "postgresql://prefloop:secret@db:5432/prefloop",
}


def boot(var: Path, code: str = "", **environment: str) -> subprocess.CompletedProcess[str]:
    """Load the settings in a process with exactly this environment."""
    command = [sys.executable, "-c", f"import config.settings as s\n{code}"]
    clean = {"PATH": os.environ["PATH"], "PREFLOOP_VAR": str(var)}
    return subprocess.run(command, cwd=ROOT, env=clean | environment, capture_output=True, text=True)


def test_safe_values_start(tmp_path: Path) -> None:
    code = """assert s.SESSION_COOKIE_SECURE and s.SECURE_SSL_REDIRECT and not s.DEBUG
print(s.DATABASES['default']['HOST'])"""
    done = boot(tmp_path, code, **SAFE)
    assert done.stdout.strip() == "db", done.stderr
    assert not (tmp_path / "secret_key").exists(), "production never makes its own key"


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"DEBUG": "true"}, "DEBUG must be off"),
        ({"SECRET_KEY": ""}, "SECRET_KEY must be"),
        ({"SECRET_KEY": "short"}, "SECRET_KEY must be"),
        ({"SECRET_KEY": "django-insecure-" + "x" * 50}, "SECRET_KEY must be"),
        ({"SECRET_KEY": "please-change-me-please-change-me-please"}, "SECRET_KEY must be"),
        ({"SECRET_KEY": "a" * 60}, "SECRET_KEY must be"),
        ({"ALLOWED_HOSTS": ""}, "ALLOWED_HOSTS must name"),
        ({"ALLOWED_HOSTS": "*"}, "ALLOWED_HOSTS must name"),
        ({"ALLOWED_HOSTS": "prefloop.example.org,.example.org"}, "ALLOWED_HOSTS must name"),
        ({"DATABASE_URL": "sqlite:///db"}, "PostgreSQL only"),
        ({"DATABASE_URL": ""}, "DATABASE_URL must be set"),
        ({"DEBUG": "maybe"}, "DEBUG must be true or false"),
        ({"WORKER_CONCURRENCY": "two"}, "must be a whole number"),
        ({"PREFLOOP_ENV": "prod"}, "PREFLOOP_ENV must be"),
    ],
)
def test_unsafe_values_are_refused_in_one_sentence(tmp_path: Path, change: dict[str, str], sentence: str) -> None:
    done = boot(tmp_path, **(SAFE | change))
    assert done.returncode != 0
    assert sentence in done.stderr.splitlines()[-1]
    assert SAFE["SECRET_KEY"] not in done.stderr


def test_secrets_come_from_files_too(tmp_path: Path) -> None:
    (tmp_path / "key").write_text(SAFE["SECRET_KEY"] + "\n")
    environment = {name: value for name, value in SAFE.items() if name != "SECRET_KEY"}
    done = boot(tmp_path, "print(s.SECRET_KEY)", **environment, SECRET_KEY_FILE=str(tmp_path / "key"))
    assert done.stdout.strip() == SAFE["SECRET_KEY"], done.stderr


def test_everything_under_var_belongs_to_its_owner_alone(tmp_path: Path) -> None:
    var = tmp_path / "new" / "var"
    assert boot(var).returncode == 0
    assert stat.S_IMODE(var.stat().st_mode) in (0o700, 0o711)
    for path in var.iterdir():
        assert stat.S_IMODE(path.stat().st_mode) & 0o077 == 0, path


def test_first_starts_at_once_agree_on_one_secret_key(tmp_path: Path) -> None:
    command = [sys.executable, "-c", "import config.settings as s; print(s.SECRET_KEY)"]
    environment = {"PATH": os.environ["PATH"], "PREFLOOP_VAR": str(tmp_path / "var")}
    starts = [subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True) for _ in range(6)]
    keys = {start.communicate()[0].strip() for start in starts}
    assert len(keys) == 1
    assert len(keys.pop()) > 50
    assert boot(tmp_path / "var", "print(s.SECRET_KEY)").stdout.strip() == (tmp_path / "var" / "secret_key").read_text()


def test_no_setting_hides_behind_a_proxy_that_is_not_there(tmp_path: Path) -> None:
    """Forwarded headers count only where a proxy is declared; else anybody could claim to be anybody."""
    code = "print(s.SECURE_PROXY_SSL_HEADER, s.ALLAUTH_TRUSTED_PROXY_COUNT)"
    assert boot(tmp_path, code, **SAFE).stdout.strip() == "None 0"
    assert "https" in boot(tmp_path, code, **SAFE, TRUST_PROXY="true").stdout
