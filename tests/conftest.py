"""The order of the test files: `make test` gives them to two workers, one file at a time, so that what takes long must not come last."""

from __future__ import annotations

import pytest

# The first makes what the other files of its folder read; what does not need it goes on beside it meanwhile.
FIRST = ("workflow/test_nights.py", "workflow/test_planning.py", "faults/", "workflow/")


def _turn(item: pytest.Item) -> int:
    file = f"{item.path.parent.name}/{item.path.name}"
    return next((turn for turn, name in enumerate(FIRST) if file.startswith(name)), len(FIRST))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=_turn)
