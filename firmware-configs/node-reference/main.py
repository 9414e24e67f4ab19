"""A level node on a Raspberry Pi Pico: RYLR998 on UART 0 (GP0, GP1), A02YYUW on UART 1 (GP4, GP5), battery at VSYS.

Starts by itself after a reset. Values are sent as channel 1 distance, channel 2 battery voltage; without an answer of the
sensor only the battery is sent, so that the gateway knows that the node lives and its sensor does not.
"""

import json
import random
import time

import cryptolib
import machine
from counter import Counter
from node import Modem, Node, distance, voltage

FIRST_S = 10  # a battery that fails at each transmission must not write flash every second
FARTHEST_MM = 4500
_ECB = 1

with open("node.json") as file:
    told = json.load(file)
aes = cryptolib.aes(bytes.fromhex(told["key"]), _ECB)
radio = machine.UART(0, 115200, tx=machine.Pin(0), rx=machine.Pin(1), timeout=2000)
level = machine.UART(1, 9600, tx=machine.Pin(4), rx=machine.Pin(5), timeout=300)
vsys = machine.ADC(29)
modem = Modem(radio)
node = Node(told, modem, aes.encrypt, Counter())


def measure():
    """Metres to the water by an A02YYUW, None without a frame: FF, millimetres high and low, sum."""
    level.read()  # what came while asleep
    data = b""
    for _ in range(10):
        data += level.read(4) or b""
        start = data.find(b"\xff")
        frame = data[start : start + 4] if start >= 0 else b""
        if len(frame) == 4:
            millimetres = frame[1] << 8 | frame[2]
            if (frame[0] + frame[1] + frame[2]) & 0xFF == frame[3]:
                # 0 is no echo, and beyond its range there is none; up to 30 mm the water has reached it, which must be told.
                return millimetres / 1000 if 0 < millimetres <= FARTHEST_MM else None
            data = data[start + 1 :]
    return None


def once():
    metres = measure()
    payload = b"" if metres is None else distance(1, metres)
    node.send(payload + voltage(2, vsys.read_u16() * 3.3 * 3 / 65535))


time.sleep(min(FIRST_S, told["period_s"]))
while True:
    try:
        once()
    except OSError as e:  # flash or UART: the next period tries again
        print(e)
    modem.ask("AT+MODE=1")  # the modem sleeps; MODE=0 is the first of its settings
    # A little later each time, so that two nodes do not meet for ever.
    machine.lightsleep(int(told["period_s"] * 1000 * (1 + random.random() / 20)))
