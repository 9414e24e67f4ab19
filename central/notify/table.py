"""The table in which a commune keeps its recipients: CSV as spreadsheets write it, with French headings, one row a person.

Separated by `;`, `,` or tab, in UTF-8 or Windows-1252. Communes by name or NIS code, numbers as people write them. Every fault
of a table is told at once, with its line, what was found and what was expected; a table with a fault changes nothing.
"""

import csv
import io
import re
import unicodedata
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple, get_args

from pydantic import ValidationError

from central.errors import ConfigError
from central.notify.recipients import Recipient
from common import texts
from wire.alarm import Kind

_MEASURES = ("high", "low", "rise", "fall")
_GROUPS = {"mesures": _MEASURES, "pannes": tuple(k for k in get_args(Kind) if k not in _MEASURES)}
_ROLES = {
    "bourgmestre": "bourgmestre", "bourgmestre f.f.": "bourgmestre", "planu": "planu",
    "coordinateur planification d'urgence": "planu", "zone de secours": "zone_secours", "technicien": "technicien",
    "technicienne": "technicien", "autre": "autre",
}  # fmt: skip
_CHANNELS = {
    "sms": "sms",
    "courriel": "email",
    "email": "email",
    "e-mail": "email",
    "mail": "email",
    "webhook": "webhook",
}
_YES = {"oui": True, "non": False}


class Column(NamedTuple):
    """A heading, the field that it fills, how a cell becomes its value (ValueError names what was expected), an example."""

    heading: str
    field: str
    read: Callable[[str], Any]
    example: str


def _text(cell: str) -> str:
    return cell


def _choice(known: dict[str, Any]) -> Callable[[str], Any]:
    def read(cell: str) -> Any:
        found = known.get(cell.lower().replace("’", "'"))
        if found is None:
            raise ValueError(f"expected {', '.join(dict.fromkeys(known))}")
        return found

    return read


def _phone(cell: str) -> str:
    """`0470 12 34 56`, `+32 470/12.34.56`: Belgian where no country is given."""
    digits = re.sub(r"[\s./()\-]", "", cell.replace("(0)", ""))
    if digits.startswith("00"):
        digits = "+" + digits[2:]
    elif digits.startswith("0"):
        digits = "+32" + digits[1:]
    if not re.fullmatch(r"\+[1-9]\d{7,14}", digits):
        raise ValueError("expected a number as 0470 12 34 56 or +32470123456")
    return digits


def _communes(cell: str) -> Any:
    if cell.lower() in ("toutes", "tous"):
        return "all"
    names = {_plain(name): nis for nis, name in texts.phrases("commune").items()}
    found = []
    for part in _list(cell):
        nis = part if re.fullmatch(r"\d{5}", part) else names.get(_plain(part))
        if nis is None:
            raise ValueError(f"expected communes of Huy-Waremme by name or NIS code, or 'toutes'; not known: {part!r}")
        found.append(nis)
    return tuple(found)


def _plain(name: str) -> str:
    return re.sub(r"[^a-z]", "", unicodedata.normalize("NFKD", name.lower()))


def _kinds(cell: str) -> tuple[str, ...] | None:
    if cell.lower() == "toutes":
        return None
    found: list[str] = []
    for part in _list(cell):
        if part.lower() not in (*_GROUPS, *get_args(Kind)):
            raise ValueError(f"expected toutes, mesures, pannes, or some of {', '.join(get_args(Kind))}")
        found += _GROUPS.get(part.lower(), (part.lower(),))
    return tuple(dict.fromkeys(found))


def _channels(cell: str) -> tuple[str, ...]:
    read = _choice(_CHANNELS)
    return tuple(read(part) for part in _list(cell.replace(">", ",")))


def _number(cell: str) -> int:
    if not re.fullmatch(r"\d{1,3}", cell):
        raise ValueError("expected a whole number")
    return int(cell)


def _list(cell: str) -> list[str]:
    return [part.strip() for part in re.split(r"[,|\n]", cell) if part.strip()]


COLUMNS = (
    Column("identifiant", "id", _text, "planu-huy"),
    Column("nom", "name", _text, "Coordination planification d'urgence, Huy"),
    Column("fonction", "role", _choice(_ROLES), "planu"),
    Column("communes", "communes", _communes, "Huy, Wanze"),
    Column("téléphone", "phone", _phone, "0470 00 00 01"),
    Column("courriel", "email", _text, "planu@huy.example.be"),
    Column("webhook", "webhook", _text, ""),
    Column("canaux", "channels", _channels, ""),
    Column("langue", "language", _text, "fr"),
    Column("seuil", "min_level", _number, "1"),
    Column("alarmes", "kinds", _kinds, "toutes"),
    Column("étape", "order", _number, "1"),
    Column("garde", "on_call", _text, "lu-ve 08:00-18:00, sa-di 09h-17h"),
    Column("exceptions", "exceptions", _text, "24/12/2026 non, 26/12/2026 08:00-12:00"),
    Column("silence", "quiet", _text, "22:00-07:00"),
    Column("exercices", "exercise", _choice(_YES), "oui"),
)
_REQUIRED = ("identifiant", "nom", "communes")
_BY_HEADING = {_plain(c.heading): c for c in COLUMNS}


