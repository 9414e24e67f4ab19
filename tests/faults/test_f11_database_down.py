"""F11: the database is down. Readings wait on the gateways; people are told all the same, by central and not by the modem."""

from pathlib import Path

import pytest

from tests import servers
from tests.chain import FULL, Account
from tests.faults.scene import SMS_AFTER_S, scene

pytestmark = pytest.mark.system


@pytest.mark.timeout(900 if FULL else 300)
def test_with_no_database_a_rise_becomes_a_mail_and_the_readings_wait(tmp_path: Path, account: Account) -> None:
    seconds, interval = (600, 0.2) if FULL else (12, 0.05)
    account.of("database killed (-9), water reaches level 3 meanwhile", f"{seconds} s")
    with scene(tmp_path, interval_s=interval) as it:
        chain = it.chain
        it.influx.kill9()
        it.shore.rise(account)
        with account.alarm():
            servers.wait_until(lambda: bool(it.mails), 20, "a mail")
        assert "seuil local 3" in it.smtp.to("planu@example.be")[0].as_string() + it.mails[0]
        receipts = len([r for r in chain.journal_lines() if r[0] == "k"])
        assert seconds >= 2 * SMS_AFTER_S
        chain.wait_sent(round(seconds / interval), 2 * seconds)
        assert not it.shore.phone.messages, "central said that it tells people"
        assert len([r for r in chain.journal_lines() if r[0] == "k"]) == receipts, "a receipt without a record"
        it.influx.start()
        chain.recovers(account)
        it.finish(account, timeout_s=120)
