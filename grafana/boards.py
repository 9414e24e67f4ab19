"""Writes boards and alert rules: `python -m grafana.boards [DIRECTORY]`, by default where this file is.

The JSON is committed; a test writes it again and compares.
"""

import json
import sys
from collections.abc import Sequence
from pathlib import Path

from grafana import after, air, alerts, chain, commune, situation, station
from grafana.model import Json

BOARDS = {
    "situation": situation.board,
    "commune": commune.board,
    "station": station.board,
    "air": air.board,
    "chaine": chain.board,
    "apres": after.board,
}


def text(made: Json) -> str:
    return json.dumps(made, ensure_ascii=False, indent=2) + "\n"


def main(arguments: Sequence[str]) -> None:
    directory = Path(arguments[0]) if arguments else Path(__file__).parent
    (directory / "dashboards").mkdir(exist_ok=True)
    for name, board in BOARDS.items():
        (directory / "dashboards" / f"{name}.json").write_text(text(board().json()), encoding="utf-8")
    rules = directory / "provisioning" / "alerting" / "maillages.json"
    rules.parent.mkdir(parents=True, exist_ok=True)
    rules.write_text(text(alerts.provisioning()), encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
