"""Asks the web process of this container how it is, by a name it answers to. Exit status 0 means well."""

import http.client
import os
import sys

connection = http.client.HTTPConnection("127.0.0.1", 8000, timeout=4)
host = os.environ.get("ALLOWED_HOSTS", "localhost").split(",")[0].strip()
try:
    connection.request("GET", "/healthz", headers={"Host": host})
    sys.exit(connection.getresponse().status != 200)
except OSError:
    sys.exit(1)
