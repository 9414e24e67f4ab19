"""`maillages-edge`. A gateway begins here, without the library of the command line, whose 2.4 MB it would carry for months; so each
way imports only what it needs."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from common.clock import Clock


def main() -> None:
    match sys.argv[1:]:
        case ["run", "-c" | "--config", path]:
            sys.exit(run(Path(path)))
        case _:
            from edge.cli import main as cli

            cli()


def run(path: Path, exercise: "Clock | None" = None) -> int:
    """Run the gateway of an edge.toml until SIGTERM. Gives the exit code: 2 for what it refuses, which is said on stderr."""
    import logging

    from common.clock import Clock
    from edge import service
    from edge.config import load
    from edge.errors import EdgeError, told

    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s: %(message)s")
    try:
        settings = load(path)
        service.run(settings, exercise or Clock(trust=settings.clock.trust), path)
    except EdgeError as e:
        sys.stderr.write(told(path, e) + "\n")
        return 2
    return 0
