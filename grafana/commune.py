# ruff: noqa: S608 - the queries are made of constants of these files
"""Everything of one commune, the stations upstream of it first, who was told and who has answered."""

from grafana.model import (
    BLUE,
    CALM,
    HIDDEN,
    LEVEL_2,
    LEVEL_3,
    LEVEL_CELL,
    NEUTRAL,
    NUMBER,
    PRESENT,
    UNKNOWN,
    Board,
    Json,
    Panel,
    Target,
    cells,
    stat,
    table,
    thresholds,
    tile,
    values,
)  # fmt: skip
from grafana.parts import (
    CHANNELS_FR,
    COMMUNE,
    QUANTITY,
    RESULTS_FR,
    STATES_FR,
    TO_STATION,
    TRANSITIONS_FR,
    annotations,
    columns,
    commune_variable,
    last_status,
)  # fmt: skip
from grafana.situation import count_tiles, level_timeline, share_lines

HERE = '"commune" =~ /^$commune$/'
UPSTREAM = '"downstream" =~ /$commune/'
MOMENT: Json = {"displayName": "Heure", "unit": "time:DD/MM HH:mm:ss", "custom.width": 135}


def stations(panel: int, title: str, what: str, empty: str, at: tuple[int, int, int, int], where: str) -> Panel:
    inner = last_status(
        "level", "value", "next_threshold", "next_level_s", "trend_per_h", "age_s", "acked_by", "name", where=where
    )
    return Panel(
        id=panel,
        kind="table",
        title=title,
        description=what,
        at=at,
        targets=[
            Target(
                'SELECT "level" AS "Seuil", "name" AS "Station", "commune" AS "Commune", "value" AS "Niveau (m)", '
                '"trend_per_h" * 100 AS "Tendance", "next_threshold" AS "Seuil suivant (m)", "next_level_s" / 60 AS "Dans", '
                f'"age_s" AS "Âge", "acked_by" AS "Répondu par", "en_ligne" AS "En ligne", "station" FROM ({inner})'
            )
        ],
        options=table(("Seuil", True), ("Dans", False)),
        defaults=cells(empty),
        overrides=columns("Seuil", "Station", "Commune", "Tendance", "Dans", "Âge", "Répondu par", "En ligne")
        | {
            "Niveau (m)": NUMBER | {"decimals": 2},
            "Seuil suivant (m)": NUMBER | {"decimals": 2},
        },
        time=PRESENT,
    )


def number(
    panel: int,
    title: str,
    what: str,
    at: tuple[int, int, int, int],
    query: str,
    color: str,
    empty: str,
    span: str | None = None,
) -> Panel:
    return Panel(
        id=panel,
        kind="stat",
        title=title,
        description=what,
        at=at,
        targets=[Target(query)],
        options=stat(),
        defaults=tile("none", thresholds((0, CALM if color == LEVEL_3 else NEUTRAL), (1, color), base=NEUTRAL), empty),
        time=span,
    )


def other_quantities(at: tuple[int, int, int, int]) -> Panel:
    inner = last_status("level", "value", "age_s", "name", where=f"{HERE} AND \"quantity\" != 'water_level'")
    return Panel(
        id=6,
        kind="table",
        title="Autres grandeurs de la commune",
        description="Air, pluie, températures, alimentation : la dernière valeur de chaque grandeur, son âge et le seuil local atteint.",
        at=at,
        targets=[
            Target(
                'SELECT "name" AS "Station", "quantity" AS "Grandeur", "value" AS "Valeur", "level" AS "Seuil", "age_s" AS "Âge", '
                f'"station" FROM ({inner})'
            )
        ],
        options=table(("Station", False)),
        defaults=cells("Aucune autre grandeur dans cette commune, ou le central est muet"),
        overrides=columns("Station", "Grandeur", "Seuil", "Âge") | {"Valeur": NUMBER | {"decimals": 1}},
        time=PRESENT,
    )


def told(panel: int, at: tuple[int, int, int, int], where: str, *, brief: bool = False) -> Panel:
    """Messages; `brief`: without why one could not go, so that the text has room."""
    return Panel(
        id=panel,
        kind="table",
        title="Qui a été prévenu",
        description=(
            "Chaque message du central : à qui, par quelle voie, ce qu'il en est advenu et le texte du SMS, ou l'objet du courriel, "
            "tel qu'il a été envoyé. « Envoyé » : le réseau l'a pris, cela ne dit pas qu'il a été lu. Les SMS qu'une passerelle "
            "envoie elle-même sont dans les événements d'alarme."
        ),
        at=at,
        targets=[
            Target(
                'SELECT "recipient" AS "Destinataire", "channel" AS "Voie", "result" AS "Résultat", "text" AS "Texte envoyé", '
                f'"reason" AS "Motif" FROM "message" WHERE {where} AND $timeFilter ORDER BY time DESC LIMIT 200'
            )
        ],
        options=table(("Heure", True)),
        defaults=cells("Aucun message sur cette période"),
        overrides={
            "Time": MOMENT,
            "Destinataire": {"custom.width": 205},
            "Voie": {"mappings": [values(CHANNELS_FR)], "custom.width": 80},
            "Résultat": {
                "mappings": [values(RESULTS_FR, {"failed": LEVEL_3, "unknown": LEVEL_2, "accepted": CALM})],
                "custom.cellOptions": {"type": "color-text"},
                "custom.width": 90,
            },
            "Texte envoyé": UNKNOWN
            | {"custom.inspect": True, "custom.cellOptions": {"type": "auto", "wrapText": True}},
            "Motif": HIDDEN if brief else UNKNOWN | {"custom.width": 90},
        },
    )


