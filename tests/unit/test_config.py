"""`KafkaConfig`: names, values and their translation to both clients."""

from __future__ import annotations

import pickle

import confluent_kafka
import pytest

from sabot_ray.errors import ConfigError
from sabot_ray.kafka import config as config_module
from sabot_ray.kafka.config import KafkaConfig, check_setting_names


def test_setting_is_known_in_both_spellings_and_by_its_alias() -> None:
    for name in ("fetch.min.bytes", "fetch_min_bytes"):
        assert KafkaConfig("h:1", **{name: 5}).settings == {"fetch.min.bytes": 5}
    assert KafkaConfig("h:1", fetch_wait_max_ms=7).settings == {"fetch.max.wait.ms": 7}


def test_setting_given_twice_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"'fetch\.max\.wait\.ms' is given twice"):
        KafkaConfig("h:1", fetch_max_wait_ms=1, **{"fetch.wait.max.ms": 2})


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("a:9092", "a:9092"),
        (" a:9092 , b:9093", "a:9092,b:9093"),
        (["a:1", "b:2"], "a:1,b:2"),
        ("[::1]:9092", "[::1]:9092"),
        ("SASL_SSL://a:9092", "SASL_SSL://a:9092"),
    ],
)
def test_bootstrap_servers_are_normalised(given: str | list[str], kept: str) -> None:
    assert KafkaConfig(given).bootstrap_servers == kept


@pytest.mark.parametrize("given", ["", "a", "a:", "a:0", "a:70000", "a:b", "a:1,,b:2", 5, None])
def test_bootstrap_servers_that_are_none_are_refused(given: object) -> None:
    with pytest.raises(ConfigError, match="bootstrap_servers"):
        KafkaConfig(given)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("name", "value", "text"),
    [
        ("fetch_min_bytes", 0, "0 is below the minimum 1"),
        ("fetch_min_bytes", True, "expected int, found bool"),
        ("fetch_min_bytes", 1.5, "expected int, found float"),
        ("check_crcs", 1, "expected bool, found int"),
        ("client_id", 5, "expected str, found int"),
        ("auto_offset_reset", "error", "'error' is not one of 'earliest', 'latest', 'none'"),
    ],
)
def test_wrong_value_is_refused(name: str, value: object, text: str) -> None:
    with pytest.raises(ConfigError, match=text):
        KafkaConfig("h:1", **{name: value})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("given", "hint"),
    [
        ("fetchminbytes", "; did you mean 'fetch.min.bytes'?"),
        ("fetch.min.byte", "; did you mean 'fetch.min.bytes'?"),
        (
            "groupid",
            "; did you mean 'group.id'? It is managed by sabot_ray: pass group_id",
        ),
        # Like "socket.timeout.ms", but by far not the same.
        ("consumer_timeout_ms", ""),
        ("num_partitions", ""),
    ],
)
def test_unknown_setting_is_refused_with_the_near_one(given: str, hint: str) -> None:
    with pytest.raises(ConfigError) as refused:
        KafkaConfig("h:1", **{given: 1})

    assert str(refused.value) == f"unknown option or Kafka setting '{given}'{hint}"


def test_setting_names_are_compared_with_further_options() -> None:
    with pytest.raises(ConfigError, match=r"'groupid'; did you mean 'group_id'\?$"):
        check_setting_names(["client_id", "groupid"], "consumer", ["group_id"])


def test_setting_of_the_other_role_is_refused() -> None:
    check_setting_names(["linger_ms", "client_id"], "producer")
    with pytest.raises(
        ConfigError, match="'linger_ms': a consumer has nothing like it, only a pro"
    ):
        check_setting_names(["linger_ms"], "consumer")


def test_clients_are_given_the_settings_of_their_role() -> None:
    config = KafkaConfig("h:1", fetch_min_bytes=7, linger_ms=9)
    for settings, linger, fetch in (
        (config.librdkafka_settings, "linger.ms", "fetch.min.bytes"),
        (config.aiokafka_settings, "linger_ms", "fetch_min_bytes"),
    ):
        assert linger not in settings("consumer")
        assert fetch not in settings("producer")
        assert str(settings("producer")[linger]) == "9"
        assert str(settings("consumer")[fetch]) == "7"


def test_number_that_librdkafka_would_cut_is_refused() -> None:
    with pytest.raises(ConfigError, match="4294967301 is above the maximum 2147483647"):
        KafkaConfig("h:1", fetch_min_bytes=2**32 + 5)


def test_text_is_taken_for_numbers_and_booleans() -> None:
    settings = KafkaConfig("h:1", fetch_min_bytes="12", check_crcs="False").settings

    assert settings == {"fetch.min.bytes": 12, "check.crcs": False}


def test_every_setting_is_accepted_by_librdkafka() -> None:
    names = [s.librdkafka for s in config_module._SETTINGS.values() if s.librdkafka]
    defaults = KafkaConfig("h:1").librdkafka_settings()
    known = {**defaults, "group.id": "g", "log_level": "0"}

    confluent_kafka.Consumer(known).close()
    for name in names:
        # A name that librdkafka lacks is refused as such; a value may well be.
        with pytest.raises(confluent_kafka.KafkaException) as caught:
            confluent_kafka.Consumer({**known, name: "no such value" * 50, "debug": "nonsense"})
        assert "No such configuration property" not in str(caught.value), name


def test_every_setting_is_accepted_by_aiokafka() -> None:
    import inspect

    import aiokafka

    clients = {"consumer": aiokafka.AIOKafkaConsumer, "producer": aiokafka.AIOKafkaProducer}
    for role, client in clients.items():
        known = inspect.signature(client).parameters
        settings = config_module._SETTINGS.values()
        names = {s.aiokafka for s in settings if s.aiokafka and s.role == role}
        assert names
        assert names <= known.keys()
        assert KafkaConfig("h:1").aiokafka_settings(role).keys() <= known.keys()


def test_given_settings_replace_the_defaults_of_both_clients() -> None:
    config = KafkaConfig("h:1", isolation_level="read_uncommitted", request_timeout_ms=500)

    assert config.librdkafka_settings()["isolation.level"] == "read_uncommitted"
    assert config.librdkafka_settings()["socket.timeout.ms"] == "500"
    assert config.aiokafka_settings()["isolation_level"] == "read_uncommitted"
    assert config.aiokafka_settings()["request_timeout_ms"] == 500


def test_settings_that_sabot_ray_acts_on_reach_no_client() -> None:
    config = KafkaConfig("h:1", enable_auto_commit=True, auto_offset_reset="latest")

    assert config.librdkafka_settings()["enable.auto.commit"] == "false"
    assert config.librdkafka_settings()["auto.offset.reset"] == "error"
    assert config.aiokafka_settings()["auto_offset_reset"] == "none"


def test_librdkafka_only_settings_are_told() -> None:
    config = KafkaConfig("h:1", queued_min_messages=5, fetch_min_bytes=1, max_poll_records=3)

    assert config.librdkafka_only() == ["queued.min.messages"]
    # The sink sees to it.
    assert not KafkaConfig("h:1", delivery_timeout_ms=1000).librdkafka_only()


def test_config_survives_pickling_and_compares_by_value() -> None:
    config = KafkaConfig("h:1", fetch_min_bytes=5)

    assert pickle.loads(pickle.dumps(config)) == config
    assert config.with_settings(fetch_min_bytes=6).settings == {"fetch.min.bytes": 6}
