"""The words and networks of an allow."""

import pytest

from routing.mistakes import WrongValueError
from routing.rule_values import contact, network, word


@pytest.mark.parametrize(
    ("text", "is_"),
    [
        ("scripts", "scripts"),
        ("ALL", "all"),
        ("iscriptservicev2", "IScriptServiceV2"),
        ("IScriptServiceV2.startscript", "IScriptServiceV2.StartScript"),
        ("IFileTransferService.DownloadFileAsync", "IFileTransferService.DownloadFile"),
        ("IScriptServiceV3Alpha", "IScriptServiceV3Alpha"),  # another version of one that is known
        ("IPatchService.Apply", "IPatchService.Apply"),  # newer than this relay
    ],
)
def test_words(text: str, is_: str) -> None:
    assert word(text) == is_


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("script", "Did you mean scripts?"),
        ("ScriptService", "Did you mean scripts?"),
        ("web", "Write capabilities, scripts, files, all, a service"),
        ("IScriptSrvice", "Did you mean IScriptService?"),
        ("IFileTransfersService.UploadFile", "Did you mean IFileTransferService?"),
        ("IScriptServiceV2.RunScript", "Write one of StartScript, GetStatus, CancelScript, CompleteScript."),
        ("IScriptServiceV2.", "Write capabilities"),
        ("I\u017fcriptService", "Write capabilities"),
        ("*", "Write capabilities"),
    ],
)
def test_no_words(text: str, said: str) -> None:
    with pytest.raises(WrongValueError, match=said.replace("?", r"\?")):
        word(text)


def test_networks() -> None:
    assert str(network("10.20.0.0/16")) == "10.20.0.0/16"
    assert str(network("10.20.0.1")) == "10.20.0.1/32"
    assert str(network("2001:DB8::/32")) == "2001:db8::/32"
    assert str(network("10.20.0.0/255.255.0.0")) == "10.20.0.0/16"
    assert str(network("::/0")) == "::/0"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("10.20.0.1/16", "Write 10.20.0.0/16 for the network"),
        ("::ffff:10.0.0.0/104", "Write 10.0.0.0/8: "),
        ("::ffff:10.0.0.1", "Write 10.0.0.1/32: "),
        ("10.0.0.0/33", "Write an IP address or a network"),
        ("web01", "Write an IP address or a network"),
        ("010.0.0.1", "Write an IP address or a network"),
    ],
)
def test_no_networks(text: str, said: str) -> None:
    with pytest.raises(WrongValueError, match=said):
        network(text)


def test_whom_to_ask() -> None:
    assert contact("das DMZ-Team, Tür 4") == "das DMZ-Team, Tür 4"


@pytest.mark.parametrize("text", ["", "x" * 201, "two\nlines", "a\u2028b", "IScriptServiceV2", "not registered? NOTREGISTERED"])
def test_what_octopus_would_take_for_something_else(text: str) -> None:
    with pytest.raises(WrongValueError):
        contact(text)
