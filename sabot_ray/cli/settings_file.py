"""Files of Kafka settings: Java's .properties, and TOML."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from sabot_ray.errors import ConfigError

_ESCAPE: Final = re.compile(r"\\(?:u([0-9A-Fa-f]{4})|(.))")
_ESCAPED: Final = {"t": "\t", "n": "\n", "r": "\r", "f": "\f"}
#: The name ends at the first "=", ":" or white space that no backslash stands before.
_PROPERTY: Final = re.compile(r"((?:\\.|[^\\=:\s])+)(?:\s*[=:]\s*|\s+|$)(.*)")


def read_settings(file: Path) -> dict[str, str]:
    """Read a file of settings; one whose name ends in ``.toml`` is TOML.

    Returns:
        The values by name, the tables of TOML joined with dots.

    Raises:
        ConfigError: The file cannot be read or understood; the line is told, never its content,
            which may be a secret.
    """
    try:
        text = file.read_text(encoding="utf-8")
        if file.suffix == ".toml":
            return dict(_flattened("", tomllib.loads(text)))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigError(f"config file '{file}': {error}") from None
    return dict(_properties(file, text))


def _flattened(prefix: str, table: dict[str, Any]) -> Iterator[tuple[str, str]]:
    for name, value in table.items():
        if isinstance(value, dict):
            yield from _flattened(f"{prefix}{name}.", value)
        elif isinstance(value, list):
            yield prefix + name, ",".join(map(str, value))
        else:
            yield prefix + name, str(value).lower() if isinstance(value, bool) else str(value)


def _properties(file: Path, text: str) -> Iterator[tuple[str, str]]:
    """Read what ``java.util.Properties.load`` reads."""
    lines = iter(enumerate(text.splitlines(), 1))
    for number, line in lines:
        logical = line.lstrip()
        if not logical or logical[0] in "#!":
            continue
        # An odd number of backslashes at the end joins the next line.
        while (len(logical) - len(logical.rstrip("\\"))) % 2:
            logical = logical[:-1] + next(lines, (0, ""))[1].lstrip()
        found = _PROPERTY.fullmatch(logical)
        if found is None:
            raise ConfigError(f"config file '{file}' line {number}: expected name=value")
        name, value = map(_unescaped, found.groups())
        yield name, value.rstrip()


def _unescaped(text: str) -> str:
    return _ESCAPE.sub(lambda m: chr(int(m[1], 16)) if m[1] else _ESCAPED.get(m[2], m[2]), text)
