"""Writes the boards: `python -m grafana.boards [DIRECTORY]`, by default grafana/dashboards beside this file.

The JSON is committed; a test writes it again and compares.
"""

import json
import sys
from collections.abc import Sequence
from pathlib import Path

from grafana import after, air, chain, commune, situation, station

BOARDS = {
    "situation": situation.board,
    "commune": commune.board,
    "station": station.board,
    "air": air.board,
    "chaine": chain.board,
    "apres": after.board,
}


def main(arguments: Sequence[str]) -> None:
    directory = Path(arguments[0]) if arguments else Path(__file__).parent / "dashboards"
    for name, board in BOARDS.items():
        text = json.dumps(board().json(), ensure_ascii=False, indent=2) + "\n"
        (directory / f"{name}.json").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
