"""A commune's air over 24 hours: the smoke of Bonfire Night passes the Walloon thresholds, and what is not valid changes nothing."""

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from pydantic import ValidationError

from central.alarms.log import AlarmLog
from central.alarms.own import Own
from central.alarms.smog import SmogWatch, mean_of_day
from central.alarms.wishes import Wishes
from central.config import CentralConfig, Smog
from central.db import Database
from common import texts
from common.clock import Clock, from_rfc3339
from demo.series import dust
from tests import servers
from tests.central.scene import WANZE, Scene

NIGHT = datetime(2018, 11, 5, tzinfo=UTC).timestamp()
HOUR = 3600.0


class Central:
    """The watch on a real state and store that hold the night; `at(hour)` looks then."""

    def __init__(self, tmp_path: Path, where: Path | str) -> None:
        self.now = 90 * HOUR
        self.clock = Clock(boottime=lambda: self.now, walltime=lambda: NIGHT + self.now, trust="always")
        self.scene = Scene(tmp_path, self.clock)
        self.scene.store.setup()
        self.scene.db.open()
        self.scene.gateway(WANZE)
        self.db = Database(where)
        self.db.open()
        self.alarms = AlarmLog(self.db)
        self.own = Own(self.alarms, Wishes(self.db, self.alarms, self.clock), self.clock, lambda: None)
        self.watch = SmogWatch(Smog(), self.scene.store, self.scene.registry, self.own, self.clock)

    def measured(self, without: tuple[float, float] = (0, 0)) -> None:
        for quantity, values in zip(("pm2_5", "pm10"), dust("5331"), strict=True):
            self.scene.measure(
                f"ecole-wanze/dust-1/{quantity}",
                lambda t, values=values: values.at(NIGHT + 90 * HOUR + t),  # type: ignore[misc]
                from_s=115 * HOUR,
                until_s=30 * HOUR,
                without=without,
            )

    def at(self, hour: float) -> None:
        self.now = hour * HOUR + 300
        self.watch.look()

    @property
    def told(self) -> list[tuple[str, str, int, float, float]]:
        """Quantity, transition, level, hour of the night, mean, by quantity and in their order."""
        events = [e for o in self.alarms.newest(99) for e in self.alarms.events(o.occurrence)]
        events.sort(key=lambda e: (e.quantity or "", e.seq))
        return [
            (e.quantity or "", e.transition, e.level, (from_rfc3339(e.time) - NIGHT) / HOUR, round(e.value or 0, 1))
            for e in events
        ]

    def close(self) -> None:
        self.db.close()
        self.scene.close()
        self.scene.db.close()
        self.scene.store.close()


@pytest.fixture
def central(tmp_path: Path, state_at: Path | str) -> Iterator[Central]:
    (tmp_path / "scene").mkdir()
    made = Central(tmp_path / "scene", state_at)
    yield made
    made.close()


def test_the_smoke_of_a_night_passes_the_thresholds_each_at_the_end_of_an_hour(central: Central) -> None:
    central.measured()
    for hour in (9, 12, 12, 18, 24, 27, 42):
        central.at(hour)
    assert central.told == [
        ("pm10", "raise", 1, 12, 50.5),
        ("pm10", "escalate", 2, 24, 81.3),
        ("pm2_5", "raise", 1, 27, 37.7),
    ]
    central.at(80)
    assert len(central.told) == 3, "nothing is measured any more: no alarm clears for that"
    central.now = 90 * HOUR
    central.scene.measure("ecole-wanze/dust-1/pm10", lambda _: 69.0, from_s=30 * HOUR)
    central.at(89)
    assert len(central.told) == 3, "a level is left at 95 % of its threshold"
    central.scene.measure("ecole-wanze/dust-1/pm10", lambda _: 60.0, from_s=30 * HOUR)
    central.at(89)
    central.scene.measure("ecole-wanze/dust-1/pm10", lambda _: 20.0, from_s=30 * HOUR)
    central.at(89)
    assert [t[1] for t in central.told] == ["raise", "escalate", "deescalate", "clear", "raise"]
    assert central.alarms.impossible_events() == {}


def test_a_mean_needs_eighteen_hours_of_forty_five_minutes() -> None:
    end = 24 * HOUR
    day = [(t * 1000, 40.0) for t in range(0, 86400, 60)]
    assert mean_of_day(day, 60, end) == pytest.approx(40)
    assert mean_of_day([p for p in day if p[0] % 3_600_000 < 2_700_000], 60, end) == pytest.approx(40), (
        "45 minutes of each"
    )
    assert mean_of_day([p for p in day if p[0] % 3_600_000 < 2_640_000], 60, end) is None, "44 minutes of each"
    assert mean_of_day([p for p in day if p[0] >= 6 * 3_600_000], 60, end) == pytest.approx(40)
    assert mean_of_day([p for p in day if p[0] >= 7 * 3_600_000], 60, end) is None
    later = [(p[0] + 86_400_000, 900.0) for p in day]
    assert mean_of_day(day + later, 60, end) == pytest.approx(40), "what comes after the hour is of another"
    assert mean_of_day([], 60, end) is None


def test_the_people_of_the_commune_read_that_it_is_indicative(tmp_path: Path) -> None:
    clock = Clock(trust="always")
    scene = Scene(tmp_path, clock, settings={"smog": {}})
    scene.start()
    try:
        scene.gateway(WANZE)
        scene.measure("ecole-wanze/dust-1/pm10", lambda _: 82.0, from_s=26 * HOUR)
        own = Own(scene.alarms, Wishes(scene.db, scene.alarms, clock), clock, scene.notifier.wake)
        watch = SmogWatch(scene.config.smog, scene.store, scene.registry, own, clock)
        watch.look()
        servers.wait_until(lambda: bool(scene.smtp.to("planu-wanze@huy.test")), 15, "a mail")
        (mail,) = scene.smtp.to("planu-wanze@huy.test")
        subject = " ".join(str(mail["Subject"]).split())
        assert "seuil smog d'alerte dépassé - PM10 (moyenne 24 h, indicatif), Wanze" in subject
        text = mail.get_body(("plain",)).get_content()  # type: ignore[attr-defined]
        assert "82,0 µg/m³" in text
        assert "Seuil dépassé : 70,0 µg/m³" in text
        assert "l'AwAC et CELINE le disent" in text
        assert "BE-Alert" not in text
        assert not scene.smtp.to("planu-huy@huy.test")
        assert "moyenne 24 h, indicatif), Wanze" in scene.get().text
        (alarm,) = own.open()
        (event,) = scene.alarms.events(alarm.occurrence)
        sms = texts.sms(event, scene.config.place(event))
        assert sms.startswith(
            "HUY-WAREMME seuil smog d'alerte dépassé. PM10 (moyenne 24 h, indicatif), Wanze: 82,0 ug/m3"
        )
    finally:
        scene.close()


@pytest.mark.parametrize("limits", [[], [50, 40], [0, 50], [1, 2, 3, 4]])
def test_thresholds_that_cannot_be_are_named(tmp_path: Path, limits: list[float]) -> None:
    config = {"data_dir": str(tmp_path), "mqtt": {"host": "127.0.0.1"}, "smog": {"pm10": limits}}
    with pytest.raises(ValidationError, match="rising thresholds"):
        CentralConfig.model_validate(config)
