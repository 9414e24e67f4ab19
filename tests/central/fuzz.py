"""Hostile input for central: `scripts/fuzz central [--inputs N] [--seed S] [--minutes M] [TARGET ...]`.

An input is a golden payload, the example of a table or of central.toml, or a golden payload that is to be refused. Of JSON and CBOR one
in two is changed as a tree: members lost, renamed, given values of another type, too large, too deep, not finite, with characters
that are none; of everything else the bytes are changed, lost, repeated or put in. What may come of it is a result or a refusal with
its reason; never another exception, nor the catch-all of a worker. An event that is accepted is put into words, all of them.
Memory is looked at after the first tenth and at the end.
"""

import argparse
import copy
import gc
import json
import logging
import os
import random
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import cbor2

import common.config
from central.config import CentralConfig, Station, example
from central.errors import ConfigError
from central.ingest import Decoder
from central.mqtt import Received
from central.notify import mail, table
from central.registry import Registry
from common import gsm7, texts
from common.clock import Clock
from common.texts import Place
from wire import alarm, senml
from wire.errors import WireError
from wire.station import Active, GatewayStatus, Stations, parse_as

GOLDEN = Path(__file__).parent.parent / "wire" / "golden"
GROWTH_BYTES = 4 << 20
"""Of the process over nine tenths of the inputs."""
LONGEST_REASON = 20_000
_PAGE = os.sysconf("SC_PAGE_SIZE")
_GATEWAY = "gw-huy-01"
_NUMBERED = {"journal": "j", "first": "1", "last": "2", "lane": "live"}
_NASTY: list[Any] = [
    None, True, 0, -1, 2**53, 2**64, 10**400, 0.0, -0.0, 1e308, 1e-308, float("nan"), float("inf"), "", " ", "\0", "é\u202e", "\ud800",
    "a" * 5000, "../../etc/passwd", "2026-07-14T18:05:00", "9999-12-31T23:59:59.999Z", "0001-01-01T00:00:00+14:00", "{text}",
    "%s%n", "'; --", [], {}, [[]], {"a": {}}, -(2**63), "1e999", "NaN",
]  # fmt: skip


class Target(NamedTuple):
    """`one` raises only what `refusals` has; gives whether the input was accepted."""

    seeds: list[bytes]
    one: Callable[[bytes], bool]
    form: str


class Refused(Exception):
    """With its reason."""


class Result(NamedTuple):
    inputs: int
    accepted: int
    refused: int
    grown: int


def _seeds(*names: str) -> list[bytes]:
    found = [path for name in names for path in sorted(GOLDEN.glob(f"*/{name}"))]
    assert found, names
    return [bytes.fromhex(_hex(p.read_text())) if p.suffix == ".hex" else _payload(p) for p in found]


def _payload(path: Path) -> bytes:
    return (
        json.dumps(json.loads(path.read_bytes())["payload"]).encode()
        if path.parent.name == "refused"
        else path.read_bytes()
    )


def _hex(text: str) -> str:
    """Without its remarks."""
    return "".join(line.partition("#")[0] for line in text.splitlines())


def _decoded(content: str, leaf: str) -> Callable[[bytes], bool]:
    stations = tuple(
        Station(id=i, gateway=_GATEWAY, commune="61031", name=i)
        for i in ("geer-waremme", "hoyoux-huy", "mehaigne-moha")
    )
    decoder = Decoder(Registry(stations, None), Clock(trust="always"))  # type: ignore[arg-type]

    def one(raw: bytes) -> bool:
        properties = _NUMBERED if raw[-1:] < b"\x80" else {}
        out = decoder.decode(Received(f"maillages/v1/{_GATEWAY}/{leaf}", raw, content, None, properties, False, 1, 1))
        for letter in out.letters:
            _reasoned(letter.reason)
            assert not letter.reason.startswith("cannot be decoded"), letter.reason
        kept = sum(len(letter.payload) for letter in out.letters)
        assert kept <= 20 * (len(raw) + 200), f"{kept} bytes of letters"
        return bool(out.points or out.held)

    return one


def _alarm(raw: bytes) -> bool:
    try:
        event = alarm.parse(raw)
    except WireError as e:
        raise Refused(str(e)) from e
    place = Place("Huy, pont du Hoyoux", "Hoyoux", None)
    for language in ("fr", "en", "nl", "de"):
        text = texts.sms(event, place, raised_s=1.7e9, answerable=True, language=language)
        assert gsm7.septets(text) <= gsm7.SINGLE, text
        mail.mail(event, place, raised_s=1.7e9, ack_url="https://c.test/ack/x", draft_for="Huy", language=language)
    return True


def _wire(model: type[Any]) -> Callable[[bytes], bool]:
    def one(raw: bytes) -> bool:
        try:
            parse_as(model, raw)
        except WireError as e:
            raise Refused(str(e)) from e
        return True

    return one


def _file(read: Callable[[Path], object]) -> Callable[[bytes], bool]:
    path = Path(tempfile.mkdtemp(prefix="maillages-fuzz-")) / "file"

    def one(raw: bytes) -> bool:
        path.write_bytes(raw)
        try:
            read(path)
        except ConfigError as e:
            raise Refused(str(e)) from e
        return True

    return one


