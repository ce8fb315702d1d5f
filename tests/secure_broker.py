"""A broker with TLS, SASL and ACLs, and the certificates and tokens that its clients need."""

from __future__ import annotations

import base64
import contextlib
import json
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from confluent_kafka.admin import (
    AclBinding,
    AclBindingFilter,
    AclOperation,
    AclPermissionType,
    ResourcePatternType,
    ResourceType,
    ScramCredentialInfo,
    ScramMechanism,
    UserScramCredentialUpsertion,
)

from tests.servers import KafkaBroker, free_ports

_JAAS = "org.apache.kafka.common.security"
_VALIDATOR = f"{_JAAS}.oauthbearer.internals.unsecured.OAuthBearerUnsecuredValidatorCallbackHandler"
#: Listener -> its protocol. The first one is the tests' own: who comes by it may do everything.
_LISTENERS = {
    "INTERNAL": "PLAINTEXT",
    "TLS": "SSL",
    "EXPIRED": "SSL",
    "MISNAMED": "SSL",
    "MTLS": "SSL",
    "SASL": "SASL_SSL",
    "SCRAM": "SASL_SSL",
    "CLEAR": "SASL_PLAINTEXT",
}
#: Users of PLAIN, who are written into the broker's settings, with their passwords.
PLAIN_USERS = {"alice": "alice-pw", "bob": "bob-pw"}


class Certificates:
    """Authorities and certificates in a folder, made by openssl.

    Args:
        directory: Where the files go.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        directory.mkdir()
        for authority in ("ca", "other-ca"):
            self._openssl(
                "req -x509 -newkey rsa:2048 -nodes -days 30",
                f"-subj /CN={authority} -keyout {authority}.key -out {authority}.pem",
            )
        self._issue("server", "DNS:localhost,IP:127.0.0.1")
        self._issue("expired", "DNS:localhost,IP:127.0.0.1", days=-1)
        self._issue("misnamed", "DNS:elsewhere.example")
        self._issue("client", "DNS:client")
        self._issue("expired-client", "DNS:client", days=-1)
        self._issue("other-client", "DNS:client", authority="other-ca")
        self._openssl("pkcs8 -topk8 -in client.key -out locked.key -passout pass:locked-pw")

    def __getitem__(self, name: str) -> str:
        """The path of a file, for example ``"ca.pem"`` or ``"client.key"``."""
        return str(self._directory / name)

    def text(self, name: str) -> str:
        """The text of a file."""
        return (self._directory / name).read_text()

    def keystore(self, name: str) -> str:
        """The path of a file with a key and its certificates, as Kafka's PEM stores want it."""
        store = self._directory / f"{name}.store"
        store.write_text(self.text(f"{name}.key") + self.text(f"{name}.pem") + self.text("ca.pem"))
        return str(store)

    def _issue(self, name: str, names: str, *, authority: str = "ca", days: int = 30) -> None:
        self._openssl(
            f"req -newkey rsa:2048 -nodes -subj /CN={name} -keyout {name}.key -out {name}.csr"
        )
        extensions = self._directory / f"{name}.ext"
        extensions.write_text(f"subjectAltName={names}\n")
        self._openssl(
            f"x509 -req -in {name}.csr -CA {authority}.pem -CAkey {authority}.key -CAcreateserial",
            f"-days {days} -extfile {name}.ext -out {name}.pem",
        )

    def _openssl(self, *words: str) -> None:
        command = ["openssl", *" ".join(words).split()]
        subprocess.run(command, cwd=self._directory, check=True, capture_output=True)


