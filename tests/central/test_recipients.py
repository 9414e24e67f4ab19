"""Recipients: a commune's table, who is on call, and people's data in a file of their own."""

import json
import os
import subprocess
from datetime import datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from central.db import Database
from central.errors import ConfigError
from central.notify.oncall import DAYS, Calendar, Hours
from central.notify.recipients import ACCESS_LOG, FILE, Recipient, Recipients, eligible
from central.notify.shared import SharedRecipients
from central.notify.table import COLUMNS, example, read
from common.clock import BRUSSELS, Clock

HEAD = "identifiant;nom;communes;téléphone;courriel\n"
CENTRAL = """
data_dir = "{tmp}/central"
[mqtt]
host = "127.0.0.1"
[smtp]
host = "127.0.0.1"
from = "a@c.test"
"""


def at(text):
    """Unix seconds of a Belgian time."""
    return datetime.fromisoformat(text).replace(tzinfo=BRUSSELS).timestamp()


def table(tmp_path, text, encoding="utf-8"):
    file = tmp_path / "people.csv"
    file.write_bytes(text.encode(encoding))
    return file


def person(id_, **more):
    return Recipient.model_validate({"id": id_, "name": id_, "communes": ["61031"], "email": f"{id_}@huy.test"} | more)


# ---------------------------------------------------------------------- the table


def test_the_example_is_a_table(tmp_path):
    (made,) = read(table(tmp_path, example()))
    assert made == Recipient.model_validate(
        {
            "id": "planu-huy", "name": "Coordination planification d'urgence, Huy", "role": "planu",
            "communes": ["61031", "61072"], "phone": "+32470000001", "email": "planu@huy.example.be",
            "on_call": "lu-ve 08:00-18:00, sa-di 09h-17h", "exceptions": "24/12/2026 non, 26/12/2026 08:00-12:00",
            "quiet": "22:00-07:00", "exercise": True,
        }
    )  # fmt: skip


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "cp1252"])
@pytest.mark.parametrize("delimiter", [";", "\t"])
def test_what_spreadsheets_write_is_read(tmp_path, encoding, delimiter):
    text = (
        "Identifiant;NOM;Communes;Telephone;Courriel;Canaux;Alarmes;Fonction\r\n"
        "zone;Zone de secours;toutes;;dispatching@zone.be;;mesures, power;zone de secours\r\n"
        ";;;;;;;\r\n"
        "maire;Bourgmestre de Héron;Héron, 64029;+32 (0)85/71.11.11;m@heron.be;sms > courriel;toutes;bourgmestre\r\n"
    ).replace(";", delimiter)
    zone, mayor = read(table(tmp_path, text, encoding))
    assert (zone.communes, zone.role, zone.kinds) == ("all", "zone_secours", ("high", "low", "rise", "fall", "power"))
    assert (mayor.communes, mayor.phone, mayor.channels) == (("61028", "64029"), "+3285711111", ("sms", "email"))
    assert mayor.kinds is None


