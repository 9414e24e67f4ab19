"""Each fault test fills in its account, which becomes a row of docs/faults.md when `scripts/faults` runs it."""

import json
import os
import re
import time
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import pytest

from tests.chain import FULL, Account

_FAILED = pytest.StashKey[bool]()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]):
    report = yield
    item.stash[_FAILED] = item.stash.get(_FAILED, False) or report.failed
    return report


@pytest.fixture
def account(request: pytest.FixtureRequest) -> Iterator[Account]:
    """The account of this test, written as JSON to the directory MAILLAGES_FAULT_ROWS, if that is set."""
    found = Account()
    start = time.monotonic()
    yield found
    rows = os.environ.get("MAILLAGES_FAULT_ROWS")
    if rows and found.fault:
        file, _, name = request.node.nodeid.rpartition("/")[2].partition("::")
        number = re.match(r"test_f(\d\d)_", file)
        row = {"file": file, "test": name, "number": int(number[1]) if number else None, "full": FULL}
        row |= {"survived": not request.node.stash.get(_FAILED, False), "took_s": round(time.monotonic() - start, 1)}
        path = Path(rows) / f"{file}-{re.sub(r'[^a-z0-9-]+', '-', name.lower())}.json"
        path.write_text(json.dumps(row | asdict(found), indent=1) + "\n")
