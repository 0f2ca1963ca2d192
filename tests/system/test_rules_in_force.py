"""Rules in a real relay: what is allowed goes by, what is not is answered in words, and each is logged with its place."""

import zlib
from pathlib import Path

import bson
from exchanges import ID, call
from halibut_bytes import deflated, frame, guid, reference, request
from scripted import NEXT, PROCEED
from system import identify, site

RELAY = {"contact": "the DMZ team"}
ALLOW = [{"from": "127.0.0.0/8", "services": ["scripts"]}, {"from": "10.0.0.0/8"}]
STREAM = guid(7)
UPLOAD = deflated(request(("/f", reference(STREAM, 4, typed=True)), service="IFileTransferService", method="UploadFile"))


def test_calls_under_rules(tmp_path: Path) -> None:
    with site(tmp_path, relay=RELAY, defaults={"allow": ALLOW}) as here:
        machine = here.unused()
        caller, tentacle = machine.ready()
        call(caller, tentacle)
        machine.turn(caller, tentacle)
        caller.send(UPLOAD, frame(STREAM, b"body"))
        message = bson.decode(zlib.decompress(caller.receive(), -zlib.MAX_WBITS))["Message"]
        assert message["id"] == ID
        assert message["error"]["message"] == (
            "The relay test did not pass this call on to the machine web00: sending files to it is not allowed here. Nothing "
            "has run. Ask the DMZ team."
        )
        tentacle.expect_fin()
        caller.send(NEXT)
        again = machine.accept()
        identify(again)
        caller.expect(PROCEED)
        call(caller, again)
        machine.expect_outcomes("ok", "denied", "ok")
        (line,) = [line for line in machine.calls(3) if line["outcome"] == "denied"]
        assert (line["service"], line["method"], line["request_bytes"]) == ("IFileTransferService", "UploadFile", 0)
        assert "/relay.yaml:" in line["detail"]
        (said,) = here.relay.log.wait(event="call failed", outcome="denied")
        assert said["detail"] == line["detail"]
