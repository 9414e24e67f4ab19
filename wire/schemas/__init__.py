"""JSON Schemas (2020-12) of the payloads, for those who speak to us in another language: `python -m wire.schemas` writes them here.

They are made from the models and tables that the code itself uses, and say what a receiver accepts. Members that they do not
name are allowed and ignored: adding one is a safe change (docs/wire.md).
"""

from typing import Any

from pydantic import BaseModel

from wire.alarm import AlarmEvent
from wire.command import Ack, CommandResult, Logs, Raw, Read, Resend, Reset, Restart, Shelve
from wire.configuration import Configuration, ConfigurationResult
from wire.identity import CertificateAnswer, CertificateRequest
from wire.ids import ID_PATTERN
from wire.quantities import QUANTITIES
from wire.readings import MAX_RECORDS
from wire.senml import RELATIVE_TIME_LIMIT_S
from wire.station import Active, GatewayStatus, Stations

MODELS: dict[str, type[BaseModel]] = {
    "alarm": AlarmEvent,
    "active": Active,
    "stations": Stations,
    "status": GatewayStatus,
    "cmd-ack": Ack,
    "cmd-shelve": Shelve,
    "cmd-reset": Reset,
    "cmd-resend": Resend,
    "cmd-read": Read,
    "cmd-raw": Raw,
    "cmd-logs": Logs,
    "cmd-restart": Restart,
    "cmd-result": CommandResult,
    "config": Configuration,
    "config-result": ConfigurationResult,
    "identity-request": CertificateRequest,
    "identity-certificate": CertificateAnswer,
}
"""The model of each payload that is an object. `cmd-result` answers every command."""

_ID = ID_PATTERN.strip("^$")
_LABELS: dict[str, dict[str, Any]] = {
    "bn": {"type": "string", "description": "Base name, in force until the next: <station>/<sensor>/"},
    "n": {"type": "string", "description": "Name below the base name"},
    "u": {"type": "string", "description": "Unit (RFC 8428 section 12.1, RFC 8798)"},
    "t": {"type": "number", "minimum": RELATIVE_TIME_LIMIT_S, "description": "Unix time in s, at most ms precision"},
    "v": {"type": "number"},
    "qc": {"enum": [1, 2, 3, 4, 9], "default": 1, "description": "QARTOD flag"},
}
_MUST_BE_UNDERSTOOD = {"_$": False}
"""A label that ends in `_` refuses the pack (RFC 8428 section 4.4)."""


def _readings() -> dict[str, Any]:
    return {
        "title": "Readings",
        "description": "A SenML pack (RFC 8428) as a gateway publishes it. Central takes any SenML that resolves to such names,"
        " units and times. In CBOR the labels are the RFC's integers, but for qc.",
        "type": "array",
        "minItems": 1,
        "maxItems": MAX_RECORDS,
        "prefixItems": [{"$ref": "#/$defs/Record", "required": ["bn"]}],
        "items": {"$ref": "#/$defs/Record"},
        "$defs": {
            "Record": {
                "type": "object",
                "properties": _LABELS | {"bn": _LABELS["bn"] | {"pattern": f"^{_ID}/{_ID}/$"}},
                "patternProperties": _MUST_BE_UNDERSTOOD,
                "required": ["n", "u", "t", "v"],
                "anyOf": [
                    {"properties": {"n": {"const": q.name}, "u": {"const": q.unit}}} for q in QUANTITIES.values()
                ],
            }
        },
    }


def _health() -> dict[str, Any]:
    return {
        "title": "Health",
        "description": "A SenML pack about the gateway itself: each record is a float field of that name in gateway_health.",
        "type": "array",
        "minItems": 1,
        "items": {
            "type": "object",
            "properties": {label: _LABELS[label] for label in ("n", "t", "v")},
            "patternProperties": _MUST_BE_UNDERSTOOD,
            "required": ["n", "t", "v"],
        },
    }


def documents() -> dict[str, dict[str, Any]]:
    """Every schema by its file name."""
    made = {name: model.model_json_schema() for name, model in MODELS.items()}
    made |= {"readings": _readings(), "health": _health()}
    return {
        f"{name}.schema.json": {"$schema": "https://json-schema.org/draft/2020-12/schema"} | schema
        for name, schema in made.items()
    }
