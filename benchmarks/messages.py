"""Makes the two envelopes of an UploadFile exchange for a data stream of a given length.

An envelope is BSON, compressed with raw deflate. The names, types and order of the fields are those that Halibut writes
(messages/request.bin and response.bin, a GetCapabilities exchange, are as recorded from a real Octopus and Tentacle). The
envelope announces the data stream's id and length; hload must send the same ones: --stream-id and --stream.
"""

import uuid
import zlib
from pathlib import Path
from typing import Final

import bson
from bson.binary import UUID_SUBTYPE, Binary
from bson.int64 import Int64

MESSAGES: Final = Path(__file__).parent / "messages"
REQUEST: Final = MESSAGES / "request.bin"
RESPONSE: Final = MESSAGES / "response.bin"
_CALL: Final = uuid.UUID("b7024a65-9139-4a66-8a1b-1973534ecbe2")
_STREAM: Final = uuid.UUID("ad563303-3c02-42f1-8c88-aeba58c54ee8")
STREAM_ID: Final = _STREAM.bytes_le  # as .NET writes a Guid, in the envelope and before the stream's bytes


def _guid(value: uuid.UUID) -> Binary:
    """.NET's order of bytes under the subtype of the standard one."""
    return Binary(value.bytes_le, UUID_SUBTYPE)


def _envelope(message: dict[str, object]) -> bytes:
    deflate = zlib.compressobj(level=6, wbits=-zlib.MAX_WBITS)
    return deflate.compress(bson.encode({"Message": message})) + deflate.flush()


def upload_request(length: int) -> bytes:
    """Of a file of so many bytes."""
    return _envelope(
        {
            "$type": "Halibut.Transport.Protocol.RequestMessage, Halibut",
            "id": f"IFileTransferService::UploadFileAsync[1] / {_CALL}",
            "activityId": _guid(_CALL),
            "endpoint": {
                "PollingRequestQueueTimeout": "00:02:00",
                "RetryListeningSleepInterval": "00:00:01",
                "RetryCountLimit": 5,
                "ConnectionErrorRetryTimeout": "00:05:00",
                "TcpClientConnectTimeout": "00:01:00",
                "BaseUri": "https://localhost:10933/",
                "RemoteThumbprint": "F69040D4D55F46B30A3719B816AB234433049F9D",
                "Proxy": None,
                "ForceResolveHost": None,
                "IsWebSocketEndpoint": False,
            },
            "service": "IFileTransferService",
            "method": "UploadFile",
            "params": [
                f"package-{length}.zip",
                {"$type": "Halibut.DataStream, Halibut", "id": _guid(_STREAM), "length": Int64(length)},
            ],
        }
    )


def upload_response(length: int) -> bytes:
    """The Tentacle's word that it has it."""
    return _envelope(
        {
            "$type": "Halibut.Transport.Protocol.ResponseMessage, Halibut",
            "id": f"IFileTransferService::UploadFileAsync[1] / {_CALL}",
            "error": None,
            "result": {
                "$type": "Octopus.Tentacle.Contracts.UploadResult, Octopus.Tentacle.Contracts",
                "FullPath": f"/etc/octopus/Files/package-{length}.zip",
                "Hash": "7bb056983fdc189d7b76a79b2b191c3328cada7b6aaaf9b4d97ad43114b8f51b",
                "Length": Int64(length),
            },
        }
    )


def write_upload(length: int, folder: Path) -> tuple[Path, Path]:
    """The two, as files of this folder."""
    request, response = folder / f"upload-{length}-request.bin", folder / f"upload-{length}-response.bin"
    request.write_bytes(upload_request(length))
    response.write_bytes(upload_response(length))
    return request, response
