"""The process behind a puppet (see puppet.py). Only the standard library, so that it is there at once.

Arguments: the descriptor of its socket, listens or dials, and the file with the certificate and key. Lines on standard input,
hex digits, are sent, a record each; each record that comes is a line on standard output. "shaken" is said first, and "fin" or
"rst" last.
"""

import contextlib
import os
import select
import socket
import ssl
import sys


def main(descriptor: str, side: str, file: str) -> None:
    listens = side == "listens"
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER if listens else ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.load_cert_chain(file)
    raw = socket.socket(fileno=int(descriptor))
    raw.settimeout(20)
    wire = raw.dup()  # an end is seen here: TLS takes the one for the other
    link = context.wrap_socket(raw, server_side=listens)
    say("shaken")
    asked = b""
    while True:
        ready, _, _ = select.select([0, link], [], [])
        if 0 in ready:
            data = os.read(0, 1 << 20)
            if not data:
                return None
            *lines, asked = (asked + data).split(b"\n")
            link.setblocking(True)
            for line in lines:
                link.sendall(bytes.fromhex(line.decode("ascii")))
        if link in ready:
            link.setblocking(False)
            try:
                over = not wire.recv(1, socket.MSG_PEEK)
            except ConnectionResetError:
                return say("rst")
            if over:
                return say("fin")
            with contextlib.suppress(ssl.SSLWantReadError):
                record = link.recv(1 << 14)  # only one, so that no end is read behind it
                wire.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)
                say(record.hex())


def say(word: str) -> None:
    sys.stdout.write(word + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main(*sys.argv[1:])
