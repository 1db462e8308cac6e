"""Fixtures that the viewer's browser tests share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from browser import Tabs, chromium


@pytest.fixture(scope="module")
def all_tabs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tabs]:
    """One browser for all tests of a module."""
    with chromium() as browser:
        yield Tabs(browser, tmp_path_factory.mktemp("pages"))


@pytest.fixture
def tabs(all_tabs: Tabs) -> Iterator[Tabs]:
    """After every test: no tab has complained or asked for anything."""
    yield all_tabs
    assert {name: tab.problems for name, tab in all_tabs.open.items() if tab.problems} == {}
