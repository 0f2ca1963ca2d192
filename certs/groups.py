"""The groups that a dialler offers: the hybrid with ML-KEM too, but no key share of it before the listener asks for one.

OpenSSL sends that share unasked from 3.5 on. It makes a ClientHello of 1.5 KB, two packets, which some firewalls and old
listeners drop (openssl issue 27557, https://tldr.fail), and its key stays in memory as long as the connection: 8.5 KB of each.
A listener that wants the hybrid asks for it (HelloRetryRequest), and gets it one round trip later.
"""

from typing import Any, Final

from OpenSSL import SSL

_SHARES_UNASKED: Final = 0x30500000  # from this OpenSSL on, which is also the first that can read the list below
# OpenSSL's own, in its order; the asterisk marks the one whose share is sent, "?" one that this OpenSSL need not know.
_GROUPS: Final = (
    b"?X25519MLKEM768:?SecP256r1MLKEM768 / ?*X25519:?secp256r1 / ?X448:?secp384r1:?secp521r1 / ?ffdhe2048:?ffdhe3072"
)


def share_hybrids_only_if_asked(context: Any, version: int = SSL.OPENSSL_VERSION_NUMBER) -> bool:
    """Of what is dialled with this SSL.Context; whether that was so already, or is now.

    pyOpenSSL names no way. The one used here is its binding's, which may go: then OpenSSL's own groups stay, which work.
    """
    if version < _SHARES_UNASKED:
        return True
    try:
        library = vars(SSL)["_lib"]
        set_groups, forget_errors, handle = library.SSL_CTX_set1_curves_list, library.ERR_clear_error, context._context
    except (AttributeError, KeyError):
        return False
    taken: bool = set_groups(handle, _GROUPS) == 1
    if not taken:
        forget_errors()  # or the next error of any connection would be this one
    return taken
