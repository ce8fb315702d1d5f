"""`Secret`, and the settings that hold one: never shown, and never pickled in clear."""

from __future__ import annotations

import pickle
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from sabot_ray import Stream
from sabot_ray.errors import ConfigError
from sabot_ray.kafka.config import KafkaConfig
from sabot_ray.kafka.security import UNSAFE
from sabot_ray.types import Secret
from tests.secure_broker import token

SASL = {"security_protocol": "SASL_SSL", "sasl_mechanism": "PLAIN", "sasl_username": "alice"}
BEARER = {"security_protocol": "SASL_SSL", "sasl_mechanism": "OAUTHBEARER"}


def password_of_a_module() -> str:
    return "hunter2"


def test_secret_is_resolved_where_it_is_used(monkeypatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PASSWORD", "hunter2")
    (tmp_path / "password").write_text("hunter2\n")

    assert Secret("env:PASSWORD").resolve() == "hunter2"
    assert Secret(f"file:{tmp_path}/password").resolve() == "hunter2"
    assert Secret(lambda: "hunter2").resolve() == "hunter2"
    assert Secret("hunter2").resolve() == "hunter2"


@pytest.mark.parametrize(
    ("source", "shown"),
    [
        ("hunter2", "Secret('***')"),
        ("env:PASSWORD", "Secret('env:PASSWORD')"),
        ("file:/run/password", "Secret('file:/run/password')"),
        (partial(str, "hunter2"), "Secret(<function>)"),
    ],
)
def test_secret_is_not_shown(source: str | Callable[[], str], shown: str) -> None:
    config = KafkaConfig("h:1", **SASL, sasl_password=source)

    assert repr(Secret(source)) == shown
    assert shown in repr(config)
    assert "hunter2" not in repr(config) + str(config)


def test_reference_travels_and_text_does_not() -> None:
    for source in ("env:PASSWORD", "file:/run/password", password_of_a_module):
        config = KafkaConfig("h:1", **SASL, sasl_password=source)
        pickled = pickle.dumps(config)
        assert pickle.loads(pickled) == config
        assert b"hunter2" not in pickled
        config.check_travels()

    config = KafkaConfig("h:1", **SASL, sasl_password="hunter2")
    with pytest.raises(TypeError, match="a secret in clear is never pickled") as raised:
        pickle.dumps(config)
    assert "hunter2" not in str(raised.value)


def test_stream_refuses_a_secret_in_clear_before_any_connection() -> None:
    with pytest.raises(ConfigError, match=r"'sasl\.password': a secret in clear.*'env:NAME'") as e:
        Stream.from_kafka("h:1", "topic", **SASL, sasl_password="hunter2")
    assert "hunter2" not in str(e.value)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("sasl_pasword", "hunter2"),
        ("sasl_password", b"hunter2"),
        ("sasl_password", ["hunter2"]),
        ("sasl_jaas_config", "... password=hunter2;"),
    ],
)
def test_wrong_secret_is_not_in_the_error(name: str, value: Any) -> None:
    with pytest.raises(ConfigError) as raised:
        KafkaConfig("h:1", **SASL, **{name: value})
    assert "hunter2" not in str(raised.value)


def _raises() -> str:
    raise RuntimeError("hunter2 was refused")


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("env:NOT_SET", "no environment variable 'NOT_SET'"),
        ("file:/does/not/exist", "'/does/not/exist'"),
        (lambda: "", "Secret(<function>) is empty"),
        (lambda: 5, "expected str, found int"),
        (_raises, "Secret(<function>) raised RuntimeError"),
    ],
)
def test_secret_that_cannot_be_had_names_the_setting(source: Any, reason: str) -> None:
    config = KafkaConfig("h:1", **SASL, sasl_password=source)

    for settings in (config.librdkafka_settings, config.aiokafka_security):
        with pytest.raises(ConfigError) as raised:
            settings()
        assert "'sasl.password'" in str(raised.value)
        assert reason in str(raised.value)
        assert "hunter2" not in str(raised.value)
        assert raised.value.__context__ is None or raised.value.__suppress_context__