def targets() -> dict[str, Target]:
    records = ("readings.*.json", "alarm.raise.json")
    return {
        "senml-json": Target(_seeds(*records), _decoded(senml.JSON_TYPE, "readings"), "json"),
        "senml-cbor": Target(_seeds("readings.*.cbor.hex"), _decoded(senml.CBOR_TYPE, "readings"), "cbor"),
        "health": Target(_seeds("health.*.json"), _decoded(senml.JSON_TYPE, "health"), "json"),
        "alarm": Target(_seeds("alarm.*.json"), _alarm, "json"),
        "active": Target(_seeds("active.*.json"), _wire(Active), "json"),
        "stations": Target(_seeds("stations.*.json"), _wire(Stations), "json"),
        "status": Target(_seeds("status.*.json"), _wire(GatewayStatus), "json"),
        "recipients": Target([table.example().encode()], _file(table.read), "text"),
        "central-toml": Target(
            [example().encode()], _file(lambda path: common.config.load(path, CentralConfig, ConfigError)), "text"
        ),
    }


class Fuzz:
    """The inputs of one target, the same for the same seed."""

    def __init__(self, name: str, seed: int = 0) -> None:
        self._name = name
        self._target = targets()[name]
        self._random = random.Random(f"{seed} {name}")
        self._trees = [tree for raw in self._target.seeds if (tree := self._tree(raw)) is not None]

    def run(self, inputs: int, seconds: float = float("inf")) -> Result:
        """Raises AssertionError, with the input, for another exception than a refusal, or a refusal without its reason."""
        before = accepted = refused = number = 0
        end = time.monotonic() + seconds
        for number in range(1, inputs + 1):
            if number == max(inputs // 10, 1):
                before = _resident()
            raw = self._input()
            try:
                accepted += self._target.one(raw)
            except Refused as e:
                _reasoned(str(e))
                refused += 1
            except Exception as e:
                raise AssertionError(f"{self._name}: input {number}, {raw[:2000]!r}: {e!r}") from e
            if time.monotonic() > end:
                break
        return Result(number, accepted, refused, _resident() - before if before else 0)

    def _tree(self, raw: bytes) -> Any:
        try:
            return {"json": json.loads, "cbor": cbor2.loads}[self._target.form](raw)
        except (KeyError, ValueError, cbor2.CBORDecodeError):
            return None

    def _input(self) -> bytes:
        r = self._random
        if self._trees and r.randrange(2):
            tree = copy.deepcopy(r.choice(self._trees))
            for _ in range(r.randrange(1, 4)):
                tree = self._bend(tree)
            try:
                return cbor2.dumps(tree) if self._target.form == "cbor" else json.dumps(tree).encode()
            except (UnicodeEncodeError, cbor2.CBOREncodeError):
                pass  # half of a surrogate pair is no text in CBOR
        raw = bytearray(r.choice(self._target.seeds))
        for _ in range(r.randrange(1, 6)):
            at = r.randrange(len(raw) + 1)
            match r.randrange(8):
                case 0 | 1 if raw:
                    raw[at % len(raw)] ^= 1 << r.randrange(8)
                case 2 if raw:
                    raw[at % len(raw)] = r.choice((0, 0x7F, 0x80, 0xFF, *b'"{}[],:\\;=\n'))
                case 3:
                    del raw[at : at + r.randrange(1, 20)]
                case 4:
                    raw[at:at] = r.randbytes(r.randrange(1, 9))
                case 5:
                    raw[at:at] = raw[at : at + r.randrange(1, 40)] * r.randrange(1, 9)
                case 6:
                    raw = raw[:at]
                case 7:
                    raw[at:at] = r.choice(
                        (b"[" * 2000, b'{"a":' * 500, b"9" * 400, b"\x81" * 2000, b"'" * 50, b"\xef\xbb\xbf")
                    )
        return bytes(raw[:20_000])

    def _bend(self, tree: Any) -> Any:
        """One place of the tree is another."""
        r = self._random
        if isinstance(tree, dict) and tree and r.randrange(8):
            key = r.choice(list(tree))
            match r.randrange(6):
                case 0:
                    del tree[key]
                case 1:
                    tree[r.choice(("", "x", "\0", "n" * 300, str(key).upper()))] = copy.deepcopy(tree[key])
                case _:
                    tree[key] = self._bend(tree[key])
            return tree
        if isinstance(tree, list) and tree and r.randrange(8):
            at = r.randrange(len(tree))
            if r.randrange(4):
                tree[at] = self._bend(tree[at])
            else:
                tree += [copy.deepcopy(tree[at]) for _ in range(r.randrange(1, 5))]
            return tree
        return copy.deepcopy(r.choice(_NASTY))


def _reasoned(reason: str) -> None:
    assert reason.strip(), "no reason"
    assert len(reason) <= LONGEST_REASON, f"a reason of {len(reason)} characters"


def _resident() -> int:
    gc.collect()
    return int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1]) * _PAGE


def main() -> None:
    parser = argparse.ArgumentParser(prog="scripts/fuzz central", description=__doc__)
    parser.add_argument("--inputs", type=int, default=1_000_000, help="of each target (default: a million)")
    parser.add_argument("--minutes", type=float, default=10.0, help="at most, for each target")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("target", nargs="*", help=", ".join(targets()))
    arguments = parser.parse_args()
    logging.disable(logging.CRITICAL)  # each refusal is a line
    failed = False
    for name in arguments.target or targets():
        began = time.monotonic()
        try:
            result = Fuzz(name, arguments.seed).run(arguments.inputs, arguments.minutes * 60)
        except AssertionError as e:
            failed = True
            print(f"FAILED {e}", flush=True)
            continue
        grown = result.grown > GROWTH_BYTES
        failed |= grown
        print(
            f"{'FAILED' if grown else 'ok'} {name}: {result.inputs} inputs in {time.monotonic() - began:.0f} s;"
            f" {result.accepted} accepted, {result.refused} refused whole; memory {result.grown / 1024:+.0f} KiB",
            flush=True,
        )
    sys.exit(failed)


if __name__ == "__main__":
    main()