def test_every_fault_is_named_at_once_with_line_found_and_expected(tmp_path):
    file = table(
        tmp_path,
        "identifiant;nom;communes;téléphone;courriel;seuil;garde;exercices;canaux\n"
        "Planu Huy;Planu;Huy;0470 00 00 01;;1;;;\n"
        "maire;Maire;Hui;12;;4;;;\n"
        "sans;Sans adresse;Huy;;;;;;\n"
        "zone;Zone;toutes;;pas une adresse;;lundi 8-18;peut-être;\n"
        "canal;Canal;Huy;;c@huy.be;;;;sms\n"
        "double;Un;Huy;;u@huy.be;;;;\n"
        "double;Deux;Huy;;d@huy.be;;;;\n"
        ";Sans nom;Huy;;d@huy.be;;;;;;reste\n",
    )
    with pytest.raises(ConfigError) as error:
        read(file)
    lines = [line.removeprefix(f"{file}:") for line in str(error.value).splitlines()]
    assert lines == [
        "2: identifiant: found 'Planu Huy', expected a short name of a-z, 0-9 and -, as planu-huy",
        "3: communes: found 'Hui', expected communes of Huy-Waremme by name or NIS code, or 'toutes'; not known: 'Hui'",
        "3: téléphone: found '12', expected a number as 0470 12 34 56 or +32470123456",
        "3: seuil: found '4', expected 1, 2 or 3",
        "4: ligne: found nothing, expected téléphone, courriel or webhook, and an address for each of canaux",
        "5: exercices: found 'peut-être', expected oui, non",
        "5: courriel: found 'pas une adresse', expected an address, as planu@huy.be",
        "5: garde: found 'lundi 8-18', expected days lu ma me je ve sa di and hours, as 'lu-ve 08:00-18:00'",
        "6: ligne: found nothing, expected téléphone, courriel or webhook, and an address for each of canaux",
        "8: identifiant: found 'double' also in line 7, expected once",
        "9: found 11 cells, expected 9",
        "9: identifiant: found nothing, expected a short name of a-z, 0-9 and -, as planu-huy",
    ]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", ":1: found no heading identifiant, nom, communes"),
        ("identifiant;nom;communes;fax\n", ":1: found the heading 'fax', expected one of identifiant, nom"),
        ("identifiant;nom;communes;nom\n", ":1: found the heading 'nom' twice"),
        (HEAD, ": no row, expected one for each recipient"),
        (HEAD + 'x;"', "unexpected end of data"),
    ],
)
def test_a_table_that_is_none(tmp_path, text, said):
    with pytest.raises(ConfigError) as error:
        read(table(tmp_path, text))
    assert said in str(error.value) or "expected" in str(error.value)


@given(data=st.binary(max_size=400) | st.text(max_size=400).map(lambda t: (HEAD + t).encode("utf-8", "replace")))
def test_any_bytes_are_read_or_refused_in_words(tmp_path_factory, data):
    file = tmp_path_factory.mktemp("t") / "people.csv"
    file.write_bytes(data)
    refusal = ""
    try:
        read(file)
    except ConfigError as e:
        refusal = str(e)
    assert not refusal or refusal.startswith(str(file))


# ---------------------------------------------------------------------- on call

WEEK = "lu-ve 08:00-18:00, sa 10h-12h30, ve 22:00-06:00"


@pytest.mark.parametrize(
    ("moment", "on"),
    [
        ("2026-07-13T08:00", True),  # a Monday
        ("2026-07-13T07:59", False),
        ("2026-07-13T18:00", False),
        ("2026-07-17T23:00", True),  # Friday night
        ("2026-07-18T05:59", True),
        ("2026-07-18T06:00", False),
        ("2026-07-18T12:29", True),
        ("2026-07-19T10:00", False),
        ("2026-12-24T10:00", False),  # a Thursday, taken out
        ("2026-12-25T10:00", True),  # a Friday with other hours
        ("2026-12-25T14:00", False),
        ("2026-12-26T02:00", False),  # those other hours have no night
        ("2026-12-27T10:00", True),  # a Sunday, all day
    ],
)
def test_who_is_on_call(moment, on):
    calendar = Calendar.parse(WEEK, "24/12/2026 non, 2026-12-25 08:00-12:00, 27/12/2026 oui")
    assert calendar.covers(at(moment)) is on


@given(
    first=st.sampled_from(DAYS),
    last=st.sampled_from(DAYS),
    begin=st.integers(0, 1439),
    end=st.integers(0, 1440),
    wall_s=st.floats(1_700_000_000, 2_000_000_000),
)
def test_a_span_lasts_as_long_as_it_says(first, last, begin, end, wall_s):
    text = f"{first}-{last} {begin // 60:02d}:{begin % 60:02d}-{end // 60:02d}:{end % 60:02d}"
    calendar = Calendar.parse(text, "")
    start = datetime.fromtimestamp(wall_s, BRUSSELS).replace(hour=0, minute=0, second=0, microsecond=0)
    monday = start.timestamp() - start.weekday() * 86400
    if (
        datetime.fromtimestamp(monday, BRUSSELS).utcoffset()
        != datetime.fromtimestamp(monday + 8 * 86400, BRUSSELS).utcoffset()
    ):
        return  # the week in which the clocks change
    days = (DAYS.index(last) - DAYS.index(first)) % 7 + 1
    length = end - begin if end > begin else end - begin + 1440
    minutes = sum(calendar.covers(monday + 60 * (m + 1440)) for m in range(0, 7 * 1440, 30))
    assert abs(minutes * 30 - days * length) <= 30 * days


