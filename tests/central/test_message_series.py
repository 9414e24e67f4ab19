"""The `message` series is what became of the outbox: each outcome once, in the words that were sent, never a number or an address."""

from pathlib import Path

from central.alarms.log import AlarmLog
from central.config import CentralConfig
from central.db import Database
from central.notify.channels import channels
from central.notify.notifier import Notifier
from central.notify.series import MessageSeries
from central.store.embedded import Embedded
from common.clock import Clock, from_rfc3339
from tests import servers
from tests.central.test_alarm_log import STORY
from tests.fakes.providers import SmsServer


def test_every_outcome_is_copied_once_with_the_text_that_was_sent(tmp_path: Path) -> None:
    now = from_rfc3339(STORY[0].time)
    clock = Clock(walltime=lambda: now, boottime=lambda: now)
    with SmsServer(lambda body: (400, "{}") if body["to"].endswith("2") else (200, "{}")) as sms:
        config = CentralConfig.model_validate(
            {
                "data_dir": str(tmp_path),
                "mqtt": {"host": "127.0.0.1"},
                "sms": [
                    {
                        "kind": "http",
                        "url": sms.url,
                        "headers": {"Content-Type": "application/json"},
                        "body": '{"to":"{number}","text":"{text}","id":"{id}"}',
                    }
                ],
                "station": [
                    {"id": "hoyoux-huy", "gateway": "gw-huy-01", "commune": "61031", "name": "Huy, pont du Hoyoux"}
                ],
                "recipient": [
                    {"id": "planu", "name": "Planification d'urgence", "communes": "all", "phone": "+32470000001"},
                    {"id": "garde", "name": "Garde", "communes": "all", "phone": "+32470000002"},
                ],
            }
        )
        db = Database(tmp_path / "central.db")
        db.open()
        alarms, store = AlarmLog(db), Embedded(tmp_path / "store.db")
        store.setup()
        woken: list[bool] = []
        notifier = Notifier(
            config,
            db,
            alarms,
            clock,
            channels(config, clock),
            on_notifying=lambda *_: None,
            on_acknowledged=lambda: None,
            on_outcome=lambda: woken.append(True),
        )
        notifier.start()
        alarms.record(STORY[0], now)
        notifier.wake()
        servers.wait_until(lambda: len(db.rows("SELECT 1 FROM message_outcome")) == 2, 10, "both outcomes")
        servers.wait_until(lambda: len(woken) >= 2, 10, "the copier is told")
        notifier.stop()
        assert MessageSeries(config, store, db, alarms, clock).copy() == 2
        assert MessageSeries(config, store, db, alarms, clock).copy() == 0, (
            "a new process goes on where the old one was"
        )
        rows = {row.fields["recipient"]: row for row in store.dump("message", 0, 2**53)}
        sent, failed = rows["Planification d'urgence"], rows["Garde"]
        assert sent.tags == {"channel": "sms", "purpose": "alarm", "station": "hoyoux-huy", "commune": "61031"}
        assert sent.fields["text"] == sms.to("+32470000001")[0]
        assert (sent.fields["accepted"], sent.fields["failed"]) == (1, 0)
        assert (failed.fields["result"], failed.fields["failed"], failed.fields["reason"]) == (
            "failed",
            1,
            "status 400",
        )
        assert "+32" not in str([row.fields for row in rows.values()])
        store.close()
        db.close()
