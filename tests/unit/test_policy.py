"""`ErrorPolicy`: what is tried again, how often and after how long."""

from __future__ import annotations

import pytest

from sabot_ray.runtime.policy import ErrorPolicy


class Attempts:
    """Fails so many times, and notes how long it is waited in between."""

    def __init__(self, *errors: Exception) -> None:
        self.errors = list(errors)
        self.made = 0
        self.waits: list[float] = []

    def __call__(self) -> str:
        self.made += 1
        if self.errors:
            raise self.errors.pop(0)
        return "done"

    def run(self, policy: ErrorPolicy) -> str:
        return policy.with_retries(self, lambda e: isinstance(e, OSError), self.waits.append)


def test_what_may_pass_is_tried_again_after_longer_and_longer_waits() -> None:
    attempts = Attempts(OSError(), TimeoutError(), ConnectionError())
    assert attempts.run(ErrorPolicy("retry", None, 3, 2.0)) == "done"
    assert attempts.made == 4
    for wait, longest in zip(attempts.waits, [2.0, 4.0, 8.0], strict=True):
        assert longest / 2 <= wait <= longest


def test_attempts_end_with_the_error() -> None:
    attempts = Attempts(*[OSError(str(n)) for n in range(5)])
    with pytest.raises(OSError, match="2"):
        attempts.run(ErrorPolicy("retry", "dead", 2, 0.0))
    assert attempts.made == 3


def test_what_does_not_pass_is_not_tried_again() -> None:
    attempts = Attempts(ValueError())
    with pytest.raises(ValueError):  # noqa: PT011
        attempts.run(ErrorPolicy("retry"))
    assert attempts.waits == []


@pytest.mark.parametrize("name", ["fail", "skip", "dead_letter"])
def test_other_policies_try_once(name: str) -> None:
    attempts = Attempts(OSError())
    with pytest.raises(OSError):  # noqa: PT011
        attempts.run(ErrorPolicy(name, None))  # type: ignore[arg-type]
    assert attempts.made == 1
