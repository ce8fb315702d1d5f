"""JSON texts as tokens."""

from __future__ import annotations

import pytest

from sabot_ray.codecs.json_document import MAX_DEPTH, SHALLOW, Unfit, is_too_deep, parse_document


def test_parse_document_keeps_the_source_text_of_every_token() -> None:
    document = parse_document(rb' { "a\"b" : [ -0 , 1.50E+2, "\u00e9 , ]" ] , "c":{ } } ')

    assert document.tokens == [
        *["{", r'"a\"b"', ":", "[", "-0", ",", "1.50E+2", ",", r'"\u00e9 , ]"', "]"],
        *[",", '"c"', ":", "{", "}", "}"],
    ]


def test_parse_document_of_duplicates_keeps_the_last_in_the_place_of_the_first() -> None:
    document = parse_document(b'{"a":1,"b":2,"\\u0061":[3]}')

    content = document.root.content
    assert isinstance(content, dict)
    texts = {name: document.tokens[node.start : node.end] for name, node in content.items()}
    assert list(texts.items()) == [("a", ["[", "3", "]"]), ("b", ["2"])]


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (b'{"a":[}', "malformed JSON"),
        (b"[1]", "expected an object, found an array"),
        (b"[" * 129 + b"]" * 129, "nested deeper than 128 levels"),
        (b"[" * 2000 + b"]" * 2000, "nested deeper than 128 levels"),
        (b"[" * 2000 + b"]" * 1999, "malformed JSON"),
    ],
)
def test_parse_document_of_another_value_raises_the_reason(value: bytes, reason: str) -> None:
    with pytest.raises(Unfit) as unfit:
        parse_document(value)

    assert (unfit.value.reason, unfit.value.path) == (reason, "")


@pytest.mark.parametrize(
    ("opening", "closing", "levels"), [("[", "]", 1), ('{"a":', "}", 1), ('[[{}],{"b":', "}]", 2)]
)
def test_is_too_deep_of_nested_values_finds_the_exact_limit(
    opening: str, closing: str, levels: int
) -> None:
    def nested(times: int) -> bytes:
        return f'{opening * times}"]"{closing * times}'.encode()

    assert not is_too_deep(nested(MAX_DEPTH // levels - 1))
    assert is_too_deep(nested(MAX_DEPTH // levels + 1))


def test_is_too_deep_of_the_shortest_deep_text_is_beyond_the_shallow_length() -> None:
    shortest = b"[" * (MAX_DEPTH + 1) + b"]" * (MAX_DEPTH + 1)

    assert is_too_deep(shortest)
    assert len(shortest) > SHALLOW
