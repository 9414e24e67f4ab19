"""Sensors that the kernel shows as a file (1-Wire): each reading is the file's text at that moment."""

from pathlib import Path

from common.clock import Clock
from edge.errors import PortError
from edge.sensors.base import Field
from edge.transports.base import Source
from edge.transports.poll import Polled
from edge.transports.port import Port


class FilePort(Port):
    """A path instead of a device: nothing stays open between two reads."""

    def __init__(self, path: str, clock: Clock) -> None:
        super().__init__(path, 0, clock)

    def open(self) -> None:
        """Nothing to do: the file of a sensor comes and goes with it."""

    def read(self) -> bytes:
        """The whole text; `wall_s` and `boot_s` say when it was there. Raises PortError."""
        try:
            text = Path(self.url).read_bytes()
        except OSError as e:
            raise PortError(f"file {self.url} cannot be read: {e.strerror}") from e
        self.wall_s, self.boot_s = self._clock.wall(), self._clock.boot()
        return text


class FileRead(Polled):
    """Reads its file when it is due."""

    def _ask(self, source: Source) -> list[Field]:
        return self._decode(source.driver, source.options, self._read())
