"""IFileTransferService: files below a Tentacle's home (wire.md 9.1)."""

from pathlib import Path

from relay.peers.contracts import FILES, ContractError, UploadResult, upload_result_document
from relay.peers.errors import ServiceError
from relay.peers.services import Service
from relay.peers.streams import DataStream, ReceivedStream


def file_transfer(home: Path) -> Service:
    """The service. Unlike a real Tentacle's it refuses every path that leaves home."""
    transfer = _FileTransfer(home.resolve())
    dotnet_type = "Octopus.Tentacle.Core.Services.FileTransfer.FileTransferService"
    return Service(FILES, dotnet_type, {"UploadFile": transfer.upload, "DownloadFile": transfer.download})


def inside(folder: Path, name: str) -> Path:
    """The path that name means in folder, backslashes as on Windows. Raises ServiceError where it leaves the folder."""
    if "\0" in name:
        raise ServiceError("System.ArgumentException", "Null character in path.")
    path = (folder / name.replace("\\", "/")).resolve()
    if path == folder or not path.is_relative_to(folder):
        raise ServiceError("System.UnauthorizedAccessException", f"Access to the path '{name}' is denied.")
    return path


class _FileTransfer:
    def __init__(self, home: Path) -> None:
        self._home = home

    async def upload(self, remote_path: object, upload: object) -> object:
        if not isinstance(remote_path, str) or not isinstance(upload, ReceivedStream):
            raise ContractError("UploadFile takes a path and a data stream")
        path = inside(self._home, remote_path)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            upload.move_to(path)
        except OSError as error:
            raise ServiceError("System.IO.IOException", f"{error.strerror} : '{remote_path}'") from error
        return upload_result_document(UploadResult(str(path), upload.sha256, upload.length))

    async def download(self, remote_path: object) -> object:
        if not isinstance(remote_path, str):
            raise ContractError("DownloadFile takes a path")
        path = inside(self._home, remote_path)
        if not path.is_file():
            raise ServiceError("System.IO.FileNotFoundException", f"Could not find {remote_path}")
        try:
            return DataStream.of_file(path)
        except OSError as error:
            raise ServiceError("System.IO.IOException", f"{error.strerror} : '{remote_path}'") from error
