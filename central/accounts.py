"""Who may use the page, who is signed in, and the tokens of programs.

Passwords are hashed with argon2id (RFC 9106, the parameters of argon2-cffi for little memory). Of a session or a token, which are
128 and 256 random bits, only the SHA-256 is kept: who reads the state can use neither.
"""

import hashlib
import re
import secrets
import threading
from collections import OrderedDict
from typing import Literal, NamedTuple, cast, get_args

import argon2
from sqlalchemy import ColumnElement, delete, or_, select, update

from central.db import Database
from central.errors import Refused
from central.tables import account, api_token, web_session
from common.clock import Clock

Role = Literal["viewer", "operator", "administrator"]
Scope = Literal["read", "webhook", "cap"]
ROLES: tuple[Role, ...] = get_args(Role)
"""Each may do what those before it may."""

MIN_PASSWORD, MAX_PASSWORD = 12, 200
IDLE_S = 4 * 3600.0
ABSOLUTE_S = 12 * 3600.0
"""A session ends so long after its last request, and so long after its beginning: a shift of a crisis cell."""
TOUCH_S = 60.0
_DAY_S = 86400.0
_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,39}")


class Account(NamedTuple):
    name: str
    role: Role
    disabled: bool
    created_s: float


class Session(NamedTuple):
    """`csrf`: what every form of this session must send."""

    account: str
    role: Role
    csrf: str

    def may(self, role: Role) -> bool:
        return ROLES.index(self.role) >= ROLES.index(role)


class Token(NamedTuple):
    id: str
    scope: Scope
    created_s: float
    end_s: float


class Accounts:
    """Raises StateUnavailable as `Database` does."""

    def __init__(self, db: Database, clock: Clock) -> None:
        self._db = db
        self._clock = clock
        self._hasher = argon2.PasswordHasher()
        self._nobody: str | None = None

    # ------------------------------------------------------------------ accounts

    def add(self, name: str, role: Role, password: str) -> None:
        """Raises Refused for a name that exists or cannot be one, and for a password that is too short or too long."""
        if not _NAME.fullmatch(name):
            raise Refused(f"{name!r}: expected a name of a-z 0-9 . _ -, at most 40 characters")
        hashed = self._hash(password)
        with self._db.transaction() as tx:
            if tx.execute(select(account.c.name).where(account.c.name == name)).first():
                raise Refused(f"{name}: there is such an account already")
            now = self._clock.wall()
            tx.execute(
                account.insert().values(name=name, role=role, password=hashed, disabled=0, created_s=now),
            )

    def all(self) -> list[Account]:
        a = account.c
        rows = self._db.rows(select(a.name, a.role, a.disabled, a.created_s).order_by(a.name))
        return [Account(r.name, r.role, bool(r.disabled), r.created_s) for r in rows]

    def set_role(self, name: str, role: Role) -> None:
        """Its sessions end. Raises Refused when there is no such account."""
        self._change(name, role=role)

    def set_password(self, name: str, password: str) -> None:
        """Its sessions end. Raises Refused as `add` does."""
        self._change(name, password=self._hash(password))

    def disable(self, name: str, *, disabled: bool = True) -> None:
        """Its sessions end. Raises Refused when there is no such account."""
        self._change(name, disabled=int(disabled))

    def _change(self, name: str, **values: object) -> None:
        with self._db.transaction() as tx:
            if not tx.execute(update(account).where(account.c.name == name).values(**values)).rowcount:
                raise Refused(f"{name!r}: there is no such account, expected one that `user list` shows")
            tx.execute(delete(web_session).where(web_session.c.account == name))

    def _hash(self, password: str) -> str:
        if not MIN_PASSWORD <= len(password) <= MAX_PASSWORD:
            raise Refused(f"the password has {len(password)} characters, expected {MIN_PASSWORD} to {MAX_PASSWORD}")
        return self._hasher.hash(password)

    # ------------------------------------------------------------------ sessions

    def sign_in(self, name: str, password: str) -> str | None:
        """Begin a session: the secret of its cookie. None for a wrong name or password, or a disabled account; which, and
        whether there is such an account, does not show in the time either."""
        row = self._db.row(select(account.c.password).where(account.c.name == name, account.c.disabled == 0))
        if row is None and self._nobody is None:
            self._nobody = self._hasher.hash(secrets.token_hex())
        try:
            self._hasher.verify(row.password if row else cast("str", self._nobody), password)
        except (argon2.exceptions.VerificationError, UnicodeEncodeError):
            return None
        if row is None:
            return None
        secret, now = secrets.token_urlsafe(32), self._clock.wall()
        with self._db.transaction() as tx:
            tx.execute(delete(web_session).where(_ended(now)))
            values = {"account": name, "csrf": secrets.token_urlsafe(16), "begun_s": now, "seen_s": now}
            tx.execute(web_session.insert().values(hash=_digest(secret), **values))
        return secret

    def session(self, secret: str, *, touch: bool = True) -> Session | None:
        """The session of a cookie. `touch`: a person asks, so it is not idle."""
        s, now = web_session.c, self._clock.wall()
        found = self._db.row(
            select(s.account, s.csrf, s.seen_s, account.c.role)
            .join(account, account.c.name == s.account)
            .where(s.hash == _digest(secret), account.c.disabled == 0, ~_ended(now))
        )
        if found is None:
            return None
        if touch and now - found.seen_s > TOUCH_S:
            with self._db.transaction() as tx:
                tx.execute(update(web_session).where(s.hash == _digest(secret)).values(seen_s=now))
        return Session(found.account, found.role, found.csrf)

    def sign_out(self, secret: str) -> None:
        with self._db.transaction() as tx:
            tx.execute(delete(web_session).where(web_session.c.hash == _digest(secret)))

    # ------------------------------------------------------------------ tokens of programs

    def add_token(self, scope: Scope, days: float) -> tuple[str, str]:
        """A new token: its id, and the token itself, which is kept nowhere."""
        identifier, secret, now = secrets.token_hex(4), secrets.token_urlsafe(32), self._clock.wall()
        with self._db.transaction() as tx:
            values = {"scope": scope, "created_s": now, "end_s": now + days * _DAY_S}
            tx.execute(api_token.insert().values(id=identifier, hash=_digest(secret), **values))
        return identifier, secret

    def tokens(self) -> list[Token]:
        t = api_token.c
        rows = self._db.rows(select(t.id, t.scope, t.created_s, t.end_s).order_by(t.created_s))
        return [Token(r.id, r.scope, r.created_s, r.end_s) for r in rows]

    def token(self, secret: str, scope: Scope) -> Token | None:
        """The token, when it has this scope and has not ended."""
        t = api_token.c
        valid = (t.hash == _digest(secret), t.scope == scope, t.end_s > self._clock.wall())
        r = self._db.row(select(t.id, t.scope, t.created_s, t.end_s).where(*valid))
        return Token(r.id, r.scope, r.created_s, r.end_s) if r else None

    def revoke_token(self, identifier: str) -> None:
        """Raises Refused when there is no such token."""
        with self._db.transaction() as tx:
            if not tx.execute(delete(api_token).where(api_token.c.id == identifier)).rowcount:
                raise Refused(f"{identifier!r}: there is no such token, expected one that `token list` shows")


