from pathlib import Path

import pytest

from benchmarks import tools
from benchmarks.trouble import TroubleError


def test_all_that_is_missing_is_named_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tools.shutil, "which", lambda *_, **__: None)
    with pytest.raises(TroubleError) as raised:
        tools.find_tools([])
    assert str(raised.value).splitlines() == [
        "cc is missing: install gcc and libc6-dev",
        "openssl is missing: install openssl",
        "haproxy is missing: install haproxy, or pass --without haproxy",
        "nginx is missing: install nginx and libnginx-mod-stream, or pass --without nginx",
    ]
    with pytest.raises(TroubleError) as raised:
        tools.find_tools(["haproxy", "nginx", "cc"])
    assert str(raised.value) == "openssl is missing: install openssl"


@pytest.mark.parametrize(
    ("built", "line"),
    [
        ("configure arguments: --with-stream --with-http", ""),
        ("configure arguments: --with-stream=dynamic --modules-path={folder}", "load_module {folder}/ngx_stream_module.so;"),
        ("configure arguments: --with-stream=dynamic --modules-path=/no/such", None),
    ],
)
def test_nginx_has_streams_built_in_or_as_a_module(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, built: str, line: str | None
) -> None:
    (tmp_path / "ngx_stream_module.so").touch()
    monkeypatch.setattr(tools, "output_of", lambda *_: built.format(folder=tmp_path))
    assert tools._nginx_stream_module("nginx") == (line.format(folder=tmp_path) if line else line)


def test_what_a_command_says() -> None:
    assert tools.output_of("sh", "-c", "echo out; echo err >&2") == "out\nerr\n"
    assert tools.output_of("/no/such/command") == ""
