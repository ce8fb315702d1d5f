"""Leader epochs: what tells a source that the log before its position was truncated."""

from __future__ import annotations

from tests.kafka.reading import number, numbers_spec, read_to


def test_leader_epoch_is_that_of_the_record_before_and_unknown_behind_a_marker(
    broker, topic, open_source, backend, produce, produce_in_transaction
):
    known = {"native": 0, "aiokafka": -1}[backend]
    produce(topic, map(number, range(5)))
    source = open_source(numbers_spec(broker, topic))
    assert source.leader_epoch() == -1
    read_to(source, 3, max_rows=3)
    assert (source.position(), source.leader_epoch()) == (3, known)
    read_to(source, 5)
    assert source.leader_epoch() == known
    produce_in_transaction(topic, [number(5)]).commit()
    read_to(source, 7)
    assert source.leader_epoch() == -1
    produce(topic, [number(7)])
    read_to(source, 8)
    assert source.leader_epoch() == known
    source.seek(2)
    assert source.leader_epoch() == -1


def test_source_that_begins_with_an_epoch_has_it_and_reads_on(
    broker, topic, open_source, backend, produce
):
    produce(topic, map(number, range(5)))
    source = open_source(numbers_spec(broker, topic), start_offset=3, leader_epoch=0)
    assert source.leader_epoch() == {"native": 0, "aiokafka": -1}[backend]
    assert read_to(source, 5).column("n").to_pylist() == [3, 4]