def test_quiet_hours_end_in_the_morning():
    hours = Hours.parse("22:00-07:00")
    assert hours.end_of(at("2026-07-14T23:10")) == at("2026-07-15T07:00")
    assert hours.end_of(at("2026-07-15T06:59")) == at("2026-07-15T07:00")
    assert hours.end_of(at("2026-07-15T07:00")) is None
    assert Hours.parse("").end_of(at("2026-07-15T03:00")) is None
    assert Hours.parse("13h-24:00").end_of(at("2026-07-15T23:00")) == at("2026-07-16T00:00")


@pytest.mark.parametrize("text", ["8-18-20", "25:00-26:00", "08:61-10:00", "24:00-06:00", "x"])
def test_hours_that_are_none(text):
    with pytest.raises(ValueError, match="expected hours as"):
        Hours.parse(text)


def test_who_is_on_call_is_told_first_and_all_others_after():
    people = [
        person("jour", on_call="lu-ve 08:00-18:00"),
        person("nuit", on_call="lu-di 18:00-08:00"),
        person("chef", order=2),
        person("toujours", order=2, on_call="lu-di"),
    ]

    def steps(moment):
        found = eligible(people, frozenset({"61031"}), "high", 2, "Actual", at(moment))
        return [[r.id for r in step] for step in found]

    assert steps("2026-07-14T10:00") == [["jour"], ["chef", "toujours"], ["nuit"]]
    assert steps("2026-07-14T20:00") == [["nuit"], ["chef", "toujours"], ["jour"]]
    people = [person("jour", on_call="lu-ve 08:00-18:00")]
    assert steps("2026-07-14T03:00") == [["jour"]], "nobody is on call: somebody is told all the same"


# ---------------------------------------------------------------------- the file


def test_the_file_is_for_its_owner_only_and_a_changed_one_is_followed(tmp_path):
    people = Recipients(tmp_path)
    assert people.all() == ()
    Recipients(tmp_path).save([person("a")])
    assert [r.id for r in people.all()] == ["a"]
    assert (tmp_path / FILE).stat().st_mode & 0o777 == 0o600
    Recipients(tmp_path).save([person("a"), person("b")])
    assert [r.id for r in people.all()] == ["a", "b"]
    (tmp_path / FILE).write_text("[{")
    assert [r.id for r in people.all()] == ["a", "b"], "a broken file silences nobody"
    with pytest.raises(ConfigError, match="not JSON"):
        people.load()
    assert [f.name for f in tmp_path.iterdir()] == [FILE]


def test_a_fault_of_the_file_shows_no_number(tmp_path):
    row = person("a", phone="+32470000009").model_dump(mode="json", exclude_defaults=True) | {
        "phone": "0470secret",
        "email": "sec ret",
    }
    (tmp_path / FILE).write_text(json.dumps([row]))
    with pytest.raises(ConfigError) as error:
        Recipients(tmp_path).load()
    assert "phone" in str(error.value)
    assert "sec" not in str(error.value).replace(str(tmp_path), "")


def shared(postgres, tmp_path, name, now=None):
    """The recipients of one of two machines on one state, and the configuration of its commands."""
    data = tmp_path / name
    data.mkdir(exist_ok=True)
    db = Database(postgres)
    db.open()
    return SharedRecipients(data, db, Clock(boottime=lambda: now[0] if now else 0.0)), db


