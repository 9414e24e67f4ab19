# ruff: noqa: S608 - the queries are made of constants of these files
"""The chain itself: gateways, link, broker, database, what is missing, how late it is, and what became of the messages."""

from grafana.model import (
    AGE,
    BLUE,
    CALM,
    HIDDEN,
    LEGEND,
    LEVEL_1,
    LEVEL_2,
    LEVEL_3,
    NEUTRAL,
    NOTHING,
    NUMBER,
    PRESENT,
    SEEN,
    SILENT,
    TIMELINE,
    UNKNOWN,
    Board,
    Json,
    Panel,
    Target,
    cells,
    fixed,
    lines,
    stat,
    states,
    table,
    thresholds,
    tile,
    values,
)  # fmt: skip
from grafana.parts import CHAIN, annotations


def central(
    panel: int, title: str, what: str, at: tuple[int, int, int, int], column: str, defaults: Json, scale: str = ""
) -> Panel:
    return Panel(
        id=panel,
        kind="stat",
        title=title,
        description=what,
        at=at,
        targets=[Target(f'SELECT last("{column}"){scale} AS "Valeur" FROM "central_status" WHERE $timeFilter')],
        options=stat(),
        defaults=defaults,
        time=PRESENT,
    )


def bad_from(one: float, empty: str = "Inconnu") -> Json:
    return tile("none", thresholds((0, CALM), (one, LEVEL_3), base=NEUTRAL), empty)


OFFLINE: Json = {
    "mappings": [values({"1": "oui", "0": "HORS LIGNE"}, {"0": SILENT})],
    "custom.cellOptions": {"type": "color-text"},
}


def links(panel: int, at: tuple[int, int, int, int]) -> Panel:
    inner = 'SELECT last("online") AS "en_ligne", "heard_s", "delay_s" FROM "gateway_status" WHERE $timeFilter GROUP BY "gateway"'
    return Panel(
        id=panel,
        kind="table",
        title="Liaison, vue du central",
        description=(
            "Par passerelle enregistrée : en ligne ou non, depuis quand elle n'a plus rien dit, et le retard de ses mesures en direct "
            "(de la mesure à la confirmation de la base, le plus long de la dernière minute)."
        ),
        at=at,
        targets=[
            Target(
                f'SELECT "gateway" AS "Passerelle", "en_ligne" AS "En ligne", "heard_s" AS "Entendue il y a", "delay_s" AS "Retard" '
                f"FROM ({inner})"
            )
        ],
        options=table(("En ligne", False), ("Entendue il y a", True)),
        defaults=cells("Aucun état du central depuis 10 minutes"),
        overrides={
            "Time": HIDDEN,
            "En ligne": OFFLINE,
            "Entendue il y a": AGE,
            "Retard": NUMBER | {"unit": "suffix: s", "decimals": 1},
        },
        time=PRESENT,
    )


def health(panel: int, at: tuple[int, int, int, int]) -> Panel:
    inner = (
        'SELECT last("journal_depth") AS "depth", "unconfirmed_s", "clock_synchronised", "disk_free_percent", "cpu_temperature", '
        '"under_voltage", "sms_unusable", "uptime_s" FROM "gateway_health" WHERE $timeFilter GROUP BY "gateway"'
    )
    return Panel(
        id=panel,
        kind="table",
        title="Santé, dite par chaque passerelle",
        description=(
            "Ce que chaque passerelle dit d'elle-même, la dernière fois dans les dix minutes : mesures en attente et depuis quand rien "
            "n'en est confirmé, horloge, disque, température, alimentation, modem SMS. Une passerelle absente ici se tait."
        ),
        at=at,
        targets=[
            Target(
                'SELECT "gateway" AS "Passerelle", "depth" AS "En attente", "unconfirmed_s" AS "Depuis", '
                '"clock_synchronised" AS "Horloge", '
                '"disk_free_percent" AS "Disque libre", "cpu_temperature" AS "Processeur", "under_voltage" AS "Alimentation", '
                f'"sms_unusable" AS "Modem SMS", "uptime_s" AS "Démarrée il y a" FROM ({inner})'
            )
        ],
        options=table(("En attente", True)),
        defaults=cells("Aucune passerelle n'a parlé depuis 10 minutes, ou le central est muet"),
        overrides={
            "Time": HIDDEN,
            "En attente": {"decimals": 0, "thresholds": thresholds((500, LEVEL_1), (5000, LEVEL_3), base=NEUTRAL)}
            | UNKNOWN,
            "Depuis": AGE,
            "Horloge": UNKNOWN | {"mappings": [values({"1": "juste", "0": "NON RÉGLÉE"}, {"0": LEVEL_3}), NOTHING]},
            "Disque libre": NUMBER | {"unit": "percent", "decimals": 0},
            "Processeur": NUMBER | {"unit": "celsius", "decimals": 0},
            "Alimentation": UNKNOWN
            | {"mappings": [values({"0": "bonne", "1": "SOUS-TENSION"}, {"1": LEVEL_3}), NOTHING]},
            "Modem SMS": UNKNOWN | {"mappings": [values({"0": "prêt", "1": "INUTILISABLE"}, {"1": LEVEL_3}), NOTHING]},
            "Démarrée il y a": AGE,
        },
        time=PRESENT,
    )


