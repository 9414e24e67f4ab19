"""What a mayor reads: short enough for one SMS, right in place, value, unit, trend, threshold and local time."""

import re
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common import gsm7, texts
from common.clock import BRUSSELS
from common.texts import Place
from wire.alarm import AlarmEvent
from wire.quantities import QUANTITIES

MOHA = Place("Moha", "Mehaigne")
BASE = {
    "id": "0197fd1e-0000-7000-8000-000000000001",
    "occurrence": "0197fd1e-0000-7000-8000-0000000a1b2c",
    "seq": 1,
    "source": "gateway",
    "gateway": "gw-huy-01",
    "station": "mehaigne-moha",
    "sensor": "level-1",
    "quantity": "water_level",
    "rule": "mehaigne-high",
    "kind": "high",
    "transition": "raise",
    "state": "UNACK",
    "level": 3,
    "value": 2.31,
    "unit": "m",
    "threshold": 2.2,
    "trend_per_h": 0.42,
    "time": "2026-07-14T18:05:00.000+02:00",
    "clock": "synchronised",
}
SILENT = {"value": None, "threshold": None, "trend_per_h": None}
RAISED_S = 1784030700.0  # 2026-07-14 14:05 in Belgium


def event(**changes) -> AlarmEvent:
    return AlarmEvent.model_validate(BASE | changes)


# fmt: off
SMS = {
    "level 3": ({}, ("HUY-WAREMME seuil local 3 atteint. Mehaigne, Moha: 2,31 m (+0,42 m/h) 14/07 18h05. Seuil 2,20 m. "
                    "Danger: 112. Réf A1B2C")),
    "level 1": ({"level": 1, "trend_per_h": None, "threshold": 1.0, "value": 1.004},
                "HUY-WAREMME seuil local 1 atteint. Mehaigne, Moha: 1,00 m 14/07 18h05. Seuil 1,00 m. Réf A1B2C"),
    "zero is a value": ({"level": 1, "value": 0.0, "trend_per_h": 0.0, "threshold": 0.0},
                        "HUY-WAREMME seuil local 1 atteint. Mehaigne, Moha: 0,00 m (+0,00 m/h) 14/07 18h05. Seuil 0,00 m. Réf A1B2C"),
    "exercise": ({"status": "Exercise", "level": 1},
                 "EXERCICE - HUY-WAREMME seuil local 1 atteint. Mehaigne, Moha: 2,31 m (+0,42 m/h) 14/07 18h05. Seuil 2,20 m. Réf A1B2C"),
    "test": ({"status": "Test", "level": 1},
             "TEST - HUY-WAREMME seuil local 1 atteint. Mehaigne, Moha: 2,31 m (+0,42 m/h) 14/07 18h05. Seuil 2,20 m. Réf A1B2C"),
    "rise": ({"kind": "rise", "level": 2, "threshold": 0.15},
             ("HUY-WAREMME montée rapide, seuil local 2. Mehaigne, Moha: 2,31 m (+0,42 m/h) 14/07 18h05. Seuil 0,15 m/h. "
             "Danger: 112. Réf A1B2C")),
    "stale": ({"kind": "stale", **SILENT},
              ("HUY-WAREMME PLUS DE MESURE (seuil local 3). Mehaigne, Moha: constaté 14/07 18h05. L'eau peut encore monter. "
              "Danger: 112. Réf A1B2C")),
    "comm_fail": ({"kind": "comm_fail", "level": 1, "quantity": None, "unit": None, **SILENT},
                  ("HUY-WAREMME CAPTEUR EN PANNE (seuil local 1). Mehaigne, Moha: constaté 14/07 18h05. "
 "L'eau peut encore monter. Réf A1B2C")),
    "data lost": ({"data_lost": True, "level": 1, "value": None},
                  ("HUY-WAREMME seuil local 1 atteint, puis PLUS DE MESURE. Mehaigne, Moha: constaté 14/07 18h05. "
                  "L'eau peut encore monter. Réf A1B2C")),
    "clear": ({"transition": "clear", "state": "RTN_UNACK", "level": 0, "value": 1.1, "trend_per_h": -0.2, "threshold": 1.2},
              "HUY-WAREMME retour sous le seuil local. Mehaigne, Moha: 1,10 m (-0,20 m/h) 14/07 18h05. Seuil 1,20 m. Réf A1B2C"),
    "measures again": ({"kind": "stale", "transition": "clear", "state": "NORMAL", "level": 0, **SILENT},
                       "HUY-WAREMME mesures revenues. Mehaigne, Moha: 14/07 18h05. Réf A1B2C"),
    "clock not set": ({"level": 1, "clock": "estimated"},
                      "HUY-WAREMME seuil local 1 atteint. Mehaigne, Moha: 2,31 m (+0,42 m/h) 14/07 vers 18h05. Seuil 2,20 m. Réf A1B2C"),
    "winter time": ({"level": 1, "time": "2026-01-14T17:05:00.000+00:00"},
                    "HUY-WAREMME seuil local 1 atteint. Mehaigne, Moha: 2,31 m (+0,42 m/h) 14/01 18h05. Seuil 2,20 m. Réf A1B2C"),
}
# fmt: on


