"""F2: a half-open link. Every byte is swallowed while TCP stays open; then it is reset."""

from pathlib import Path

import pytest

from tests.chain import FULL, Account
from tests.faults.scene import scene

pytestmark = pytest.mark.system


@pytest.mark.timeout(300)
def test_a_half_open_link_loses_nothing_and_people_on_site_are_warned(tmp_path: Path, account: Account) -> None:
    seconds = 25 if FULL else 7
    account.of(
        "link half-open (bytes swallowed, TCP open), then reset; water reaches level 3 meanwhile", f"{seconds} s"
    )
    with scene(tmp_path) as it:
        it.link.swallow = True
        it.shore.rise(account)
        it.chain.wait_sent(20 * seconds, 2 * seconds)
        it.link.restore()
        it.chain.recovers(account)
        it.told(account)
        it.finish(account)
    assert account.injected is not None
    assert account.injected > 15 * seconds
