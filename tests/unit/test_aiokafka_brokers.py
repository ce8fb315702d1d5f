"""Which broker is asked, on connections that go nowhere."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace

import pytest
from aiokafka.errors import KafkaConnectionError

from sabot_ray.errors import BrokerUnavailable
from sabot_ray.kafka import aiokafka_brokers
from sabot_ray.kafka.aiokafka_brokers import Brokers
from sabot_ray.kafka.config import KafkaConfig


class Connection:
    """A connection to a broker that knows three others and no topic."""

    def __init__(self, is_away: bool) -> None:
        self._is_away = is_away

    async def connect(self):
        if self._is_away:
            raise KafkaConnectionError("away")

    async def send(self, request):
        nodes = [(node, "broker", node) for node in (1, 2, 3)]
        return SimpleNamespace(brokers=nodes, topics=[(0, "t", False, [])])

    async def closed(self):
        pass


def test_broker_that_failed_last_is_asked_after_all_others(monkeypatch: pytest.MonkeyPatch):
    asked: list[int] = []
    away: set[int] = set()

    def connection(host, port, **_):
        asked.append(port)
        return Connection(port in away)

    monkeypatch.setattr(aiokafka_brokers, "_Connection", connection)
    brokers = Brokers(KafkaConfig("bootstrap:9"))

    async def ask() -> None:
        await brokers.leaders("t")
        asked.clear()
        away.add(2)
        while 2 not in asked:
            await brokers.leaders("t")
        asked.clear()
        for _ in range(50):
            await brokers.leaders("t")
        assert set(asked) == {1, 3}
        away.update({1, 3, 9})
        asked.clear()
        with pytest.raises(BrokerUnavailable, match="no broker of bootstrap:9 answers"):
            await brokers.leaders("t")
        assert asked[2:] == [2, 9]

    asyncio.run(ask())
