"""Predicates as expressions: what is traced, what runs as a function, what is refused."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from sabot_ray.errors import ConfigError
from sabot_ray.expressions import columns_of, trace

SCHEMA = pa.schema(
    [
        ("id", pa.int64()),
        ("amount", pa.float64()),
        ("name", pa.string()),
        ("place", pa.struct([("city", pa.string()), ("zip", pa.int64())])),
    ]
)
TABLE = pa.Table.from_pylist(
    [
        {"id": n, "amount": n * 10.0, "name": "abc"[n % 3], "place": {"city": "X", "zip": n}}
        for n in range(10)
    ],
    SCHEMA,
)


@pytest.mark.parametrize(
    ("predicate", "columns", "ids"),
    [
        (lambda b: b["amount"] > 70.0, ("amount",), [8, 9]),
        (lambda b: 70.0 < b["amount"], ("amount",), [8, 9]),  # noqa: SIM300 - as users write it
        (lambda b: b["id"] * 2 + 1 >= 17, ("id",), [8, 9]),
        (lambda b: (b["id"] > 7) & (b["name"] == "c"), ("id", "name"), [8]),
        (lambda b: (b["id"] > 8) | (b["name"] == "a"), ("id", "name"), [0, 3, 6, 9]),
        (lambda b: ~(b["id"] < 8), ("id",), [8, 9]),
        (lambda b: b["name"].isin(["a", "z"]), ("name",), [0, 3, 6, 9]),
        (lambda b: b["name"] != "a", ("name",), [1, 2, 4, 5, 7, 8]),
        (lambda b: pc.match_substring(b["name"], "c"), ("name",), [2, 5, 8]),
        (lambda b: b["place"]["zip"] >= 8, ("place",), [8, 9]),
        (lambda b: (b["place"]["zip"] >= 8) & (b["place"]["city"] == "X"), ("place",), [8, 9]),
        (lambda b: b["amount"] > b["id"] * 9 + 8, ("id", "amount"), [9]),
        (lambda b: b["amount"].is_valid() & (b["id"] == 1), ("id", "amount"), [1]),
        (lambda b: ~b["name"].is_null() & (b["id"] > 8), ("id", "name"), [9]),
        (lambda b: 1 - b["amount"] / 10 < -7, ("amount",), [9]),
        (lambda b: b["amount"] > np.float64(70), ("amount",), [8, 9]),
        (lambda b: np.float64(70) < b["amount"], ("amount",), [8, 9]),
        (lambda b: b["name"] != " == null[", ("name",), list(range(10))),
    ],
)
def test_predicate_becomes_an_expression_with_its_columns(
    predicate: Callable[[Any], Any], columns: tuple[str, ...], ids: list[int]
) -> None:
    expression = trace(predicate)

    assert expression is not None
    assert columns_of(expression, SCHEMA) == columns
    assert TABLE.filter(expression)["id"].to_pylist() == ids


@pytest.mark.parametrize(
    "predicate",
    [
        lambda b: pc.greater(b.column("amount"), 70.0),
        lambda b: [x.as_py() > 7 for x in b["id"]],
        lambda b: b["id"].to_numpy() > 7,
        lambda b: b.num_rows > 0,
        lambda b: True,
        lambda b: b[0],
        lambda b: np.asarray(b["amount"]) > 70,
        lambda b: np.asarray(b["amount"] * 2) > 70,
        lambda b: np.log(b["amount"]) > 3,
        lambda b: np.where(b["amount"].is_null(), False, True),
        lambda b: pd.Series(b["amount"]) > 70,
        lambda b: b.to_pandas()["amount"] > 70,
    ],
)
def test_predicate_that_does_more_runs_as_a_function(predicate: Callable[[Any], Any]) -> None:
    assert trace(predicate) is None


@pytest.mark.parametrize(
    "predicate",
    [
        lambda b: b["id"] > 1 and b["name"] == "a",
        lambda b: b["id"] > 1 or b["name"] == "a",
        lambda b: not b["id"],
        lambda b: bool(b["id"]),
        lambda b: "a" in b["name"],
        lambda b: b["name"] in ["a", "b"],
        lambda b: 1 < b["id"] < 5,
        lambda b: b["place"]["zip"] == 1 and b["id"] == 2,
        lambda b: "X" in b["place"]["city"],
        lambda b: b["name"] in {"a", "b"},
        lambda b: b["name"] in {"a": 1},
        lambda b: pc.greater(b["id"], 1) & (b["name"] in {"a"}),
        lambda b: b["amount"] > b["id"] & b["id"] < 5,
    ],
)
def test_python_logic_on_columns_is_refused(predicate: Callable[[Any], Any]) -> None:
    with pytest.raises(ConfigError, match=r"use &, \|, ~ .* and \.isin"):
        trace(predicate)


@pytest.mark.parametrize(
    "predicate",
    [
        lambda b: b["amount"] > 1 & b["id"] < 3,
        lambda b: b["name"] == "a" | b["id"] == 3,
        lambda b: pc.greater(b["id"], 1) & (b["amount"] > 1 & b["id"]),
    ],
)
def test_comparisons_without_parentheses_are_refused(predicate: Callable[[Any], Any]) -> None:
    with pytest.raises(ConfigError, match=r"put parentheses around each: \(b\[\"x\"\] > 1\) & "):
        trace(predicate)


@pytest.mark.parametrize(
    "predicate",
    [
        lambda b: b["id"] != None,  # noqa: E711 - as users write it
        lambda b: b["id"] == None,  # noqa: E711
        lambda b: (b["id"] > 1) & (b["place"]["zip"] < None),
        lambda b: pc.greater(b["id"], 1) & (pc.equal(b["name"], None)),
        lambda b: b["id"] == pa.scalar(None, pa.int64()),
    ],
)
def test_comparison_with_null_is_refused_with_the_remedy(
    predicate: Callable[[Any], Any],
) -> None:
    # Arrow gives null for it, and every row would vanish.
    with pytest.raises(ConfigError) as refused:
        trace(predicate)

    assert str(refused.value) == (
        "filter: a comparison with null is never true, for no row; use "
        'b["x"].is_null() or b["x"].is_valid()'
    )


def test_equality_next_to_something_untraceable_is_refused() -> None:
    # On a real batch `b["name"] == "a"` is Python's False, and every row would vanish.
    with pytest.raises(ConfigError, match="would compare the whole column"):
        trace(lambda b: (b["name"] == "a") & (b.column("id").to_numpy() > 1))


def test_captured_values_are_frozen_when_it_is_traced() -> None:
    limit = 5.0
    expression = trace(lambda b: b["amount"] > limit)
    limit = 70.0

    assert str(expression) == "(amount > 5)"


@pytest.mark.parametrize(
    ("predicate", "text"),
    [
        (lambda b: b["amonut"] > 1, "filter: there is no column 'amonut'; did you mean 'amount'?"),
        (lambda b: b["place"]["zap"] > 1, "did you mean 'zip'?"),
        (lambda b: b["name"] > 1, "the predicate name > 1 does not fit the columns"),
        (lambda b: b["place"]["city"] > 1, "the predicate place.city > 1 does not fit the columns"),
        (lambda b: b["id"]["x"] > 1, "filter: 'id' is int64, not a struct"),
        (lambda b: b["place"]["zip"]["x"] > 1, "filter: 'place.zip' is int64, not a struct"),
        (
            lambda b: pc.any(pc.greater(b["amount"], 1)),
            r"the predicate any\(\(amount > 1\)\) looks at the whole column, as an aggregate does",
        ),
        (lambda b: b["amount"] > pc.mean(b["amount"]), "looks at the whole column"),
        (lambda b: b["id"] + 1, "must evaluate to bool"),
    ],
)
def test_expression_that_does_not_fit_the_schema_is_refused(
    predicate: Callable[[Any], Any], text: str
) -> None:
    expression = trace(predicate)
    assert expression is not None

    with pytest.raises(ConfigError, match=text):
        columns_of(expression, SCHEMA)