def test_whichever_machine_leads_knows_whom_to_tell(postgres, tmp_path):
    url, now = postgres.database(), [0.0]
    first, one = shared(url, tmp_path, "one")
    second, two = shared(url, tmp_path, "two", now)
    Recipients(tmp_path / "one").save([person("a"), person("b")])
    Recipients(tmp_path / "two").save([person("old")])
    first.adopt()
    assert not (tmp_path / "one" / FILE).exists(), "people's data stands in one place"
    second.adopt()
    assert [r.id for r in second.all()] == ["a", "b"], "an old file of another machine is never read"
    first.save([person("b"), person("c")])
    now[0] += 2
    assert [r.id for r in second.all()] == ["b", "c"]
    first.save([])
    second.adopt()
    now[0] += 2
    assert second.all() == ()
    first.save([person("b")])
    now[0] += 2
    assert [r.id for r in second.all()] == ["b"]
    two.close()
    now[0] += 2
    assert [r.id for r in second.all()] == ["b"], "a state that is away silences nobody"
    one.close()


@pytest.mark.system
def test_a_table_is_imported_on_one_machine_and_read_on_the_other(postgres, tmp_path):
    url = postgres.database()
    for name in ("one", "two"):
        text = CENTRAL.format(tmp=tmp_path / name)
        (tmp_path / f"{name}.toml").write_text(f'{text}\n[state]\nurl = "{url}"\n')
    file = table(tmp_path, HEAD + "planu;Planu;Huy;;planu@huy.be\nzone;Zone;toutes;;zone@huy.be\n")
    done = command("import", file, "-c", tmp_path / "one.toml")
    assert done.returncode == 0, done.stderr
    assert command("forget", "zone", "-c", tmp_path / "two.toml").stdout == "zone: forgotten\n"
    listed = command("list", "-c", tmp_path / "one.toml")
    assert "planu@huy.be" in listed.stdout
    assert "zone" not in listed.stdout
    assert not list(tmp_path.rglob(FILE))
    assert "jeanne forget zone" in (tmp_path / "two" / "central" / ACCESS_LOG).read_text()


def command(*args):
    return subprocess.run(
        ["maillages-central", "recipients", *map(str, args)],
        capture_output=True, text=True, timeout=60, check=False, env=os.environ | {"SUDO_USER": "jeanne"},
    )  # fmt: skip


@pytest.mark.system
def test_a_commune_imports_changes_and_forgets(tmp_path):
    config = tmp_path / "central.toml"
    config.write_text(CENTRAL.format(tmp=tmp_path))
    file = table(tmp_path, HEAD + "planu;Planu;Huy;;planu@huy.be\nzone;Zone;toutes;;zone@huy.be\n")
    done = command("import", file, "-c", config)
    assert (done.returncode, done.stdout) == (0, "planu: new\nzone: new\n2 imported\n"), done.stderr

    file = table(tmp_path, HEAD + "planu;Autre nom;Huy;0470000001;\nmaire;Maire;Nulle-Part;;m@huy.be\n")
    refused = command("import", file, "-c", config)
    assert refused.returncode == 2
    assert "people.csv:3: communes: found 'Nulle-Part'" in refused.stderr
    assert [r.name for r in Recipients(tmp_path / "central").load()] == ["Planu", "Zone"], "nothing half imported"

    file = table(tmp_path, HEAD + "planu;Autre nom;Huy;0470000001;\n")
    checked = command("check", file, "-c", config)
    assert checked.stdout == "planu: changed\nnot in people.csv, and kept (`forget` deletes): zone\n"
    assert "planu: cannot be told: expected [smtp] for an address or [[sms]] for a number" in checked.stderr
    assert command("import", file, "-c", config).returncode == 0

    listed = command("list", "-c", config)
    assert "+32470000001" in listed.stdout
    assert command("forget", "personne", "-c", config).returncode == 2
    assert command("forget", "zone", "-c", config).stdout == "zone: forgotten\n"
    assert "zone@huy.be" not in (tmp_path / "central" / FILE).read_text()
    log = tmp_path / "central" / ACCESS_LOG
    assert [line.split(" ", 1)[1] for line in log.read_text().splitlines()] == [
        "jeanne import planu zone", "jeanne import planu", "jeanne list", "jeanne forget zone",
    ]  # fmt: skip
    assert log.stat().st_mode & 0o777 == 0o600


def test_the_columns_are_the_fields():
    assert {c.field for c in COLUMNS} == set(Recipient.model_fields)
