"""TLS and SASL: which settings fit together, and how their secrets are had."""

from __future__ import annotations

import base64
import binascii
import json
import os
import socket
import ssl
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final, NamedTuple

from sabot_ray.errors import ConfigError
from sabot_ray.types import Secret

PROTOCOLS: Final = ("PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL")
MECHANISMS: Final = ("PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512", "OAUTHBEARER")

#: librdkafka's settings that load or run something, or make the client read files and addresses
#: that nobody would expect from a setting.
UNSAFE: Final[dict[str, str]] = {
    "plugin.library.paths": "it loads code",
    "ssl.engine.location": "it loads code",
    "ssl.engine.id": "it loads code",
    "ssl.providers": "it loads code",
    "sasl.kerberos.kinit.cmd": "it runs a command",
    "sasl.kerberos.keytab": "it reads a file",
    "sasl.oauthbearer.token.endpoint.url": "it connects to an address",
    "sasl.oauthbearer.assertion.file": "it reads a file",
    "sasl.oauthbearer.assertion.private.key.file": "it reads a file",
    "sasl.oauthbearer.assertion.jwt.template.file": "it reads a file",
    "https.ca.location": "it reads a file",
}

#: What must not be given together.
_EXCLUSIVE: Final = (
    ("ssl.ca.location", "ssl.ca.pem"),
    ("ssl.certificate.location", "ssl.certificate.pem"),
    ("ssl.key.location", "ssl.key.pem"),
)
_HANDSHAKE_TIMEOUT_S: Final = 2.0
_TLS_PREFIXES: Final = ("ssl.", "enable.ssl.")


class Token(NamedTuple):
    """A bearer token.

    Attributes:
        text: The token, mostly a JWT.
        expires_at_s: When it expires, in seconds since 1970.
    """

    text: str
    expires_at_s: float

    def __repr__(self) -> str:
        return f"Token('***', expires_at_s={self.expires_at_s:g})"


def check_security(settings: Mapping[str, Any]) -> None:
    """Check that the TLS and SASL settings fit together.

    Args:
        settings: All settings, by Kafka's names, each of them checked by itself.

    Raises:
        ConfigError: Something is missing, contradicts itself, or would send secrets in clear.
    """
    protocol = settings.get("security.protocol", "PLAINTEXT")
    for one, other in _EXCLUSIVE:
        if one in settings and other in settings:
            raise ConfigError(f"settings '{one}' and '{other}' say the same; give one of them")
    if not protocol.endswith("SSL"):
        _refuse(settings, _TLS_PREFIXES, f"security_protocol='{protocol}' has no TLS", "SSL")
    if not protocol.startswith("SASL"):
        _refuse(settings, ("sasl.",), f"security_protocol='{protocol}' has no SASL", "SASL_SSL")
    else:
        _check_sasl(settings, protocol)
    has_certificate = not {"ssl.certificate.location", "ssl.certificate.pem"}.isdisjoint(settings)
    has_key = not {"ssl.key.location", "ssl.key.pem"}.isdisjoint(settings)
    if has_certificate != has_key:
        given, missing = ("certificate", "key") if has_certificate else ("key", "certificate")
        raise ConfigError(
            f"setting 'ssl.{given}': a client's certificate needs its key and the other way round; "
            f"pass ssl_{missing}_location or ssl_{missing}_pem, too"
        )


def _refuse(
    settings: Mapping[str, Any], prefixes: tuple[str, ...], reason: str, remedy: str
) -> None:
    for name in settings:
        if name.startswith(prefixes):
            raise ConfigError(f"setting '{name}': {reason}; pass security_protocol='{remedy}'")


def _check_sasl(settings: Mapping[str, Any], protocol: str) -> None:
    mechanism = settings.get("sasl.mechanism")
    if mechanism is None:
        raise ConfigError(
            f"security_protocol='{protocol}' needs sasl_mechanism: one of "
            f"{', '.join(map(repr, MECHANISMS))}"
        )
    if protocol == "SASL_PLAINTEXT" and not settings.get("allow.plaintext.sasl"):
        raise ConfigError(
            f"security_protocol='SASL_PLAINTEXT' lets everybody on the way read the {mechanism} "
            "exchange; use SASL_SSL, or pass allow_plaintext_sasl=True"
        )
    if mechanism != "OAUTHBEARER":
        needed: tuple[str, ...] = ("sasl.username", "sasl.password")
    elif settings.get("sasl.oauthbearer.method") == "oidc":
        needed = (
            "sasl.oauthbearer.client.id",
            "sasl.oauthbearer.client.secret",
            "sasl.oauthbearer.token.endpoint.url",
        )
    else:
        needed = ("sasl.oauthbearer.token",)
    for name in needed:
        if name not in settings:
            raise ConfigError(f"sasl_mechanism='{mechanism}' needs {name.replace('.', '_')}")


