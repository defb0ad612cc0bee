"""TLS towards a destination: verified always, with the authorities and the client certificate of the settings."""

from __future__ import annotations

import ssl


def client_context(
    authorities: str = "", certificate: str = "", key: str = "", verify_hostname: bool = True
) -> ssl.SSLContext:
    """Context of a client that verifies the other side (TLS 1.2 or later, PS3.15 annex B.9).

    Parameters
    ----------
    authorities : str
        PEM file of the trusted authorities; empty: those of the system.
    certificate, key : str
        PEM files of our own certificate chain and its private key, for servers that ask for one.
    verify_hostname : bool
        False: any name is accepted, as long as the certificate is trusted.

    Raises
    ------
    ValueError
        For a file that cannot be used; names what is in it, not where it lies.
    """
    try:
        context = ssl.create_default_context(cafile=authorities or None)
    except (OSError, ssl.SSLError):
        raise ValueError("the file of authorities cannot be read as PEM certificates") from None
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.check_hostname = verify_hostname
    if certificate:
        try:
            context.load_cert_chain(certificate, key or None, password=_refuse_password)
        except (OSError, ssl.SSLError, ValueError):
            raise ValueError(
                "our certificate and private key cannot be read, are encrypted, or do not belong together"
            ) from None
    return context


def failure(error: BaseException) -> str:
    """What went wrong in a handshake, in one line."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"TLS: the certificate is not trusted ({error.verify_message})"
    reason = (getattr(error, "reason", None) or "").lower().replace("_", " ")
    return f"TLS failed ({reason})" if reason else "TLS failed"


def _refuse_password() -> str:
    """OpenSSL would ask on the terminal."""
    raise ValueError