def per_gateway(
    panel: int, title: str, what: str, at: tuple[int, int, int, int], query: str, unit: str, empty: str
) -> Panel:
    return Panel(
        id=panel,
        kind="timeseries",
        title=title,
        description=what,
        at=at,
        targets=[
            Target(
                f'SELECT {query} WHERE $timeFilter GROUP BY time($__interval), "gateway" fill(none)',
                table=False,
                alias="$tag_gateway",
            )
        ],
        options=LEGEND,
        defaults=lines(unit, empty, decimals=0) | {"min": 0},
    )


def online(panel: int, at: tuple[int, int, int, int]) -> Panel:
    return Panel(
        id=panel,
        kind="state-timeline",
        title="Passerelles en ligne",
        description="Vert : en ligne. Violet : hors ligne. Non dessiné : le central lui-même n'écrivait pas.",
        at=at,
        targets=[
            Target(
                'SELECT min("online") FROM "gateway_status" WHERE $timeFilter GROUP BY time($__interval), "gateway" fill(none)',
                table=False,
                alias="$tag_gateway",
            )
        ],
        options=TIMELINE,
        defaults=states(
            "Aucun état du central sur cette période",
            values({"1": "en ligne", "0": "HORS LIGNE"}),
            limits=thresholds((1, CALM), base=SILENT),
        ),
    )


def messages(panel: int, at: tuple[int, int, int, int]) -> Panel:
    def per_hour(column: str, name: str, ref: str) -> Target:
        return Target(
            f'SELECT sum("{column}") AS "{name}" FROM "message" WHERE $timeFilter GROUP BY time(1h) fill(none)',
            ref=ref,
            table=False,
            alias="$col",
        )

    stacked: Json = {"stacking": {"mode": "normal", "group": "A"}}
    return Panel(
        id=panel,
        kind="timeseries",
        title="Messages par heure",
        description="SMS et courriels du central, par heure : pris par le réseau, ou non (échec, ou issue inconnue).",
        at=at,
        targets=[per_hour("accepted", "Envoyés", "A"), per_hour("failed", "Échecs", "B")],
        options=LEGEND,
        defaults=lines("none", "Aucun message sur cette période", decimals=0, draw="bars", **stacked),
        overrides={"Envoyés": fixed(CALM), "Échecs": fixed(LEVEL_3)},
    )


def completeness(panel: int, at: tuple[int, int, int, int]) -> Panel:
    share = 'SELECT 1.0 * "stored" / "expected" AS "part" FROM "completeness" WHERE "expected" > 0 AND $timeFilter GROUP BY "station"'
    return Panel(
        id=panel,
        kind="status-history",
        title="Mesures reçues par station et par jour, 30 jours",
        description=(
            "Part des mesures attendues que la base contient, par station et par jour. Ce qui manque n'est pas zéro : un jour sans "
            "case n'a pas encore été compté."
        ),
        at=at,
        targets=[
            Target(
                f'SELECT mean("part") FROM ({share}) WHERE $timeFilter GROUP BY time(1d), "station" fill(none) tz(\'Europe/Brussels\')',
                table=False,
                alias="$tag_station",
            )
        ],
        options={
            "showValue": "auto",
            "rowHeight": 0.85,
            "colWidth": 0.9,
            "legend": {"showLegend": False, "displayMode": "list", "placement": "bottom"},
            "tooltip": {"mode": "single"},
        },
        defaults={
            "unit": "percentunit",
            "decimals": 0,
            "noValue": "Aucun décompte quotidien n'a encore été écrit",
            "color": {"mode": "thresholds"},
            "thresholds": thresholds((0.75, LEVEL_2), (0.9, LEVEL_1), (0.98, CALM), base=LEVEL_3),
            "custom": {"fillOpacity": 80, "lineWidth": 1},
        },
        time="30d",
    )


def broker(panel: int, at: tuple[int, int, int, int]) -> Panel:
    def course(column: str, name: str, ref: str) -> Target:
        return Target(
            f'SELECT max("{column}") AS "{name}" FROM "central_status" WHERE $timeFilter GROUP BY time($__interval) fill(none)',
            ref=ref,
            table=False,
            alias="$col",
        )

    return Panel(
        id=panel,
        kind="timeseries",
        title="Courtier MQTT",
        description=(
            "Ce que le courtier dit de lui-même ($SYS) : clients connectés et messages gardés pour des clients. Vide : le courtier ne "
            "laisse pas le central lire $SYS."
        ),
        at=at,
        targets=[course("broker_clients", "Clients", "A"), course("broker_stored", "Messages gardés", "B")],
        options=LEGEND,
        defaults=lines("none", "Le courtier ne dit rien ($SYS)", decimals=0) | {"min": 0},
        overrides={"Clients": fixed(CALM), "Messages gardés": fixed(BLUE)},
    )


