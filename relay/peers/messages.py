"""Requests and responses: their members, order and types exactly as recorded (wire.md 4.2 to 4.5)."""

import re
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from bson.binary import UUID_SUBTYPE, Binary

from relay.halibut.lines import REQUEST_TYPE, RESPONSE_TYPE
from relay.peers.documents import TYPE, Reference, find_references, guid, with_references
from relay.peers.errors import PeerError
from relay.peers.streams import DataStream

_NONE = type(None)
_REQUEST = {
    TYPE: (str,),
    "id": (str,),
    "activityId": (Binary,),
    "endpoint": (dict,),
    "service": (str,),
    "method": (str,),
    "params": (list,),
}
# Members that came or went with a version are optional; the order is one for all versions (wire.md 4.4).
_ENDPOINT = {
    "PollingRequestQueueTimeout": (str,),
    "PollingRequestMaximumMessageProcessingTimeout": (str,),
    "RetryListeningSleepInterval": (str,),
    "RetryCountLimit": (int,),
    "ConnectionErrorRetryTimeout": (str,),
    "TcpClientConnectTimeout": (str,),
    "BaseUri": (str,),
    "RemoteThumbprint": (str,),
    "Proxy": (_NONE, dict),
    "ForceResolveHost": (_NONE, str),
    "IsWebSocketEndpoint": (bool,),
}
_ENDPOINT_REQUIRED = {"BaseUri", "RemoteThumbprint"}
_PROXY = {"Host": (str,), "Port": (int,), "UserName": (_NONE, str), "Password": (_NONE, str), "Type": (int,)}
# result takes any value.
_RESPONSE = {TYPE: (str,), "id": (str,), "error": (_NONE, dict), "result": ()}
_ERROR = {"message": (str,), "details": (str,), "HalibutErrorType": (_NONE, str)}
_ERROR_REQUIRED = {"message", "details"}
_ID = re.compile(r"[^:\s]+::[^:\s]+\[[0-9]+\] / ([0-9a-f-]{36})")


@dataclass(frozen=True, slots=True)
class Request:
    """One call. params hold DataStreams where it is ours, and what the sinks made of them where it was received."""

    id: str
    activity_id: uuid.UUID
    endpoint: dict[str, object] = field(repr=False)
    service: str
    method: str
    params: list[object] = field(repr=False)

    @classmethod
    def new(cls, number: int, endpoint: dict[str, object], service: str, method: str, params: list[object]) -> "Request":
        """A request as head writes it; number counts the calls of one proxy object."""
        activity = uuid.uuid4()
        return cls(f"{service}::{method}Async[{number}] / {activity}", activity, endpoint, service, method, params)

    def document(self, streams: list[DataStream]) -> dict[str, object]:
        """The BSON root; the message's streams are added to streams, in order."""
        params = [with_references(param, streams, typed=True) for param in self.params]
        message = {
            TYPE: REQUEST_TYPE,
            "id": self.id,
            "activityId": guid(self.activity_id),
            "endpoint": self.endpoint,
            "service": self.service,
            "method": self.method,
            "params": params,
        }
        return {"Message": message}


@dataclass(frozen=True, slots=True)
class ErrorReply:
    """The error of a response. halibut_error_type is written always, as head does, and None where it was absent."""

    message: str
    details: str
    halibut_error_type: str | None = None


@dataclass(frozen=True, slots=True)
class Response:
    """The reply to the request of that id: a result, or an error."""

    id: str
    result: object = field(default=None, repr=False)
    error: ErrorReply | None = None

    def document(self, streams: list[DataStream]) -> dict[str, object]:
        """The BSON root; the message's streams are added to streams, in order."""
        error = None
        if self.error is not None:
            error = {
                "message": self.error.message,
                "details": self.error.details,
                "HalibutErrorType": self.error.halibut_error_type,
            }
        result = with_references(self.result, streams, typed=True)
        return {"Message": {TYPE: RESPONSE_TYPE, "id": self.id, "error": error, "result": result}}


def endpoint(base_uri: str, thumbprint: str) -> dict[str, object]:
    """The caller's view of the destination, as head writes it (wire.md 4.4)."""
    return {
        "PollingRequestQueueTimeout": "00:02:00",
        "RetryListeningSleepInterval": "00:00:01",
        "RetryCountLimit": 5,
        "ConnectionErrorRetryTimeout": "00:05:00",
        "TcpClientConnectTimeout": "00:01:00",
        "BaseUri": base_uri,
        "RemoteThumbprint": thumbprint,
        "Proxy": None,
        "ForceResolveHost": None,
        "IsWebSocketEndpoint": False,
    }


