"""The tables of central's state, as queries see them: columns and types. Keys, indexes and triggers stand in `schema/`.

Times `*_s` are Unix seconds, UTC. What each table is for stands in the schema file that made it.
"""

from typing import Any

from sqlalchemy import BigInteger, Boolean, Column, Dialect, Double, LargeBinary, MetaData, Table, Text, TypeDecorator


class _Text(TypeDecorator[str]):
    """Text from outside may hold U+0000, which PostgreSQL does not take: it is kept as U+FFFD, everywhere alike."""

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: Any, dialect: Dialect) -> Any:  # noqa: ARG002
        return value.replace("\x00", "\ufffd") if value else value


metadata = MetaData()

alarm_event = Table(
    "alarm_event",
    metadata,
    Column("position", BigInteger, primary_key=True),
    Column("id", _Text, nullable=False),
    Column("source", _Text, nullable=False),
    Column("gateway", _Text, nullable=False),
    Column("seq", BigInteger, nullable=False),
    Column("occurrence", _Text, nullable=False),
    Column("time_s", Double, nullable=False),
    Column("received_s", Double, nullable=False),
    Column("json", _Text, nullable=False),
)

alarm_impossible = Table(
    "alarm_impossible",
    metadata,
    Column("event", _Text, primary_key=True),
    Column("reason", _Text, nullable=False),
)

alarm_occurrence = Table(
    "alarm_occurrence",
    metadata,
    Column("occurrence", _Text, primary_key=True),
    Column("source", _Text, nullable=False),
    Column("gateway", _Text, nullable=False),
    Column("station", _Text),
    Column("rule", _Text, nullable=False),
    Column("kind", _Text, nullable=False),
    Column("status", _Text, nullable=False),
    Column("state", _Text, nullable=False),
    Column("level", BigInteger, nullable=False),
    Column("raised_s", Double, nullable=False),
    Column("changed_s", Double, nullable=False),
    Column("last_event", _Text, nullable=False),
    Column("last_seq", BigInteger, nullable=False),
    Column("acked_by", _Text),
    Column("acked_s", Double),
    Column("reconciled_s", Double),
)

notify_cursor = Table("notify_cursor", metadata, Column("position", BigInteger, nullable=False))

series_cursor = Table("series_cursor", metadata, Column("position", BigInteger, nullable=False))

escalation = Table(
    "escalation",
    metadata,
    Column("occurrence", _Text, primary_key=True),
    Column("event", _Text, nullable=False),
    Column("seq", BigInteger, nullable=False),
    Column("level", BigInteger, nullable=False),
    Column("step", BigInteger, nullable=False),
    Column("next_s", Double),
    Column("stopped", _Text),
    Column("storm", _Text),
)

message = Table(
    "message",
    metadata,
    Column("id", _Text, primary_key=True),
    Column("purpose", _Text, nullable=False),
    Column("event", _Text, nullable=False),
    Column("occurrence", _Text),
    Column("step", BigInteger, nullable=False),
    Column("recipient", _Text, nullable=False),
    Column("channel", _Text, nullable=False),
    Column("level", BigInteger, nullable=False),
    Column("state", _Text, nullable=False),
    Column("attempts", BigInteger, nullable=False),
    Column("via", _Text),
    Column("reason", _Text),
    Column("created_s", Double, nullable=False),
    Column("changed_s", Double, nullable=False),
    Column("text", _Text),
    Column("reference", _Text),
)

message_outcome = Table(
    "message_outcome",
    metadata,
    Column("position", BigInteger, primary_key=True),
    Column("message", _Text, nullable=False),
    Column("state", _Text, nullable=False),
    Column("reason", _Text),
    Column("via", _Text),
    Column("text", _Text),
    Column("at_s", Double, nullable=False),
)

message_cursor = Table("message_cursor", metadata, Column("position", BigInteger, nullable=False))

recipient = Table(
    "recipient",
    metadata,
    Column("id", _Text, primary_key=True),
    Column("position", BigInteger, nullable=False),
    Column("json", _Text, nullable=False),
)

notifying = Table(
    "notifying",
    metadata,
    Column("event", _Text, primary_key=True),
    Column("outcome", _Text, nullable=False),
)

ack_token = Table(
    "ack_token",
    metadata,
    Column("hash", LargeBinary, primary_key=True),
    Column("message", _Text, nullable=False),
    Column("occurrence", _Text, nullable=False),
    Column("used_s", Double),
)