def events(
    panel: int,
    title: str,
    at: tuple[int, int, int, int],
    where: str,
    *,
    newest_first: bool = True,
    of_one: bool = False,
    measured: bool = True,
) -> Panel:
    """Alarm events. `of_one`: of one station, whose name is not repeated. `measured`: with the values, which answers have not."""
    value = '"value" AS "Valeur", "quantity" AS "Grandeur", ' if measured else ""
    value_columns = {
        "Valeur": NUMBER | {"decimals": 2, "custom.width": 80},
        "Grandeur": QUANTITY | {"custom.width": 140},
    }
    return Panel(
        id=panel,
        kind="table",
        title=title,
        description="Chaque passage d'une alarme : survenue, aggravation, réponse (par qui), fin, messages des passerelles.",
        at=at,
        targets=[
            Target(
                'SELECT "station", "text" AS "Événement", "transition" AS "Passage", "level" AS "Seuil", '
                f'{value}"state" AS "État" FROM "alarm" WHERE {where}$timeFilter '
                f"ORDER BY time {'DESC' if newest_first else 'ASC'} LIMIT 200"
            )
        ],
        options=table(("Heure", newest_first)),
        defaults=cells("Aucun événement d'alarme sur cette période"),
        overrides={
            "Time": MOMENT,
            "station": HIDDEN if of_one else TO_STATION | {"displayName": "Station", "custom.width": 150},
            "Événement": {"custom.inspect": True},
            "Passage": {"mappings": [values(TRANSITIONS_FR, {"ack": BLUE})], "custom.width": 110},
            "Seuil": LEVEL_CELL,
            "État": {"mappings": [values(STATES_FR)], "custom.width": 150},
        }
        | (value_columns if measured else {}),
    )


def board() -> Board:
    silent = last_status("age_s")
    return Board(
        uid=COMMUNE,
        title="2 Commune",
        description="Une commune : l'amont d'abord, ses stations, qui a été prévenu et qui a répondu.",
        variables=[commune_variable(several=False)],
        annotations=annotations("Seuil local 3", "Pannes"),
        panels=[
            count_tiles((0, 0, 12, 4)),
            number(
                2,
                "Alarmes sans réponse",
                "Grandeurs de la commune dont une alarme est ouverte sans que personne n'en ait pris acte.",
                (12, 0, 4, 4),
                f'SELECT sum("unanswered") AS "Sans réponse" FROM ({last_status("unanswered")}) WHERE $timeFilter',
                LEVEL_3,
                "Inconnu",
                PRESENT,
            ),
            number(
                3,
                "Messages envoyés",
                "Messages du central pour cette commune que le réseau a pris, sur la période choisie en haut.",
                (16, 0, 4, 4),
                f'SELECT sum("accepted") AS "Envoyés" FROM "message" WHERE {HERE} AND $timeFilter',
                BLUE,
                "Aucun",
            ),
            Panel(
                id=4,
                kind="stat",
                title="Mesure la plus récente",
                description="Âge de la mesure la plus récente des stations de la commune.",
                at=(20, 0, 4, 4),
                targets=[Target(f'SELECT min("age_s") / 60 AS "Âge" FROM ({silent}) WHERE $timeFilter')],
                options=stat(),
                defaults=tile(
                    "suffix: min", thresholds((0, CALM), (15, LEVEL_2), (60, LEVEL_3), base=NEUTRAL), "Inconnu"
                ),
                time=PRESENT,
            ),
            stations(
                5,
                "En amont : ce qui vient vers la commune",
                "Stations dont l'eau atteint ensuite cette commune (`downstream` dans la configuration du central), d'où que ce soit.",
                "Aucune station en amont n'est déclarée pour cette commune, ou le central est muet",
                (0, 4, 24, 6),
                f"\"quantity\" = 'water_level' AND {UPSTREAM}",
            ),
            stations(
                7,
                "Dans la commune : niveaux d'eau",
                "Stations de niveau d'eau de la commune, la plus haute d'abord.",
                "Aucune station de niveau d'eau dans cette commune, ou le central est muet",
                (0, 10, 24, 6),
                f"\"quantity\" = 'water_level' AND {HERE}",
            ),
            share_lines(8, "Niveaux en amont", (0, 16, 8, 8), None, UPSTREAM),
            share_lines(9, "Niveaux de la commune", (8, 16, 8, 8), None, HERE),
            level_timeline(10, (16, 16, 8, 8), HERE),
            told(11, (0, 24, 24, 8), HERE),
            events(12, "Qui a répondu", (0, 32, 15, 8), f"{HERE} AND \"transition\" = 'ack' AND ", measured=False),
            other_quantities((15, 32, 9, 8)),
        ],
    )
