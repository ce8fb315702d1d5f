"""The codecs of strings and bytes, and what their Python decoder does."""

from __future__ import annotations

import pickle

import pyarrow as pa
import pytest

from sabot_ray.codecs.codec import Codec, Decoded, Rejected
from sabot_ray.codecs.text import BytesCodec, StringCodec

BAD = b"\xff"


@pytest.mark.parametrize("codec", [BytesCodec(), StringCodec()])
def test_text_codec_survives_pickling(codec: Codec) -> None:
    assert pickle.loads(pickle.dumps(codec)) == codec
    assert BytesCodec() != StringCodec()


def test_text_codec_has_one_column_and_keys_of_its_type() -> None:
    assert BytesCodec().columns == pa.schema([("value", pa.binary())])
    assert StringCodec().columns == pa.schema([("value", pa.string())])
    assert (BytesCodec().key_type, StringCodec().key_type) == (pa.binary(), pa.string())


def test_bytes_decoder_takes_everything() -> None:
    decoded = BytesCodec().decoder(["value"]).decode([BAD, None, b""])

    assert decoded == Decoded([pa.array([BAD, None, b""], pa.binary())], range(3), [], {})


def test_string_decoder_skipping_leaves_out_what_is_no_utf8() -> None:
    decoded = StringCodec().decoder(["value"], "skip", "key").decode([BAD, b"a", None, BAD])

    rejected = [Rejected(index, "key", "invalid UTF-8") for index in (0, 3)]
    assert decoded == Decoded([pa.array(["a", None])], [1, 2], rejected, {})


def test_string_decoder_failing_stops_before_what_is_no_utf8() -> None:
    decoded = StringCodec().decoder(["value"]).decode([b"a", None, BAD, b"b", BAD])

    rejected = [Rejected(2, "$", "invalid UTF-8")]
    assert decoded == Decoded([pa.array(["a", None])], [0, 1], rejected, {})


def test_string_decoder_without_columns_still_validates() -> None:
    decoded = StringCodec().decoder([], "skip").decode([b"a", BAD])

    assert decoded == Decoded([], [0], [Rejected(1, "$", "invalid UTF-8")], {})