def read(root: dict[str, object]) -> tuple[Request | Response | None, list[Reference]]:
    """The message of a decoded root, None for a null message, and its data stream references.

    Raises PeerError for any member, order or type that wire.md 4.2 to 4.5 does not have.
    """
    if list(root) != ["Message"]:
        raise PeerError(f"a root with the members {list(root)}", "4.2")
    message = root["Message"]
    if message is None:
        return None, []
    if not isinstance(message, dict):
        raise PeerError("the message is no document", "4.2")
    if message.get(TYPE) == REQUEST_TYPE:
        return _request(message)
    if message.get(TYPE) == RESPONSE_TYPE:
        return _response(message)
    raise PeerError(f"a message of the type {message.get(TYPE)!r}", "4.4")


def settled(content: Request | Response | None, root: dict[str, object]) -> Request | Response | None:
    """The message again, once its root's references have been replaced: a result may itself be one."""
    message = root["Message"]
    if isinstance(content, Response) and isinstance(message, dict):
        return replace(content, result=message["result"])
    return content


def _request(message: dict[str, object]) -> tuple[Request, list[Reference]]:
    _check("request", "4.4", message, _REQUEST)
    activity, where, params = message["activityId"], message["endpoint"], message["params"]
    assert isinstance(activity, Binary)
    assert isinstance(where, dict)
    assert isinstance(params, list)
    if activity.subtype != UUID_SUBTYPE or len(activity) != 16:
        raise PeerError("activityId is no GUID of subtype 4", "4.4", bytes(activity))
    activity_id = uuid.UUID(bytes_le=bytes(activity))
    match = _ID.fullmatch(str(message["id"]))
    if match is None or match[1] != str(activity_id):
        raise PeerError(f"the id {message['id']!r} does not end in the activity's GUID {activity_id}", "4.4")
    _check("endpoint", "4.4", where, _ENDPOINT, _ENDPOINT_REQUIRED)
    proxy = where.get("Proxy")
    if isinstance(proxy, dict):
        _check("proxy", "4.4", proxy, _PROXY)
    references = _references(message, "params")
    if any(reference.holder is params and not reference.typed for reference in references):
        raise PeerError("a data stream in params without its $type", "5.1")
    texts = str(message["id"]), str(message["service"]), str(message["method"])
    return Request(texts[0], activity_id, where, texts[1], texts[2], params), references


def _response(message: dict[str, object]) -> tuple[Response, list[Reference]]:
    _check("response", "4.5", message, _RESPONSE)
    references = _references(message, "result")
    id_, error, result = str(message["id"]), message["error"], message["result"]
    if any(reference.holder is message and not reference.typed for reference in references):
        raise PeerError("a data stream as result without its $type", "5.1")
    if error is None:
        return Response(id_, result), references
    assert isinstance(error, dict)
    _check("error", "4.5", error, _ERROR, _ERROR_REQUIRED)
    if result is not None:
        raise PeerError("a response with both error and result", "4.5")
    kind = error.get("HalibutErrorType")
    return Response(id_, None, ErrorReply(str(error["message"]), str(error["details"]), kind and str(kind))), references


def _references(message: dict[str, object], slot: str) -> list[Reference]:
    for name in message:
        if name != slot and any(find_references(message, name)):
            raise PeerError(f"a data stream reference under {name!r}", "5.5")
    references = list(find_references(message, slot))
    if len({reference.id for reference in references}) != len(references):
        raise PeerError("one data stream twice in a message", "5.4")
    return references


def _check(
    what: str,
    rule: str,
    document: dict[str, object],
    members: Mapping[str, tuple[type, ...]],
    required: set[str] | None = None,
) -> None:
    """The document has these members, all or at least the required ones, in this order and of these types; no types: any."""
    names = list(document)
    expected = [name for name in members if name in document]
    if names != expected or not (members.keys() if required is None else required) <= set(names):
        raise PeerError(f"a {what} with the members {names}, not {list(members)}", rule)
    for name, types in members.items():
        # type() and not isinstance: an int32 is an int, an int64 and a bool are not.
        if name in document and types and type(document[name]) not in types:
            raise PeerError(f"the {what}'s {name} is a {type(document[name]).__name__}", rule)
