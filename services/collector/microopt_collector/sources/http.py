"""What aiohttp reports, in words for an operator."""

import os

import aiohttp


def why(error: BaseException) -> str:
    """Return why a connection failed, without the library's own words where the system has better ones."""
    if isinstance(error, aiohttp.ClientConnectorCertificateError):
        return f"its certificate is not accepted: {error.certificate_error}; look at tls_ca"
    if isinstance(error, aiohttp.ClientConnectorError) and error.os_error.errno is not None:
        if error.os_error.errno > 0:
            return os.strerror(error.os_error.errno)
        return error.os_error.strerror or str(error)
    return str(error) or type(error).__name__
