"""Files of Kafka settings."""

from __future__ import annotations

import pytest

from sabot_ray.cli.settings_file import read_settings
from sabot_ray.errors import ConfigError


def test_properties_are_read_as_java_reads_them(tmp_path):
    file = tmp_path / "client.properties"
    file.write_text(
        "# a comment\n! another\n\n"
        "bootstrap.servers=a:1,\\\n    b:2\n"
        "  client.id : caf\\u00e9  \n"
        "client.rack rack-1\n"
        "key\\=with\\:signs=a=b\\\\c\n"
        "debug=\n",
        encoding="utf-8",
    )
    assert read_settings(file) == {
        "bootstrap.servers": "a:1,b:2",
        "client.id": "café",
        "client.rack": "rack-1",
        "key=with:signs": "a=b\\c",
        "debug": "",
    }


def test_toml_tables_become_dotted_names(tmp_path):
    file = tmp_path / "client.toml"
    file.write_text('bootstrap.servers = ["a:1", "b:2"]\ncheck.crcs = true\n[fetch]\nmin.bytes = 5')
    assert read_settings(file) == {
        "bootstrap.servers": "a:1,b:2",
        "check.crcs": "true",
        "fetch.min.bytes": "5",
    }


@pytest.mark.parametrize("name", ["client.properties", "client.toml"])
def test_file_that_is_not_understood_tells_the_line_but_not_its_content(tmp_path, name):
    file = tmp_path / name
    file.write_text("a=1\n=secret\n" if name.endswith("properties") else "a=1\nb=secret\n")
    with pytest.raises(ConfigError, match="line 2") as raised:
        read_settings(file)
    assert "secret" not in str(raised.value)


def test_file_that_cannot_be_read_is_an_error(tmp_path):
    with pytest.raises(ConfigError, match=r"config file '.*missing': .*No such file"):
        read_settings(tmp_path / "missing")
