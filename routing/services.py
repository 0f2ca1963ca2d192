"""The services of a Tentacle and their methods, and how a name in a request is compared with them (wire.md 4.4, 9.1)."""

import re
from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Final

ALL: Final = "all"
EVERY_METHOD: Final = "*"
_SCRIPT: Final = ("StartScript", "GetStatus", "CancelScript", "CompleteScript")
_FILE_SERVICES: Final = {"IFileTransferService": ("UploadFile", "DownloadFile")}
_CAPABILITY_SERVICES: Final = {"ICapabilitiesServiceV2": ("GetCapabilities",)}
_SCRIPT_SERVICES: Final = {"IScriptService": _SCRIPT, "IScriptServiceV2": _SCRIPT, "IKubernetesScriptServiceV1": _SCRIPT}

SETS: Final[Mapping[str, Mapping[str, tuple[str, ...]]]] = MappingProxyType(
    {"capabilities": _CAPABILITY_SERVICES, "scripts": _SCRIPT_SERVICES, "files": _FILE_SERVICES}
)
"""The named sets: services, and the methods of each. `all` is not among them: it is every service, known or not."""
SERVICES: Final[Mapping[str, tuple[str, ...]]] = MappingProxyType(
    {service: methods for services in SETS.values() for service, methods in services.items()}
)

Call = tuple[str, str]
"""A service and a method as they are compared."""

_ASYNC: Final = "async"
_VERSION: Final = re.compile(r"v[0-9]+(?:alpha|beta)?$", re.IGNORECASE)


def compared(service: str, method: str) -> Call | None:
    """The two as they are compared: without case, and a method with or without its ``Async``.

    Receivers take a method in any case, some a service too. None for what is not ASCII: letters that only some readers take
    for others are nobody's name.
    """
    if not (service.isascii() and method.isascii()):
        return None
    method = method.lower()
    if len(method) > len(_ASYNC):
        method = method.removesuffix(_ASYNC)
    return service.lower(), method


def calls(word: str) -> Iterator[Call]:
    """The calls that a word of an `allow` means: a set, ``IService`` or ``IService.Method``. `all` is not asked for."""
    for service, methods in SETS.get(word, {}).items():
        for method in methods:
            yield service.lower(), method.lower()
    if word not in SETS:
        service, _, method = word.partition(".")
        found = compared(service, method or EVERY_METHOD)
        assert found, "words are ASCII"
        yield found


def set_of(service: str, method: str) -> str | None:
    """The named set that a request's service and method are in; None for others."""
    return _SET_OF.get(compared(service, method))


_SET_OF: Final[Mapping[Call | None, str]] = {call: word for word in SETS for call in calls(word)}


def without_version(service: str) -> str:
    """The name that the versions of a service have in common, to be compared: ``iscriptservice`` of IScriptServiceV2."""
    return _VERSION.sub("", service).lower()