digest_item = Table(
    "digest_item",
    metadata,
    Column("occurrence", _Text, primary_key=True),
    Column("added_s", Double, nullable=False),
    Column("digest", _Text),
)

dead_letter = Table(
    "dead_letter",
    metadata,
    Column("id", BigInteger, primary_key=True),
    Column("received_s", Double, nullable=False),
    Column("topic", _Text, nullable=False),
    Column("journal", _Text),
    Column("number", BigInteger),
    Column("reason", _Text, nullable=False),
    Column("payload", LargeBinary, nullable=False),
)

quarantine = Table(
    "quarantine",
    metadata,
    Column("id", BigInteger, primary_key=True),
    Column("received_s", Double, nullable=False),
    Column("gateway", _Text, nullable=False),
    Column("journal", _Text),
    Column("number", BigInteger),
    Column("name", _Text, nullable=False),
    Column("record", _Text, nullable=False),
    Column("estimated", Boolean, nullable=False),
)

gateway = Table(
    "gateway",
    metadata,
    Column("gateway", _Text, primary_key=True),
    Column("stations", _Text),
    Column("status", _Text),
    Column("status_s", Double),
)

journal_range = Table(
    "journal_range",
    metadata,
    Column("gateway", Text, primary_key=True),  # both are checked ids
    Column("journal", Text, primary_key=True),
    Column("day", BigInteger, primary_key=True),
    Column("first", BigInteger, primary_key=True),
    Column("last", BigInteger, nullable=False),
)

journal_hour = Table(
    "journal_hour",
    metadata,
    Column("gateway", _Text, primary_key=True),
    Column("journal", _Text, primary_key=True),
    Column("hour", BigInteger, primary_key=True),
    Column("first", BigInteger, nullable=False),
    Column("last", BigInteger, nullable=False),
    Column("thinned", BigInteger, nullable=False),
    Column("duplicate", BigInteger, nullable=False),
)

wish = Table(
    "wish",
    metadata,
    Column("occurrence", _Text, primary_key=True),
    Column("command", _Text, primary_key=True),
    Column("by", _Text, nullable=False),
    Column("at_s", Double, nullable=False),
    Column("until_s", Double),
    Column("why", _Text),
    Column("end_s", Double),
    Column("position", BigInteger, nullable=False),
)

identity = Table(
    "identity",
    metadata,
    Column("serial", _Text, primary_key=True),
    Column("gateway", _Text, nullable=False),
    Column("commune", _Text),
    Column("issued_s", Double, nullable=False),
    Column("not_after_s", Double, nullable=False),
    Column("revoked_s", Double),
)

described_sensor = Table(
    "described_sensor",
    metadata,
    Column("gateway", _Text, primary_key=True),
    Column("station", _Text, primary_key=True),
    Column("sensor", _Text, primary_key=True),
)

configuration = Table(
    "configuration",
    metadata,
    Column("gateway", _Text, primary_key=True),
    Column("version", BigInteger, primary_key=True),
    Column("text", _Text, nullable=False),
    Column("author", _Text, nullable=False),
    Column("made_s", Double, nullable=False),
    Column("state", _Text),
    Column("why", _Text, nullable=False),
    Column("result_s", Double),
)

gateway_order = Table(
    "gateway_order",
    metadata,
    Column("id", _Text, primary_key=True),
    Column("gateway", _Text, nullable=False),
    Column("command", _Text, nullable=False),
    Column("arguments", _Text, nullable=False),
    Column("author", _Text, nullable=False),
    Column("asked_s", Double, nullable=False),
    Column("until_s", Double, nullable=False),
    Column("state", _Text, nullable=False),
    Column("answer", _Text),
    Column("answered_s", Double),
)

account = Table(
    "account",
    metadata,
    Column("name", _Text, primary_key=True),
    Column("role", _Text, nullable=False),
    Column("password", _Text, nullable=False),
    Column("disabled", BigInteger, nullable=False),
    Column("created_s", Double, nullable=False),
)

web_session = Table(
    "web_session",
    metadata,
    Column("hash", _Text, primary_key=True),
    Column("account", _Text, nullable=False),
    Column("csrf", _Text, nullable=False),
    Column("begun_s", Double, nullable=False),
    Column("seen_s", Double, nullable=False),
)

api_token = Table(
    "api_token",
    metadata,
    Column("id", _Text, primary_key=True),
    Column("hash", _Text, nullable=False),
    Column("scope", _Text, nullable=False),
    Column("created_s", Double, nullable=False),
    Column("end_s", Double, nullable=False),
)
