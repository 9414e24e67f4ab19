"""MicroPython's `machine` for a Pico on this machine: its UARTs are the serial ports of UART0 and UART1 (environment)."""

import os
import time

import serial


class Pin:
    def __init__(self, number):
        self.number = number


class UART:
    """As MicroPython's: what has not come within the time-out is None."""

    def __init__(self, number, baudrate, tx, rx, timeout):  # noqa: ARG002 - pins are the port's
        self._port = serial.Serial(os.environ[f"UART{number}"], baudrate, timeout=timeout / 1000)

    def write(self, data):
        return self._port.write(data)

    def read(self, size=None):
        return self._port.read(self._port.in_waiting if size is None else size) or None

    def readline(self):
        return self._port.readline() or None


class ADC:
    def __init__(self, number):
        self.number = number

    def read_u16(self):
        return 26214  # 3.96 V at VSYS, which is divided by three


def lightsleep(milliseconds):
    time.sleep(milliseconds / 1000)
