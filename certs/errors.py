"""What goes wrong with identities."""


class CertificateError(Exception):
    """A certificate, key or identity file cannot be used.

    Its text says which file or identity, what is wrong, and what to do. It never holds key bytes or a password.
    """


class PasswordError(CertificateError):
    """A file is encrypted, and its password is missing or wrong."""
