"""What a measurement needs from the machine: programs, headers, certificates; and what it tells about it."""

import hashlib
import os
import platform
import re
import resource
import shutil
import ssl
import subprocess
from collections.abc import Container
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from benchmarks.trouble import TroubleError

_PACKAGES: Final = {
    "cc": "gcc and libc6-dev",
    "openssl": "openssl",
    "haproxy": "haproxy",
    "nginx": "nginx and libnginx-mod-stream",
}
_OPTIONAL: Final = ("haproxy", "nginx")
_SYSTEM_PATH: Final = os.environ.get("PATH", "") + ":/usr/sbin:/sbin"  # where Debian keeps haproxy and nginx
NAMES: Final = ("relay", "octopus", "tentacle")


@dataclass(frozen=True, slots=True)
class Tools:
    """paths: of the programs, by name. stream_module: the line that loads nginx's; empty where it is built in."""

    paths: dict[str, str]
    stream_module: str = ""


def output_of(*argv: str) -> str:
    """All that a command says; empty where there is no such command."""
    try:
        done = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    except OSError:
        return ""
    return done.stdout + done.stderr


def find_tools(without: Container[str]) -> Tools:
    """Raises TroubleError that names all that is missing."""
    paths: dict[str, str] = {}
    missing: list[str] = []
    module: str | None = ""
    for name, package in _PACKAGES.items():
        if name in without:
            continue
        path = shutil.which(name, path=_SYSTEM_PATH)
        if path:
            paths[name] = path
        else:
            way_out = f", or pass --without {name}" if name in _OPTIONAL else ""
            missing.append(f"{name} is missing: install {package}{way_out}")
    if "cc" in paths and not has_openssl_headers(paths["cc"]):
        missing.append("the OpenSSL headers are missing: install libssl-dev")
    if "nginx" in paths and (module := _nginx_stream_module(paths["nginx"])) is None:
        missing.append("nginx has no stream module: install libnginx-mod-stream, or pass --without nginx")
    if missing:
        raise TroubleError("\n".join(missing))
    return Tools(paths, module or "")


def has_openssl_headers(cc: str) -> bool:
    """Whether hload can be compiled."""
    source = "#include <openssl/ssl.h>\n"
    done = subprocess.run([cc, "-E", "-x", "c", "-"], input=source, text=True, capture_output=True, check=False)
    return done.returncode == 0


def _nginx_stream_module(nginx: str) -> str | None:
    """The line that loads it, "" where it is built in, or None where there is none."""
    built = output_of(nginx, "-V")
    if re.search(r"--with-stream(\s|$)", built):
        return ""
    folder = re.search(r"--modules-path=(\S+)", built)
    module = Path(folder[1] if folder else "/usr/lib/nginx/modules") / "ngx_stream_module.so"
    return f"load_module {module};" if module.exists() else None


def make_certificates(openssl: str, folder: Path) -> None:
    """NAME.key, NAME.crt and NAME.pem (both) of the relay, of Octopus and of the Tentacles: RSA 2048, as theirs are."""
    for name in NAMES:
        key, crt = folder / f"{name}.key", folder / f"{name}.crt"
        done = subprocess.run(
            [openssl, "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-sha256", "-days", "2", "-subj", f"/CN={name}.test",
             "-addext", f"subjectAltName=DNS:{name}.test", "-keyout", key, "-out", crt],
            stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False,
        )  # fmt: skip
        if done.returncode:
            raise TroubleError(f"openssl made no certificate:\n{done.stderr}")
        both = folder / f"{name}.pem"
        both.touch(0o600)
        both.write_text(key.read_text() + crt.read_text())


def thumbprint(crt: Path) -> str:
    """SHA-1, 40 upper-case digits."""
    return hashlib.sha1(ssl.PEM_cert_to_DER_cert(crt.read_text()), usedforsecurity=False).hexdigest().upper()


def raise_descriptor_limit() -> int:
    """To the hard one, for all that we start; that number."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard if hard >= 0 else 1 << 20


def versions(tools: Tools) -> dict[str, str]:
    """Of all that takes part, but the relays."""
    found = {
        "kernel": platform.release(),
        "python": platform.python_version(),
        "openssl": output_of(tools.paths["openssl"], "version").split()[1],
    }
    if "haproxy" in tools.paths:
        found["haproxy"] = output_of(tools.paths["haproxy"], "-v").split()[2]
    if "nginx" in tools.paths:
        found["nginx"] = output_of(tools.paths["nginx"], "-v").rpartition("/")[2].strip()
    return found


def machine() -> dict[str, str | int | float]:
    """CPUs, their model, and the load before we add ours."""
    model = re.search(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    return {
        "cpus": len(os.sched_getaffinity(0)),
        "model": model[1] if model else platform.machine(),
        "load": round(os.getloadavg()[0], 2),
    }
