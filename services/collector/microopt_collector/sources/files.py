"""Files that settings name: secrets and certificates, read when a source starts and never shown."""

import ssl
from pathlib import Path

from microopt.errors import ConfigError


def secret(path: str, key: str) -> str:
    """Return the first line of the file that setting `key` names.

    Raises:
        ConfigError: it cannot be read or is empty.
    """
    try:
        lines = Path(path).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{key} {path!r}: cannot be read: {getattr(error, 'strerror', 'not UTF-8')}") from None
    if not lines or not lines[0]:
        raise ConfigError(f"{key} {path!r}: the first line is empty; it should be the secret")
    return lines[0]


def tls_context(ca: str | None, cert: str | None = None, key: str | None = None) -> ssl.SSLContext:
    """Return a context that checks the server by `ca`, or by the system's CAs, and shows `cert` if it is given.

    Raises:
        ConfigError: a file cannot be read, or is no certificate or key.
    """
    try:
        context = ssl.create_default_context(cafile=ca)
    except (OSError, ssl.SSLError) as error:
        raise ConfigError(f"tls_ca {ca!r}: {_why(error)}") from error
    if cert is not None:
        try:
            context.load_cert_chain(cert, key)
        except (OSError, ssl.SSLError) as error:
            raise ConfigError(f"tls_cert {cert!r}, tls_key {key!r}: {_why(error)}") from error
    return context


def _why(error: OSError) -> str:
    return error.strerror or str(error) or type(error).__name__
