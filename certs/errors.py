"""What goes wrong with identities."""


class CertificateError(Exception):
    """A certificate, key or identity file cannot be used.

    Its text says which file or identity, what is wrong, and what to do. It never holds key bytes or a password.
    """


class OutOfReachError(CertificateError):
    """This process may not look at a file, and another may: it belongs to another user, or systemd hands it to another unit."""


class PasswordError(CertificateError):
    """A file is encrypted, and its password is missing or wrong."""
