"""The cast, a campaign, a live server and a browser.

The cast: `admin` and `researcher` hold site roles; `manager`, `reviewer` and `annotator` are members of `campaign`;
`outsider` is in no campaign. Everybody's password is `PASSWORD`.
"""

from __future__ import annotations

import os
import shutil
import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from django.test import Client
from hypothesis import HealthCheck, settings

from tests.receiver import Receiver

if TYPE_CHECKING:
    from playwright.sync_api import Browser, BrowserContext, Page

    from accounts.models import User
    from labeling.models import Campaign

settings.register_profile("a busy machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("a busy machine")

PASSWORD = "a long enough password"
CHROMIUM = os.environ.get("CHROMIUM") or shutil.which("chromium")
SHARED = Path(__file__).resolve().parents[2] / "shared"


def make_user(username: str, role: str = "annotator", **fields: Any) -> User:
    from accounts.models import User

    return User.objects.create_user(username, f"{username}@example.org", PASSWORD, role=role, **fields)


def make_member(campaign: Campaign, user: User, role: str) -> User:
    from labeling.models import Membership

    Membership.objects.create(campaign=campaign, user=user, role=role)
    return user


def client_for(user: User) -> Client:
    client = Client()
    client.force_login(user)
    return client


def child_environment(**more: str) -> dict[str, str]:
    """Environment of a process that shall use the test database."""
    from django.db import connection

    environment = dict(os.environ) | {"DJANGO_SETTINGS_MODULE": "config.settings", "GOMP_SPINCOUNT": "2000"} | more
    name = str(connection.settings_dict["NAME"])
    if url := environment.get("DATABASE_URL"):
        environment["DATABASE_URL"] = f"{url.rpartition('/')[0]}/{name}"
    return environment | {"PREFLOOP_DATABASE": name}


@pytest.fixture(scope="session")
def django_db_setup(django_db_setup: None, django_db_blocker: Any) -> Iterator[None]:
    """pytest-django's, and at the end no connection of a server thread is left that would keep the database."""
    from django.db import connection

    yield
    with django_db_blocker.unblock(), connection.cursor() as cursor:
        cursor.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )


@pytest.fixture
def admin(db: None) -> User:
    return make_user("admin", "admin")


@pytest.fixture
def researcher(db: None) -> User:
    return make_user("researcher", "researcher")


@pytest.fixture
def campaign(admin: User) -> Campaign:
    from labeling.models import Campaign

    return Campaign.objects.create(name="Support replies", protocol="pair", state="open", created_by=admin)


@pytest.fixture
def foreign_campaign(admin: User) -> Campaign:
    """A campaign that only the admin knows of."""
    from labeling.models import Campaign

    return Campaign.objects.create(name="Somebody else's", protocol="pair", state="open", created_by=admin)


@pytest.fixture
def manager(campaign: Campaign) -> User:
    return make_member(campaign, make_user("manager"), "manager")


@pytest.fixture
def reviewer(campaign: Campaign) -> User:
    return make_member(campaign, make_user("reviewer"), "reviewer")


@pytest.fixture
def annotator(campaign: Campaign) -> User:
    return make_member(campaign, make_user("annotator"), "annotator")


@pytest.fixture
def outsider(db: None) -> User:
    return make_user("outsider")


@dataclass(frozen=True)
class Site:
    """A running server: HTTP and websockets, on the test database."""

    host: str

    @property
    def url(self) -> str:
        return f"http://{self.host}"

    @property
    def ws_url(self) -> str:
        return f"ws://{self.host}"


@pytest.fixture
def site(transactional_db: None) -> Iterator[Site]:
    """The real ASGI application in uvicorn, in a thread of this process, on a free port."""
    import uvicorn

    from config.asgi import application

    listener = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(application, log_config=None, lifespan="off", timeout_graceful_shutdown=2))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, name="site")
    thread.start()
    while not server.started and thread.is_alive():
        time.sleep(0.01)
    yield Site(f"127.0.0.1:{listener.getsockname()[1]}")
    server.should_exit = True
    thread.join()


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    server = Receiver()
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server
    server.slow.set()
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Chromium. One per module: Playwright's loop would be in the way of asynchronous tests in other modules."""
    from playwright.sync_api import Error, sync_playwright

    with sync_playwright() as playwright:
        try:
            chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        except Error as error:
            if os.environ.get("REQUIRE_BROWSER"):
                raise
            pytest.skip(f"no Chromium here: {error.message.splitlines()[0]}")
        # Playwright runs an event loop in this thread, which makes Django refuse the ORM without this.
        os.environ["DJANGO_ALLOW_ASYNC_UNSAFE"] = "true"
        yield chromium
        del os.environ["DJANGO_ALLOW_ASYNC_UNSAFE"]
        chromium.close()


@pytest.fixture
def page(browser: Browser, site: Site) -> Iterator[Page]:
    """A page of a fresh browser profile, with `site` as base URL. Errors of scripts and of the CSP fail the test."""
    context = browser.new_context(base_url=site.url)
    page = context.new_page()
    errors: list[str] = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.on(
        "console", lambda message: errors.append(message.text) if "Content Security Policy" in message.text else None
    )
    yield page
    context.close()
    assert not errors, errors


@pytest.fixture
def sign_in(site: Site) -> Callable[[BrowserContext, User], None]:
    """Give a browser context the session of a person, without going through the form."""

    def sign_in(context: BrowserContext, user: User) -> None:
        session = client_for(user).cookies["sessionid"].value
        context.add_cookies([{"name": "sessionid", "value": session, "url": site.url, "httpOnly": True}])

    return sign_in