class Lockout:
    """After `free` failures in a row a subject (an account, an address) waits, twice as long after each, at most `MAX_S`.

    In memory: whoever attacks cannot restart central. It forgets the oldest subjects beyond `KEPT`.
    """

    MAX_S = 900.0
    KEPT = 10_000

    def __init__(self, clock: Clock, free: int) -> None:
        self._clock = clock
        self._free = free
        self._lock = threading.Lock()
        self._failed: OrderedDict[str, tuple[int, float]] = OrderedDict()

    def wait_s(self, subject: str) -> float:
        """Real seconds for which the subject has still to wait; 0 when it may try."""
        with self._lock:
            count, last = self._failed.get(subject, (0, 0.0))
        if count < self._free:
            return 0.0
        pause = min(2.0 ** min(count - self._free + 1, 20), self.MAX_S)
        return max(0.0, pause - self._clock.real(self._clock.boot() - last))

    def failed(self, subject: str) -> None:
        with self._lock:
            count, _ = self._failed.pop(subject, (0, 0.0))
            self._failed[subject] = count + 1, self._clock.boot()
            while len(self._failed) > self.KEPT:
                self._failed.popitem(last=False)

    def succeeded(self, subject: str) -> None:
        with self._lock:
            self._failed.pop(subject, None)


def _digest(secret: str) -> str:
    return hashlib.sha256(secret.encode("utf-8", "replace")).hexdigest()


def _ended(now_s: float) -> ColumnElement[bool]:
    s = web_session.c
    return or_(s.seen_s < now_s - IDLE_S, s.begun_s < now_s - ABSOLUTE_S)