def test_token_tells_when_it_expires() -> None:
    def had(value: Any) -> tuple[str, float]:
        return KafkaConfig("h:1", **BEARER, sasl_oauthbearer_token=lambda: value).token()

    now = time.time()
    text, expires_at_s = had(token(lives_s=100))
    assert text.count(".") == 2
    assert expires_at_s == pytest.approx(now + 100, abs=5)
    assert had(("opaque", now + 7)) == ("opaque", now + 7)
    assert "opaque" not in repr(had(("opaque", now + 7)))
    for wrong in ("opaque", "a.b.c", ("opaque", None), 7):
        with pytest.raises(ConfigError, match=r"'sasl\.oauthbearer\.token'") as raised:
            had(wrong)
        assert "opaque" not in str(raised.value)


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({"ssl_ca_location": "ca.pem"}, "security_protocol='PLAINTEXT' has no TLS"),
        ({"sasl_username": "alice"}, "security_protocol='PLAINTEXT' has no SASL"),
        ({**SASL, "security_protocol": "SSL"}, "security_protocol='SSL' has no SASL"),
        ({"security_protocol": "SASL_SSL"}, "needs sasl_mechanism: one of 'PLAIN'"),
        (SASL, "sasl_mechanism='PLAIN' needs sasl_password"),
        (BEARER, "needs sasl_oauthbearer_token"),
        ({**SASL, "sasl_mechanism": "GSSAPI"}, "'GSSAPI' is not one of 'PLAIN'"),
        (
            {**SASL, "security_protocol": "SASL_PLAINTEXT", "sasl_password": "x"},
            "use SASL_SSL, or pass allow_plaintext_sasl=True",
        ),
        (
            {"security_protocol": "SSL", "ssl_ca_location": "ca.pem", "ssl_ca_pem": "text"},
            "'ssl.ca.location' and 'ssl.ca.pem' say the same",
        ),
        (
            {"security_protocol": "SSL", "ssl_certificate_location": "c.pem"},
            "pass ssl_key_location or ssl_key_pem, too",
        ),
        ({"security_protocol": "TLS"}, "'TLS' is not one of 'PLAINTEXT', 'SSL'"),
        ({"sasl_jaas_config": "x"}, "pass sasl_username and sasl_password"),
        ({"allow_unsafe": ["sasl.password"]}, "allow_unsafe: 'sasl.password' is not one of"),
    ],
)
def test_security_that_does_not_fit_together_is_refused(
    settings: dict[str, Any], text: str
) -> None:
    with pytest.raises(ConfigError) as raised:
        KafkaConfig("h:1", **settings)
    assert text in str(raised.value)


@pytest.mark.parametrize("name", UNSAFE)
def test_unsafe_setting_is_refused_unless_it_is_named(name: str) -> None:
    more = {**BEARER, "sasl_oauthbearer_token": lambda: token()}
    with pytest.raises(ConfigError, match=f"'{name}' is refused: it "):
        KafkaConfig("h:1", **more, **{name: "/x"})
    with pytest.raises(ConfigError, match=f"'{name}' is refused: it "):
        KafkaConfig(
            "h:1", **more, **{name: "/x"}, allow_unsafe=[next(iter(UNSAFE.keys() - {name}))]
        )

    config = KafkaConfig("h:1", **more, **{name.replace(".", "_"): "/x"}, allow_unsafe=[name])

    assert config.librdkafka_settings()[name] == "/x"
    with pytest.raises(ConfigError, match=f"'{name}': aiokafka has nothing like it"):
        config.check_aiokafka()


def test_settings_may_be_completed_later() -> None:
    config = KafkaConfig("h:1", **SASL, sasl_password="env:ONE")

    changed = config.with_settings(sasl_password="env:OTHER", fetch_min_bytes=5)

    assert changed.settings["sasl.password"] == Secret("env:OTHER")
    assert changed.settings["security.protocol"] == "SASL_SSL"
    with pytest.raises(ConfigError, match="has no SASL"):
        config.with_settings(security_protocol="SSL")


def test_names_of_aiokafka_are_known() -> None:
    config = KafkaConfig(
        "h:1",
        security_protocol="sasl_ssl",
        sasl_mechanism="plain",
        sasl_plain_username="alice",
        sasl_plain_password="env:PASSWORD",
        ssl_cafile="ca.pem",
    )

    assert config.settings["ssl.ca.location"] == "ca.pem"
    assert config.settings["sasl.mechanism"] == "PLAIN"
    assert config.settings["sasl.password"] == Secret("env:PASSWORD")
