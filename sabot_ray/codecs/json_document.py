"""One JSON text as tokens: what orjson forgets about it, and its syntax at any depth."""

from __future__ import annotations

import re
from typing import Final, NamedTuple

import orjson

#: Objects and arrays may be nested this deep.
MAX_DEPTH: Final = 128

#: A text of so few bytes cannot be nested deeper.
SHALLOW: Final = 2 * MAX_DEPTH + 1

_ORJSON_DEPTH: Final = 1024

_SPACE: Final = " \t\n\r"
_TOKEN: Final = re.compile(r'"(?:[^"\\]|\\.)*"|[{}\[\],:]|[^ \t\n\r{}\[\],:"]+', re.DOTALL)
_STRING: Final = re.compile(rb'"(?:[^"\\]|\\.)*"', re.DOTALL)
_PARENTHESES: Final = bytes.maketrans(b"{[}]", b"(())")
_NO_BRACKETS: Final = bytes(set(range(256)) - set(b"{[}]"))

_KINDS: Final = {
    "{": "an object",
    "[": "an array",
    '"': "a string",
    "t": "a boolean",
    "f": "a boolean",
    "n": "null",
}


class Unfit(Exception):
    """A value, or a part of it, does not decode.

    Args:
        reason: What is wrong with it.
        path: Where, relative to the place that raises; every container on the way out prepends
            its step.
    """

    def __init__(self, reason: str, path: str = "") -> None:
        super().__init__(reason)
        self.reason = reason
        self.path = path


class Node(NamedTuple):
    """A JSON value: a half-open range of tokens, and the content of an object or an array."""

    start: int
    end: int
    content: dict[str, Node] | list[Node] | None


class Document(NamedTuple):
    """A valid JSON text whose top level is an object."""

    tokens: list[str]
    root: Node


def kind(token: str) -> str:
    """Name the kind of value that begins with the token, as error messages do."""
    return _KINDS.get(token[0], "a number")


def is_integer(token: str) -> bool:
    """Tell whether a number was written without fraction and exponent."""
    return token.removeprefix("-").isdigit()


def text_of(token: str) -> str:
    """Return what a string token stands for."""
    return orjson.loads(token) if "\\" in token else token[1:-1]


def parse_document(value: bytes) -> Document:
    """Validate one value and split it into tokens.

    Raises:
        Unfit: It is malformed, nested too deep, or no object; checked in this order.
    """
    try:
        top = orjson.loads(value)
    except orjson.JSONDecodeError:
        # At its own limit of depth orjson has not seen yet whether the rest is well formed.
        if _opening(value) > _ORJSON_DEPTH and _is_json(value):
            raise _too_deep() from None
        raise Unfit("malformed JSON") from None
    if is_too_deep(value):
        raise _too_deep()
    tokens = _TOKEN.findall(value.decode())
    if type(top) is not dict:
        raise Unfit(f"expected an object, found {kind(tokens[0])}")
    return Document(tokens, _node(tokens, 0))


def is_too_deep(value: bytes) -> bool:
    """Tell whether a valid JSON text is nested deeper than `MAX_DEPTH`."""
    # Searching is much faster than counting, and finds nothing in a flat document.
    if b"[" not in value and value.find(b"{", 1) < 0:
        return False
    if _opening(value) <= MAX_DEPTH:
        return False
    brackets = _STRING.sub(b"", value).translate(_PARENTHESES, _NO_BRACKETS)
    # Each pass removes the innermost level.
    for _ in range(MAX_DEPTH):
        brackets = brackets.replace(b"()", b"")
    return bool(brackets)


def _too_deep() -> Unfit:
    return Unfit(f"nested deeper than {MAX_DEPTH} levels")


def _opening(value: bytes) -> int:
    return value.count(b"{") + value.count(b"[")


def _node(tokens: list[str], start: int) -> Node:
    token = tokens[start]
    at = start + 1
    if token == "{":
        fields: dict[str, Node] = {}
        while tokens[at] != "}":
            at += tokens[at] == ","
            # A dict keeps a duplicate's first place and last value.
            node = fields[text_of(tokens[at])] = _node(tokens, at + 2)
            at = node.end
        return Node(start, at + 1, fields)
    if token == "[":
        items: list[Node] = []
        while tokens[at] != "]":
            at += tokens[at] == ","
            items.append(_node(tokens, at))
            at = items[-1].end
        return Node(start, at + 1, items)
    return Node(start, at, None)


def _is_scalar(token: str) -> bool:
    try:
        orjson.loads(token)
    except orjson.JSONDecodeError:
        return False
    return True


def _is_json(value: bytes) -> bool:
    """Check the syntax of any depth."""
    try:
        text = value.decode()
    except UnicodeDecodeError:
        return False
    if _TOKEN.sub("", text).strip(_SPACE):
        return False
    closing: list[str] = []
    # "value", "key", ":" or ","; "]" is a first value or the end, "}" a first key or the end.
    expected = "value"
    for token in _TOKEN.findall(text):
        if token in ("]", "}"):
            if not closing or token != closing.pop() or expected not in (",", token):
                return False
            expected = ","
        elif token == ",":
            if expected != "," or not closing:
                return False
            expected = "key" if closing[-1] == "}" else "value"
        elif token == ":":
            if expected != ":":
                return False
            expected = "value"
        elif expected in ("key", "}"):
            if token[0] != '"' or not _is_scalar(token):
                return False
            expected = ":"
        elif expected not in ("value", "]"):
            return False
        elif token in ("[", "{"):
            closing.append("]" if token == "[" else "}")
            expected = closing[-1]
        elif not _is_scalar(token):
            return False
        else:
            expected = ","
    return expected == "," and not closing
