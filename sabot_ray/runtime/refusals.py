"""Records that the brokers refuse, as far as a reader knows them whose transactions they cost.

A transaction is lost with the first record that is refused, and those that are refused together
with it are not to blame. So it is done again: what may have been the reason is sent in parts, apart
from everything else, until one record is alone, which is left out from then on (docs/adr/0008).
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence

from sabot_ray.runtime.policy import DeadLetter
from sabot_ray.types import TopicPartition

#: Into how many parts what was refused is divided.
_PARTS = 16


class Refusals:
    """What was refused so far; it outlives the transactions.

    Attributes:
        has_news: Whether a record was noted, until this is set to False.
    """

    def __init__(self) -> None:
        self.has_news = False
        # With the number of rows that each may be sent with.
        self._suspects: dict[TopicPartition, dict[int, int]] = {}
        self._refused: dict[TopicPartition, dict[int, DeadLetter]] = {}

    def suspect(self, partition: TopicPartition, offsets: Sequence[int]) -> None:
        """Note records of which something was refused together."""
        suspects = self._suspects.setdefault(partition, {})
        for offset in offsets:
            together = min(suspects.get(offset, len(offsets)), len(offsets))
            suspects[offset] = max(together // _PARTS, 1)

    def note(self, partition: TopicPartition, letter: DeadLetter) -> None:
        """Note a record of which something was refused alone."""
        self._suspects.get(partition, {}).pop(letter.offset, None)
        self._refused.setdefault(partition, {})[letter.offset] = letter
        self.has_news = True

    def knows_of(self, partition: TopicPartition, offsets: range) -> bool:
        """Tell whether one of the offsets is to be handled with care."""
        known = (self._suspects.get(partition, ()), self._refused.get(partition, ()))
        return any(offset in offsets for offset in itertools.chain(*known))

    def segments(
        self, partition: TopicPartition, offsets: Sequence[int]
    ) -> Iterator[tuple[int, int, bool]]:
        """Divide rows: suspects are to be sent apart, and refused ones not at all.

        Args:
            partition: Where their records were read.
            offsets: At which offset that was, for each row.

        Yields:
            The first row, the one after the last, and whether they are suspects: fewer at a time
            with each `suspect`.
        """
        suspects, refused = self._suspects.get(partition, {}), self._refused.get(partition, {})
        kinds = [(suspects.get(offset, 0), offset in refused) for offset in offsets]
        first = 0
        for (size, _), rows in itertools.groupby(kinds):
            end = first + len(list(rows))
            for begin in range(first, end, size or end - first):
                yield begin, min(begin + (size or end), end), size > 0
            first = end

    def is_refused(self, partition: TopicPartition, offset: int) -> bool:
        """Tell whether an offset is to be left out."""
        return offset in self._refused.get(partition, {})

    def refused(self, partition: TopicPartition, offsets: range) -> list[DeadLetter]:
        """Return those of the offsets that are to be left out, ascending."""
        refused = self._refused.get(partition, {})
        return [refused[offset] for offset in sorted(refused) if offset in offsets]

    def forget(self, partition: TopicPartition, offset: int) -> None:
        """Forget what lies before an offset: it is committed."""
        suspects, refused = self._suspects.get(partition, {}), self._refused.get(partition, {})
        self._suspects[partition] = {o: size for o, size in suspects.items() if o >= offset}
        self._refused[partition] = {o: letter for o, letter in refused.items() if o >= offset}