def reveal(name: str, value: Any) -> Any:
    """Return the text of a secret, and anything else as it is.

    Raises:
        ConfigError: The secret cannot be had here, is empty, or is no text. What a function raised
            is told by its type only: its text may hold anything.
    """
    if not isinstance(value, Secret):
        return value
    try:
        found = value.resolve()
    except (LookupError, OSError, UnicodeDecodeError) as error:
        where = f"setting '{name}' on node '{os.uname().nodename}'"
        raise ConfigError(f"{where}: {_reason(value, error)}") from None
    except Exception as error:  # noqa: BLE001 - a user's function may raise anything
        raise ConfigError(f"setting '{name}': {_reason(value, error)}") from None
    if name != "sasl.oauthbearer.token" and not isinstance(found, str):
        raise ConfigError(f"setting '{name}': expected str, found {type(found).__name__}")
    if not found:
        raise ConfigError(f"setting '{name}': {value!r} is empty")
    return found


def _reason(secret: Secret, error: Exception) -> str:
    if repr(secret) == "Secret(<function>)" or isinstance(error, UnicodeDecodeError):
        return f"{secret!r} raised {type(error).__name__}"
    return str(error.args[0] if isinstance(error, LookupError) else error)


def reveal_token(value: Any) -> Token:
    """Return the bearer token that a secret stands for, and when it expires.

    Raises:
        ConfigError: It cannot be had here, or does not tell when it expires.
    """
    name = "sasl.oauthbearer.token"
    found = reveal(name, value)
    if isinstance(found, str):
        return Token(found, _expiry(found))
    match found:
        case (str(text), int() | float() as expires_at_s) if text:
            return Token(text, float(expires_at_s))
    raise ConfigError(
        f"setting '{name}': expected a token, or a token and when it expires in seconds since "
        f"1970, found {type(found).__name__}"
    )


def _expiry(token: str) -> float:
    """Read the ``exp`` claim of a JWT (RFC 7519), which only the broker verifies."""
    try:
        claims = token.split(".")[1]
        padding = "=" * (-len(claims) % 4)
        return float(json.loads(base64.urlsafe_b64decode(claims + padding))["exp"])
    except (IndexError, KeyError, TypeError, ValueError, binascii.Error):
        raise ConfigError(
            "setting 'sasl.oauthbearer.token': the token is no JWT with an 'exp' claim; return the "
            "token and when it expires, in seconds since 1970"
        ) from None


def ssl_context(settings: Mapping[str, Any]) -> ssl.SSLContext:
    """Build the TLS settings for a client that uses Python's own TLS.

    Args:
        settings: The settings, by Kafka's names, with their secrets resolved.

    Raises:
        ConfigError: A file cannot be read, or holds nothing of the kind.
    """
    what = "TLS: ssl.ca"
    try:
        location = settings.get("ssl.ca.location")
        is_directory = location is not None and Path(location).is_dir()
        context = ssl.create_default_context(
            cafile=None if is_directory else location,
            capath=location if is_directory else None,
            cadata=settings.get("ssl.ca.pem"),
        )
        what = "TLS: ssl.certificate and ssl.key"
        _load_certificate(context, settings)
    except (OSError, ValueError) as error:
        # ssl.SSLError is an OSError.
        raise ConfigError(f"{what}: {error}") from None
    verifies = settings.get("enable.ssl.certificate.verification", True)
    checks_name = settings.get("ssl.endpoint.identification.algorithm", "https") == "https"
    context.check_hostname = verifies and checks_name
    if not verifies:
        context.verify_mode = ssl.CERT_NONE
    return context


def certificate_error(context: ssl.SSLContext, host: str, port: int) -> str | None:
    """Say what is wrong with a server's certificate; None if nothing is, or it does not answer."""
    try:
        with (
            socket.create_connection((host, port), timeout=_HANDSHAKE_TIMEOUT_S) as connection,
            context.wrap_socket(connection, server_hostname=host),
        ):
            return None
    except ssl.SSLCertVerificationError as error:
        return error.verify_message
    except OSError:
        return None


def _load_certificate(context: ssl.SSLContext, settings: Mapping[str, Any]) -> None:
    with ExitStack() as stack:
        certificate = _as_file(settings, "ssl.certificate", stack)
        if certificate is None:
            return
        key = _as_file(settings, "ssl.key", stack)
        # Without a password OpenSSL would ask for one on the terminal.
        context.load_cert_chain(certificate, key, settings.get("ssl.key.password", ""))


def _as_file(settings: Mapping[str, Any], name: str, stack: ExitStack) -> str | None:
    """Return where a certificate or a key is; a text is put into a file that is in memory only."""
    location: str | None = settings.get(f"{name}.location")
    text = settings.get(f"{name}.pem")
    if text is None:
        return location
    # Python's ssl module reads both from files only.
    descriptor = os.memfd_create(name, os.MFD_CLOEXEC)
    memory = stack.enter_context(open(descriptor, "wb", buffering=0))  # noqa: PTH123, SIM115
    memory.write(text.encode())
    return f"/proc/self/fd/{descriptor}"