class SecureBroker(KafkaBroker):
    """A `KafkaBroker` with a listener for each way to be secure, and ACLs.

    `bootstrap_servers` and `admin` are those of a listener without security, which may do
    everything. So may the users of the listeners with TLS alone, who have no name.

    Args:
        directory: Where its data, settings, certificates and log go.
    """

    def __init__(self, directory: Path) -> None:
        self.certificates = certificates = Certificates(directory / "certificates")
        ports = free_ports(len(_LISTENERS) + 1)
        self._ports = dict(zip(_LISTENERS, ports, strict=False))
        plain = "".join(f' user_{user}="{word}"' for user, word in PLAIN_USERS.items())
        settings = {
            "listeners": ",".join(
                [f"{name}://127.0.0.1:{port}" for name, port in self._ports.items()]
                + [f"CONTROLLER://127.0.0.1:{ports[-1]}"]
            ),
            "advertised.listeners": ",".join(
                f"{name}://{self.address(name)}" for name in _LISTENERS
            ),
            "listener.security.protocol.map": ",".join(
                f"{name}:{protocol}"
                for name, protocol in {**_LISTENERS, "CONTROLLER": "PLAINTEXT"}.items()
            ),
            "inter.broker.listener.name": "INTERNAL",
            "ssl.keystore.type": "PEM",
            "ssl.keystore.location": certificates.keystore("server"),
            "ssl.truststore.type": "PEM",
            "ssl.truststore.location": certificates["ca.pem"],
            "listener.name.mtls.ssl.client.auth": "required",
            "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
            "super.users": "User:ANONYMOUS",
            "allow.everyone.if.no.acl.found": "false",
        }
        for name in ("expired", "misnamed"):
            settings |= {
                f"listener.name.{name}.ssl.keystore.type": "PEM",
                f"listener.name.{name}.ssl.keystore.location": certificates.keystore(name),
            }
        for name, mechanisms in {
            "sasl": "PLAIN,SCRAM-SHA-256,SCRAM-SHA-512,OAUTHBEARER",
            "scram": "SCRAM-SHA-512",
            "clear": "PLAIN",
        }.items():
            prefix = f"listener.name.{name}"
            settings |= {
                f"{prefix}.sasl.enabled.mechanisms": mechanisms,
                f"{prefix}.plain.sasl.jaas.config": f"{_JAAS}.plain.PlainLoginModule required"
                f"{plain};",
                f"{prefix}.scram-sha-256.sasl.jaas.config": f"{_JAAS}.scram.ScramLoginModule "
                "required;",
                f"{prefix}.scram-sha-512.sasl.jaas.config": f"{_JAAS}.scram.ScramLoginModule "
                "required;",
                f"{prefix}.oauthbearer.sasl.jaas.config": f"{_JAAS}.oauthbearer."
                "OAuthBearerLoginModule required;",
                f"{prefix}.oauthbearer.sasl.server.callback.handler.class": _VALIDATOR,
            }
        super().__init__(directory, settings, ports=(ports[0], ports[-1]))

    def address(self, listener: str) -> str:
        """The address of a listener: of ``"TLS"``, ``"MTLS"``, ``"SASL"``, ``"SCRAM"``..."""
        host = "127.0.0.1" if listener == "INTERNAL" else "localhost"
        return f"{host}:{self._ports[listener]}"

    def add_scram_user(self, name: str, password: str, *, bits: int = 512) -> None:
        """Make a user of SCRAM, or change its password."""
        mechanism = getattr(ScramMechanism, f"SCRAM_SHA_{bits}")
        user = UserScramCredentialUpsertion(
            name, ScramCredentialInfo(mechanism, 4096), password.encode()
        )
        for done in self.admin.alter_user_scram_credentials([user]).values():
            done.result(10)

    def allow(self, user: str, resource: ResourceType, name: str, *operations: str) -> None:
        """Let a user do something, ``"READ"`` for example, with a topic or a group."""
        bindings = [self._acl(user, resource, name, operation) for operation in operations]
        for done in self.admin.create_acls(bindings).values():
            done.result(10)

    def forbid(self, user: str, resource: ResourceType, name: str, operation: str) -> None:
        """Take back what `allow` gave."""
        binding = self._acl(user, resource, name, operation)
        wanted = AclBindingFilter(
            binding.restype,
            binding.name,
            binding.resource_pattern_type,
            binding.principal,
            binding.host,
            binding.operation,
            binding.permission_type,
        )
        for done in self.admin.delete_acls([wanted]).values():
            assert done.result(10)

    def _acl(self, user: str, resource: ResourceType, name: str, operation: str) -> AclBinding:
        return AclBinding(
            resource,
            name,
            ResourcePatternType.LITERAL,
            f"User:{user}",
            "*",
            AclOperation[operation],
            AclPermissionType.ALLOW,
        )


def token(subject: str = "alice", *, lives_s: float = 300.0, **claims: Any) -> str:
    """Return a JWT without a signature, which the broker takes."""
    now = time.time()
    body = {"sub": subject, "iat": now, "exp": now + lives_s, **claims}
    parts = (json.dumps(part).encode() for part in ({"alg": "none"}, body))
    return ".".join(base64.urlsafe_b64encode(part).rstrip(b"=").decode() for part in parts) + "."


@contextlib.contextmanager
def running_secure_broker() -> Iterator[SecureBroker]:
    """Run a secure broker in a temporary folder, which goes away with it."""
    with tempfile.TemporaryDirectory(prefix="sabot-kafka-") as directory:
        broker = SecureBroker(Path(directory))
        try:
            broker.start()
            yield broker
        finally:
            broker.stop()
