"""``python -m genkan.server.healthcheck``: whether the server in this container is ready, for its HEALTHCHECK.

Standard library only, so that it takes a tenth of a second.
"""

import os
import sys
from collections.abc import Mapping
from http.client import HTTPConnection, HTTPException

_TIMEOUT_S = 4.0


def is_ready(environ: Mapping[str, str] = os.environ) -> bool:
    """Whether ``/readyz`` answers 200 on this machine, on the port that BentoML listens on. Waits 4 s at most."""
    port = int(environ.get("PORT") or environ.get("BENTOML_PORT") or 3000)
    connection = HTTPConnection("localhost", port, timeout=_TIMEOUT_S)
    try:
        connection.request("GET", "/readyz")
        return connection.getresponse().status == 200
    except (OSError, HTTPException):
        return False
    finally:
        connection.close()


if __name__ == "__main__":
    sys.exit(0 if is_ready() else 1)
