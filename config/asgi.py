import os
import warnings

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")

import django

django.setup()  # models may be imported only after it

from channels.routing import ProtocolTypeRouter  # noqa: E402
from channels.security.websocket import AllowedHostsOriginValidator  # noqa: E402
from channels.sessions import SessionMiddlewareStack  # noqa: E402

from config.handler import Handler  # noqa: E402
from config.lifespan import lifespan  # noqa: E402
from config.routing import router  # noqa: E402

application = ProtocolTypeRouter(
    {
        "http": Handler(),
        "websocket": AllowedHostsOriginValidator(SessionMiddlewareStack(router)),
        "lifespan": lifespan,
    }
)
# WhiteNoise streams files with a plain iterator, which is fine for files of this size; Django warns at the first one.
warnings.filterwarnings("ignore", message="StreamingHttpResponse must consume synchronous iterators")
