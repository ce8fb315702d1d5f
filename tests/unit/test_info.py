"""``sabot-ray info``."""

from __future__ import annotations

import pytest
from click.testing import CliRunner

from sabot_ray.cli import main
from sabot_ray.kafka import librdkafka


def test_info_shows_the_whole_reason_on_a_narrow_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    reason = "/a/path/without/a/blank" * 8
    monkeypatch.setattr(librdkafka, "load_error", lambda: reason)
    monkeypatch.setenv("COLUMNS", "80")

    output = CliRunner().invoke(main, ["info"]).output

    assert max(map(len, output.splitlines())) <= 80
    shown = output.partition("why not native")[2]
    assert "".join(shown.split()) == reason
