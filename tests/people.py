"""Who is told in a test."""

from pathlib import Path
from typing import Any

from central.notify.recipients import Recipient, Recipients

PLANNER = {
    "id": "planu-huy",
    "name": "Coordinateur planification d'urgence, Huy",
    "role": "planu",
    "communes": ["61031"],
    "email": "planu@example.be",
}


def tell(data_dir: Path, *people: dict[str, Any]) -> None:
    """These people, or the planner of Huy, stand in the file of a central with that data directory."""
    Recipients(data_dir).save(Recipient.model_validate(p) for p in people or (PLANNER,))