@pytest.mark.parametrize("case", SMS)
def test_the_sms_says_it_all_in_one_part(case):
    changes, expected = SMS[case]
    text = texts.sms(event(**changes), MOHA)
    assert text == expected
    assert gsm7.septets(text) <= gsm7.SINGLE


def test_a_late_message_says_since_when_and_that_it_is_over():
    text = texts.sms(event(level=1), MOHA, raised_s=RAISED_S, returned_s=RAISED_S + 5 * 3600)
    assert "Depuis 14h05. Repassé sous le seuil 19h05." in text
    assert "Depuis 13/07 14h05." in texts.sms(event(level=1), MOHA, raised_s=RAISED_S - 86400)


def test_the_river_is_not_said_twice_and_air_names_its_quantity():
    assert "Huy, pont du Hoyoux: 2,31" in texts.sms(event(), Place("Huy, pont du Hoyoux", "Hoyoux"))
    air = event(quantity="pm2_5", unit="ug/m3", value=87.12, threshold=35, trend_per_h=None, level=1)
    assert "PM2,5, Amay: 87,1 ug/m3 14/07 18h05. Seuil 35,0 ug/m3." in texts.sms(air, Place("Amay"))
    day = texts.sms(air.model_copy(update={"mean_h": 24}), Place("Amay"))
    assert "PM2,5 (moyenne 24 h, indicatif), Amay: 87,1 ug/m3" in day
    assert gsm7.septets(day) <= gsm7.SINGLE


NAMES = st.text(st.characters(exclude_categories=("Cs",)), min_size=1, max_size=60)
KINDS = ["high", "low", "rise", "fall", "stale", "comm_fail", "quality", "power", "system"]
LANGUAGES = ["fr", "nl", "de", "en"]


@given(
    station=NAMES,
    river=st.none() | st.text(max_size=40),
    value=st.none() | st.floats(allow_nan=False, allow_infinity=False),
    trend=st.none() | st.floats(allow_nan=False, allow_infinity=False),
    level=st.integers(0, 3),
    kind=st.sampled_from(KINDS),
    transition=st.sampled_from(["raise", "escalate", "deescalate", "clear"]),
    quantity=st.none() | st.sampled_from(sorted(QUANTITIES)),
    unit=st.none() | st.text(max_size=300),
    status=st.sampled_from(["Actual", "Exercise", "Test"]),
    lost=st.booleans(),
    raised=st.none() | st.floats(0, 4e9),
    next_level_at=st.none() | st.text(max_size=30) | st.datetimes(timezones=st.just(UTC)).map(lambda d: d.isoformat()),
    reminder=st.booleans(),
    answerable=st.booleans(),
    language=st.sampled_from(LANGUAGES),
)
def test_any_event_fits_one_sms_and_keeps_what_matters(
    station, river, value, trend, level, kind, transition, quantity, unit, status, lost, raised, next_level_at,
    reminder, answerable, language,
):  # fmt: skip
    e = event(
        value=value, trend_per_h=trend, threshold=value, level=level, kind=kind, transition=transition, status=status,
        quantity=quantity, unit=unit, data_lost=lost, next_level_at=next_level_at,
    )  # fmt: skip
    text = texts.sms(
        e, Place(station, river), reminder=reminder, raised_s=raised, returned_s=raised, answerable=answerable,
        mailed=not answerable, language=language,
    )  # fmt: skip
    assert gsm7.normalise(text) == text
    assert gsm7.septets(text) <= gsm7.SINGLE
    assert text.endswith("A1B2C")
    assert text.startswith({"Actual": "", "Exercise": ("EXERCI", "OEFENING", "ÜBUNG"), "Test": "TEST"}[status])
    facts = texts.facts(e, language)
    assert gsm7.normalise(facts["time"]) in text
    if kind in ("high", "low", "rise", "fall") and value is not None and (transition == "clear" or not lost):
        assert gsm7.normalise(facts["value"]) in text
    assert "112" in text or level < 2 or raised is not None


