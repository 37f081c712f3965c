"""Ends with 0 where the service in this container takes requests; what HEALTHCHECK runs.

It reads the environment alone: a port set in kairos.toml has to be set as KAIROS_PORT too.
"""

import os
import sys
import urllib.error
import urllib.request

URL = f"http://127.0.0.1:{os.environ.get('KAIROS_PORT', '8300')}/readyz"

try:
    with urllib.request.urlopen(URL, timeout=5) as answer:
        sys.exit(answer.status != 200)
except (OSError, urllib.error.URLError) as error:
    sys.exit(f"{URL}: {error}")
