"""A relay, beacon or transistor on a pin of the Raspberry Pi, and a push button on another, by gpiozero.

Imported only where a pin is configured: gpiozero looks for the chip when the first pin is taken, not before.
"""

import logging
import threading

from gpiozero import Device, Factory, InputDevice, OutputDevice

from edge.errors import OutputError

log = logging.getLogger(__name__)

_TAKING = threading.Lock()
"""Who takes the first pin loads the chip's library; two threads at once would each find it half loaded and fall back to another."""


class GpioRelay:
    """One output. The pin is taken by the first `set`, already off, and again after a failure."""

    def __init__(self, pin: int, *, active_high: bool = True, factory: Factory | None = None) -> None:
        """`pin` by its GPIO (BCM) number. `active_high` False: the board switches on at 0 V. `factory`: by itself the machine's."""
        self._pin = pin
        self._active_high = active_high
        self._factory = factory
        self._output: OutputDevice | None = None
        self._lost = False

    def set(self, on: bool) -> None:
        """Switch it on or off. Raises OutputError when the pin cannot be had."""
        try:
            if self._output is None:
                with _TAKING:
                    self._output = OutputDevice(self._pin, active_high=self._active_high, pin_factory=self._factory)
            self._output.value = on
        except Exception as e:  # each chip library behind gpiozero raises its own
            self.close()
            if not self._lost:
                self._lost = True
                log.warning("relay GPIO%d: lost: %s", self._pin, e)
            raise OutputError(f"relay GPIO{self._pin}: {e}") from e
        if self._lost:
            self._lost = False
            log.info("relay GPIO%d: back", self._pin)

    def close(self) -> None:
        """Let go of the pin: it floats, and the board's own pull switches the relay off."""
        _close(self._output)
        self._output = None


class GpioContact:
    """A push button between a pin and ground (with the pull-up of the chip), or with `active_high` between the pin and 3.3 V."""

    def __init__(self, pin: int, *, active_high: bool = False, factory: Factory | None = None) -> None:
        """As of GpioRelay."""
        self._pin = pin
        self._active_high = active_high
        self._factory = factory
        self._input: InputDevice | None = None

    def closed(self) -> bool:
        """Whether it is pressed now. Raises OutputError when the pin cannot be had."""
        try:
            if self._input is None:
                with _TAKING:
                    self._input = InputDevice(self._pin, pull_up=not self._active_high, pin_factory=self._factory)
            return bool(self._input.is_active)
        except Exception as e:
            self.close()
            raise OutputError(f"button GPIO{self._pin}: {e}") from e

    def close(self) -> None:
        """Let go of the pin."""
        _close(self._input)
        self._input = None


def _close(device: Device | None) -> None:
    if device is not None:
        device.close()
