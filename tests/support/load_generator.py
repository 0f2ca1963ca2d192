"""What the benchmarks' load generator is built with, and what is missing of it."""

import shutil
from pathlib import Path
from typing import Final

from benchmarks.tools import has_openssl_headers

ROOT: Final = Path(__file__).parents[2]
CC: Final = shutil.which("cc") or ""
OPENSSL: Final = shutil.which("openssl") or ""
MISSING: Final = (
    "no C compiler (gcc)" if not CC else "no OpenSSL headers (libssl-dev)" if not has_openssl_headers(CC) else
    "no openssl command" if not OPENSSL else ""
)  # fmt: skip