@given(
    station=st.text("Abcdé ,", min_size=10, max_size=60).filter(lambda s: len(" ".join(s.split())) >= 10),
    river=st.none() | st.text("Xyz", min_size=1, max_size=40),
    value=st.floats(-1, 999),
    trend=st.floats(-99, 99),
    threshold=st.floats(0, 999),
    level=st.integers(1, 3),
    kind=st.sampled_from(["high", "low", "rise", "fall"]),
    transition=st.sampled_from(["raise", "escalate"]),
    quantity=st.sampled_from(["water_level", "pm2_5"]),
    status=st.sampled_from(["Actual", "Exercise"]),
    in_h=st.integers(1, 23),
    reminder=st.booleans(),
    answerable=st.booleans(),
    language=st.sampled_from(LANGUAGES),
)
def test_with_any_measurable_value_and_any_name_everything_that_matters_stands_in_one_sms(
    station, river, value, trend, threshold, level, kind, transition, quantity, status, in_h, reminder, answerable, language
):  # fmt: skip
    at = datetime(2026, 7, 14, 16, 5, tzinfo=UTC) + timedelta(hours=in_h)
    e = event(
        value=value, trend_per_h=trend, threshold=threshold, level=level, kind=kind, transition=transition, status=status,
        quantity=quantity, unit=QUANTITIES[quantity].unit, next_level_at=at.isoformat() if level < 3 else None,
    )  # fmt: skip
    text = texts.sms(e, Place(station, river), reminder=reminder, answerable=answerable, language=language)
    assert gsm7.septets(text) <= gsm7.SINGLE
    facts = texts.facts(e, language)
    number = facts["threshold"].split(" ")[0].removesuffix("/h")
    rate = facts["trend"].removeprefix(" (").split(" ")[0]
    for fact in (facts["value"], facts["time"], number, rate, "112" if level >= 2 else "", str(level)):
        assert gsm7.normalise(fact) in text
    where = gsm7.normalise(texts.where(e, Place(station, river), language, short=True))
    label = where[:7] if quantity == "pm2_5" else ""
    if level < 3 and not label:  # with it the words may be too many: then the place counts for more
        assert re.search(rf"{level + 1}\b.*{at.astimezone(BRUSSELS):%H.%M}", text)
    if answerable:
        assert text.endswith("OK A1B2C")
    assert where[: len(label) + 7].rstrip(" ,") in text