def example() -> str:
    """A table with one row, for a spreadsheet."""
    out = io.StringIO()
    writer = csv.writer(out, delimiter=";", lineterminator="\r\n")
    writer.writerow(c.heading for c in COLUMNS)
    writer.writerow(c.example for c in COLUMNS)
    return "\ufeff" + out.getvalue()


def read(path: Path) -> list[Recipient]:
    """The recipients of a table. Raises ConfigError with one line per fault: file, line, column, found, expected."""
    try:
        data = path.read_bytes()
    except OSError as e:
        raise ConfigError(f"{path}: cannot be read: {e.strerror}") from e
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        text = data.decode("cp1252", "replace")
    head = text.partition("\n")[0]
    delimiter = max(";,\t", key=head.count)
    rows = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)
    bad: list[str] = []
    found: list[Recipient] = []
    lines: dict[str, int] = {}
    try:
        columns = _heading(path, next(rows, []), bad)
        if bad:
            raise ConfigError("\n".join(bad))
        for cells in rows:
            if not any(cell.strip() for cell in cells):
                continue
            line = rows.line_num
            recipient = _row(f"{path}:{line}", columns, [c.strip() for c in cells], bad)
            if recipient is None:
                continue
            if recipient.id in lines:
                bad.append(
                    f"{path}:{line}: identifiant: found {recipient.id!r} also in line {lines[recipient.id]}, expected once"
                )
            lines.setdefault(recipient.id, line)
            found.append(recipient)
    except csv.Error as e:
        bad.append(f"{path}:{rows.line_num}: not CSV: {e}")
    if not found and not bad:
        bad.append(f"{path}: no row, expected one for each recipient")
    if bad:
        raise ConfigError("\n".join(bad))
    return found


def _heading(path: Path, cells: Sequence[str], bad: list[str]) -> list[Column]:
    columns = []
    for cell in cells:
        column = _BY_HEADING.get(_plain(cell))
        if column is None:
            known = ", ".join(c.heading for c in COLUMNS)
            bad.append(f"{path}:1: found the heading {cell.strip()!r}, expected one of {known}")
        elif column in columns:
            bad.append(f"{path}:1: found the heading {cell.strip()!r} twice, expected it once")
        else:
            columns.append(column)
    missing = [h for h in _REQUIRED if h not in {c.heading for c in columns}]
    if missing:
        bad.append(f"{path}:1: found no heading {', '.join(missing)}, expected it")
    return columns


def _row(where: str, columns: Sequence[Column], cells: Sequence[str], bad: list[str]) -> Recipient | None:
    before = len(bad)
    if len(cells) > len(columns) and any(cells[len(columns) :]):
        bad.append(f"{where}: found {len(cells)} cells, expected {len(columns)}")
    values: dict[str, Any] = {}
    for column, cell in zip(columns, cells, strict=False):
        if not cell:
            continue
        try:
            values[column.field] = column.read(cell)
        except ValueError as e:
            bad.append(f"{where}: {column.heading}: found {cell!r}, {e}")
    headings = {c.field: c.heading for c in COLUMNS}
    try:
        made = Recipient.model_validate(values)
    except ValidationError as e:
        told = {line.partition(": ")[2].partition(":")[0] for line in bad[before:]}
        for item in e.errors(include_url=False):
            field = str(item["loc"][0]) if item["loc"] else ""
            heading = headings.get(field, "ligne")
            if heading in told or (not field and told):
                continue  # the cell could not even be read
            told.add(heading)
            what = item["msg"].removeprefix("Value error, ")
            value = values.get(field)
            shown = "nothing" if value is None else repr(cells[columns.index(_BY_HEADING[_plain(heading)])])
            bad.append(f"{where}: {heading}: found {shown}, {_expected(item['type'], field, what)}")
        return None
    return made if len(bad) == before else None


_EXPECTED = {
    "id": "expected a short name of a-z, 0-9 and -, as planu-huy",
    "email": "expected an address, as planu@huy.be",
    "webhook": "expected an address that begins with https://",
    "language": "expected fr, nl, de or en",
    "min_level": "expected 1, 2 or 3",
    "order": "expected 1 to 20",
    "name": "expected 1 to 100 printable characters",
    "communes": "expected communes, or 'toutes'",
    "": "expected téléphone, courriel or webhook, and an address for each of canaux",
}


def _expected(kind: str, field: str, what: str) -> str:
    if field in ("on_call", "exceptions", "quiet"):
        return what.partition(": ")[2] or what
    return _EXPECTED.get(field, f"expected otherwise ({kind}: {what})")
