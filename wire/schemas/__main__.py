"""Write the schemas beside this file, and take away those of payloads that are no more."""

import json
from pathlib import Path

from wire.schemas import documents


def main() -> None:
    folder = Path(__file__).parent
    for old in folder.glob("*.schema.json"):
        if old.name not in documents():
            old.unlink()
    for name, schema in documents().items():
        (folder / name).write_text(json.dumps(schema, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
