"""A node: values become Cayenne LPP, sealed, as hexadecimal text over its RYLR998 (REYAX, LoRa AT Command Guide)."""

import struct
from binascii import hexlify

import ccm


def temperature(channel, celsius):
    return struct.pack(">BBh", channel, 0x67, round(celsius * 10))


def voltage(channel, volts):
    return struct.pack(">BBH", channel, 0x74, round(volts * 100))


def distance(channel, metres):
    return struct.pack(">BBI", channel, 0x82, round(metres * 1000))


class Modem:
    """A RYLR998 on a UART whose `readline` returns a line, or nothing after a time-out of 2 s."""

    def __init__(self, uart):
        self._uart = uart

    def set_up(self, settings):
        """Bring it to settings such as "BAND=868200000"; its flash is written only where they differ."""
        for setting in settings:
            name = setting.split("=")[0]
            if self.ask("AT+" + name + "?") != "+" + setting:
                self.ask("AT+" + setting)

    def send(self, address, packet):
        """Whether the modem has sent it. A packet has at most 120 bytes: 240 characters."""
        text = hexlify(packet).decode().upper()
        return self.ask("AT+SEND=%d,%d,%s" % (address, len(text), text)) == "+OK"

    def ask(self, command):
        """Its answer, empty without one. What it heard from others meanwhile is passed over."""
        self._uart.write((command + "\r\n").encode())
        while True:
            line = self._uart.readline()
            if not line:
                return ""
            line = line.strip()
            if line and line[:5] != b"+RCV=" and line[:6] != b"+READY":
                return line.decode()


class Node:
    """`told` is what `maillages-edge radio rekey` wrote: node, gateway, settings. `encrypt` is AES-ECB under its key."""

    def __init__(self, told, modem, encrypt, counter):
        self._node = told["node"]
        self._gateway = told["gateway"]
        self._settings = told["settings"]
        self._modem = modem
        self._encrypt = encrypt
        self._counter = counter

    def send(self, payload):
        """Seal and send; once more, under a new counter, when the modem did not answer or lost its settings. Whether it went."""
        for _ in range(2):
            self._modem.set_up(self._settings)
            sealed = ccm.packet(self._encrypt, self._node, self._counter.next(), payload)
            if self._modem.send(self._gateway, sealed):
                return True
        return False
