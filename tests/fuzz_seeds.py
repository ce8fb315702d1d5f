"""Writes what the targets of ``native/fuzz/`` start from: ``python -m tests.fuzz_seeds DIR``."""

from __future__ import annotations

import hashlib
import itertools
import sys
from collections.abc import Iterator
from pathlib import Path

from tests.contract.hostile_json import DOCUMENTS

#: For each of the schemas in native/fuzz/schemas.cc but the first, which is that of `DOCUMENTS`.
_SAMPLES = {
    1: [
        b'{"i":-1,"u":255,"f":1.5,"g":2e3,"s":"text","b":true,"j":{"a":[1, 2]},"x":"AAEC"}',
        b'{"x":"","j":"\\n","b":false,"s":"\\u00e9\\ud83d\\ude00","g":-0.0,"f":0,"u":0,"i":null}',
    ],
    2: [
        b'{"t":"2024-02-29T12:34:56.789Z","n":"1969-12-31T23:59:59.999999999","d":"0001-01-01",'
        b'"e":"9999-12-31","h":"23:59:59","i":"00:00:00.000000001","u":-5}',
        b'{"t":"2024-02-29 12:34:56+01:30"}',
    ],
    3: [
        b'{"a":123.45,"b":"0.5","c":1e75,"d":"-1e30","e":9,"l":[1.25,"-2.5",null,1e3]}',
        b'{"a":-0,"b":0.0,"c":"12345678901234567890123456789012345678901234567890","e":-9}',
    ],
    4: [
        b'{"o":{"p":{"q":1},"l":[1,null]},"l":[{"k":"a","m":{"x":[true],"y":null},"j":[ ]}],'
        b'"m":{"a":{"k":"b"},"":null},"n":[[["a"],[]],null],"e":{}}',
        b'{"l":[null,{"z":[{"deep":{}}]}],"o":{"unknown":{"a":1}},"e":{"b":2},"n":[]}',
    ],
    5: [
        '{"":1,"é😀":"x","\\"":2,"\\\\":3,"a\\nb":true,"a":4,"aa":5}'.encode(),
        b'{"a name of more than thirty-two letters":1,"\\u0061":2,"a":3,"b":4}',
    ],
    6: [b"{}", b' { "any" : [ 1 , { "a" : null } ] } '],
}
_RECORD, _UNIT = b"\x1e", b"\x1f"


def json_decoder_seeds() -> Iterator[bytes]:
    """Yield inputs of json_decoder_fuzz.cc."""
    for index, document in enumerate(DOCUMENTS):
        # 0: ignore, 1: rescue, 2: fail, 3: evolve.
        yield b"0%d0" % (index % 4) + document.value
    for schema, documents in _SAMPLES.items():
        for unknown_fields, dropped in itertools.product(b"0123", b"019"):
            yield bytes([48 + schema, unknown_fields, dropped]) + _RECORD.join(documents * 2)


def batch_builder_seeds() -> Iterator[bytes]:
    """Yield inputs of batch_builder_fuzz.cc."""
    texts = [b"", b"text", "é😀".encode(), b"\xff"]
    all_documents = {0: texts, 1: texts, **{2 + n: found for n, found in _SAMPLES.items()}}
    flags = itertools.cycle(b"@ABDHP`")
    for (value, values), (key, keys) in itertools.product(all_documents.items(), repeat=2):
        records = [
            bytes([next(flags)]) + _UNIT.join([some_key, some_value, b"name", b"one", b"name", b""])
            for some_value, some_key in zip(values, itertools.cycle(keys), strict=False)
        ]
        yield bytes([48 + value, 48 + key]) + b"00" + _RECORD.join(records * 2)


def main() -> None:
    """Write each target's seeds into a folder of its name."""
    for name, seeds in {
        "json_decoder": json_decoder_seeds(),
        "batch_builder": batch_builder_seeds(),
    }.items():
        folder = Path(sys.argv[1]) / name
        folder.mkdir(parents=True, exist_ok=True)
        for seed in seeds:
            # Named as libFuzzer names what it finds.
            (folder / hashlib.sha1(seed).hexdigest()).write_bytes(seed)


if __name__ == "__main__":
    main()