def test_each_kind_and_step_has_its_own_words_in_each_language():
    """Same sections, keys and {names} in all catalogues; French has the pages beside."""
    catalogues = {language: texts._catalogue(language) for language in LANGUAGES}
    for language in ("nl", "de", "en"):
        other = catalogues[language]
        for section, found in other.items():
            for key, text in found.items():
                known = catalogues["fr"][section].get(key)
                if section == "quantity":
                    assert key in QUANTITIES
                else:
                    assert known is not None, (language, section, key)
                    assert sorted(re.findall(r"\{(\w+)", text)) == sorted(re.findall(r"\{(\w+)", known)), (
                        language,
                        key,
                    )
        shared = ("prefix", "step", "headline", "system", "mail", "word", "place", "kind", "time")
        for section in shared:
            assert set(catalogues["fr"][section]) == set(other[section]), (language, section)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"transition": "escalate"}, "HUY-WAREMME AGGRAVATION, seuil local 3 atteint. Mehaigne, Moha: 2,31 m"),
        ({"transition": "deescalate", "level": 1}, "HUY-WAREMME EN BAISSE, seuil local 1 atteint."),
        ({"next_level_at": "2026-07-14T19:30:00+02:00", "level": 2}, "Seuil 3 vers 19h30. Danger: 112."),
        ({"next_level_at": "2026-07-15T02:10:00+02:00", "level": 2}, "Seuil 3 vers 15/07 02h10"),
    ],
)
def test_steps_and_the_forecast(changes, expected):
    text = texts.sms(event(**changes), MOHA)
    assert expected in text
    assert gsm7.septets(text) <= gsm7.SINGLE


def test_a_reminder_says_so_and_how_to_answer_is_said_for_each_way():
    assert texts.sms(event(), MOHA, reminder=True, answerable=True).startswith("HUY-WAREMME RAPPEL, seuil local 3")
    assert texts.sms(event(), MOHA, answerable=True).endswith("Répondez OK A1B2C")
    assert texts.sms(event(level=1), MOHA, mailed=True).endswith("Répondez par le lien du mail. Réf A1B2C")
    assert texts.sms(event(transition="clear", level=0, state="NORMAL"), MOHA, mailed=True).endswith(". Réf A1B2C")


def test_the_same_in_four_languages():
    said = {language: texts.sms(event(level=2), MOHA, answerable=True, language=language) for language in LANGUAGES}
    assert said["nl"] == (
        "HUY-WAREMME lokale drempel 2 bereikt. Mehaigne, Moha: 2,31 m (+0,42 m/h) 14/07 18:05. Drempel 2,20 m. "
        "Gevaar: 112. Antwoord OK A1B2C"
    )
    assert "örtliche Schwelle 2 erreicht. Mehaigne, Moha: 2,31 m (+0,42 m/h) 14.07. 18:05." in said["de"]
    assert "local threshold 2 reached. Mehaigne, Moha: 2.31 m (+0.42 m/h) 14/07 18:05." in said["en"]


@given(count=st.integers(1, 60), station=NAMES, status=st.sampled_from(["Actual", "Exercise"]))
def test_a_flood_of_alarms_fits_one_sms_and_counts_what_it_does_not_name(count, station, status):
    events = [event(status=status, level=1 + i % 3) for i in range(count)]
    text = texts.digest_sms(events, [f"{i} {station}" for i in range(count)], answerable=False)
    assert gsm7.septets(text) <= gsm7.SINGLE
    assert f"{count} autres alarmes" in text
    assert "112" in text


def test_nothing_is_said_in_the_name_of_an_authority():
    said = texts._catalogue()
    assert "NON ENVOYÉ" in said["mail"]["draft_title"]
    flat = repr(said).replace(said["mail"]["draft_title"], "").lower()
    assert "be-alert" not in flat
    assert not re.search(r"phase d.alerte|pré-alerte|alerte de crue", flat)


def test_a_shelving_says_who_until_when_and_why():
    shelved = event(
        transition="shelve",
        by="M. Dupont",
        until="2026-07-14T22:30:00+02:00",
        note="travaux\nau pont",
        withheld="shelved",
    )
    said = texts.transition(shelved)
    assert said.startswith("mise en veille par M. Dupont jusqu'au 14/07 22h30, motif : travaux au pont (")
    assert "jusqu'au bientôt" in texts.transition(shelved.model_copy(update={"until": "bientôt"})), "as it came"
    back = event(transition="unshelve", by="Mme Leroy")
    assert texts.transition(back).startswith("fin de la mise en veille par Mme Leroy (")
    assert texts.transition(event(transition="unshelve")).startswith("fin de la mise en veille (")


def test_what_has_returned_is_at_no_level():
    assert texts.headline(event(transition="ack", state="RTN_UNACK", level=0)) == "retour sous le seuil local"
    assert texts.headline(event(transition="reset", state="NORMAL", level=0)) == "retour sous le seuil local"
