"""Read over TLS, with a password that no one but the clients gets to see.

    python examples/secure.py BOOTSTRAP_SERVERS TOPIC CA_FILE USER PASSWORD_FILE

The brokers must ask for SCRAM-SHA-512 and let USER describe and read TOPIC. Both files must be on
every node, for example as mounted secrets: what travels to the readers is where the password is.
docs/security.md has the other ways: certificates, tokens, PLAIN.
"""

import sys

from sabot_ray import AuthenticationFailed, AuthorizationFailed, KafkaConfig, Stream

servers, topic, ca_file, user, password_file = sys.argv[1:6]

kafka = KafkaConfig(
    servers,
    security_protocol="SASL_SSL",
    ssl_ca_location=ca_file,
    sasl_mechanism="SCRAM-SHA-512",
    sasl_username=user,
    sasl_password=f"file:{password_file}",  # or "env:NAME"; in clear it is refused
)
print(kafka)  # shows where the password is, never what it is

try:
    print(f"{Stream.from_kafka(kafka, topic, end='latest').count()} rows")
except (AuthenticationFailed, AuthorizationFailed) as error:
    # Says what is wrong: certificate, credentials or ACL.
    sys.exit(f"{type(error).__name__}: {error}")
