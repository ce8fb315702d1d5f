"""How `sabot-ray produce` takes a file apart."""

from __future__ import annotations

import io
from collections.abc import Sequence

import click
import pytest

from sabot_ray.cli.produce import _Lines


class Pieces(io.BufferedIOBase):
    """A file that gives a piece at each read, as a pipe does."""

    name = "pieces"

    def __init__(self, pieces: Sequence[bytes]) -> None:
        self._pieces = iter(pieces)

    def read1(self, size: int = -1, /) -> bytes:
        return next(self._pieces, b"")


def taken(source: _Lines, most: int) -> list[list[bytes]]:
    """Return the values of every take until the end."""
    found = []
    while records := source(most):
        found.append([value for _, value in records])
    return found


def test_lines_come_with_the_piece_that_ends_them() -> None:
    pieces = [b"a\nb", b"b", b"b\n\n", b"c\nd\ne\n", b"f"]
    expected = [[b"a"], [b"bbb", b""], [b"c", b"d"], [b"e"], [b"f"]]
    assert taken(_Lines(Pieces(pieces), None), 2) == expected


@pytest.mark.parametrize(("text", "lines"), [(b"", []), (b"\n", [[b""]]), (b"a", [[b"a"]])])
def test_a_file_ends_with_or_without_a_line_feed(text: bytes, lines: list[list[bytes]]) -> None:
    assert taken(_Lines(Pieces([text]), None), 10) == lines


def test_line_without_a_separator_comes_after_those_before_it() -> None:
    source = _Lines(Pieces([b"a::1\n", b"::\nb::2::3\nc\nd::4\n"]), "::")
    assert source(10) == [(b"a", b"1")]
    assert source(10) == [(b"", b""), (b"b", b"2::3")]
    with pytest.raises(click.ClickException, match="file 'pieces' line 4: there is no key sep"):
        source(10)