def radio(panel: int, title: str, at: tuple[int, int, int, int], quantity: str, unit: str, empty: str) -> Panel:
    return Panel(
        id=panel,
        kind="timeseries",
        title=title,
        description="Par station, le minimum de chaque intervalle. Les stations filaires n'y sont pas.",
        at=at,
        targets=[
            Target(
                f'SELECT min("value") FROM "{quantity}" WHERE $timeFilter GROUP BY time($__interval), "station" fill(none)',
                table=False,
                alias="$tag_station",
            )
        ],
        options=LEGEND,
        defaults=lines(unit, empty, decimals=2 if unit == "volt" else 0, gap_ms=3_600_000),
    )


def board() -> Board:
    last = 'SELECT last("online") AS "on" FROM "gateway_status" WHERE $timeFilter GROUP BY "gateway"'
    return Board(
        uid=CHAIN,
        title="5 Chaîne",
        description="Passerelles, liaisons, courtier, base de données, retards, mesures manquantes, messages.",
        annotations=annotations("Pannes"),
        panels=[
            Panel(
                id=1,
                kind="stat",
                title="Passerelles",
                description="Passerelles enregistrées, en ligne et hors ligne, au dernier état écrit par le central.",
                at=(0, 0, 6, 4),
                targets=[
                    Target(
                        f'SELECT sum("on") AS "En ligne", sum("off") AS "Hors ligne" FROM (SELECT "on", 1 - "on" AS "off" FROM ({last})) '
                        "WHERE $timeFilter"
                    )
                ],
                options=stat("value_and_name"),
                defaults=tile("none", thresholds((1, CALM), base=NEUTRAL), "Aucun état depuis 10 minutes"),
                overrides={"Hors ligne": {"thresholds": thresholds((1, SILENT), base=NEUTRAL)}},
                time=PRESENT,
            ),
            Panel(
                id=2,
                kind="stat",
                title="Base de données",
                description="Heure de la dernière écriture du central. « MUET » : rien depuis dix minutes, central ou base en panne.",
                at=(6, 0, 3, 4),
                targets=[Target('SELECT last("alarms_open") AS "Valeur" FROM "central_status" WHERE $timeFilter')],
                options=stat(fields="/^Time$/"),
                defaults=SEEN,
                time=PRESENT,
            ),
            central(
                3, "Alarmes sans réponse", "Alarmes ouvertes dont personne n'a pris acte, toutes communes.", (9, 0, 3, 4),
                "alarms_unanswered", bad_from(1),
            ),
            central(
                4, "Messages en attente", "SMS et courriels qui ne sont pas encore partis.", (12, 0, 3, 4), "messages_waiting",
                tile("none", thresholds((0, CALM), (1, LEVEL_1), (10, LEVEL_3), base=NEUTRAL), "Inconnu"),
            ),
            central(
                5, "Échecs, 24 heures", "Messages qui n'ont pas pu partir, ou dont l'issue est inconnue, depuis un jour.", (15, 0, 3, 4),
                "messages_failed", bad_from(1),
            ),
            central(
                6, "Clients du courtier", "Clients MQTT connectés, passerelles et central compris.", (18, 0, 3, 4), "broker_clients",
                tile("none", thresholds(base=NEUTRAL), "Courtier muet"),
            ),
            central(
                7, "Messages perdus", "Messages que le courtier a jetés depuis son démarrage ; les passerelles les renvoient.",
                (21, 0, 3, 4), "broker_dropped", bad_from(1, "Courtier muet"),
            ),
            links(8, (0, 4, 9, 8)),
            health(9, (9, 4, 15, 8)),
            online(10, (0, 12, 12, 7)),
            per_gateway(
                11, "Mesures en attente sur les passerelles", "Profondeur du journal : mesures que le central n'a pas encore confirmées.",
                (12, 12, 12, 7), 'max("journal_depth") FROM "gateway_health"', "none", "Aucune passerelle n'a parlé sur cette période",
            ),
            per_gateway(
                12, "Retard des mesures en direct", "De la mesure à la confirmation de la base, le plus long de chaque intervalle.",
                (0, 19, 8, 7), 'max("delay_s") FROM "gateway_status"', "s", "Aucune mesure en direct sur cette période",
            ),
            messages(13, (8, 19, 8, 7)),
            broker(14, (16, 19, 8, 7)),
            completeness(15, (0, 26, 24, 9)),
            radio(16, "Signal radio", (0, 35, 12, 7), "rssi", "dBm", "Aucune station radio sur cette période"),
            radio(17, "Batteries", (12, 35, 12, 7), "battery_voltage", "volt", "Aucune station sur batterie sur cette période"),
        ],
    )  # fmt: skip
