"""Questions to a technician, each with a flag that answers it for a script."""

from collections.abc import Callable, Mapping
from typing import TypeVar

import typer

from edge.errors import ConfigError
from edge.tools.screen import BAD, FAINT, GOOD, STRONG, WARNING, Screen, paint

T = TypeVar("T")
NONE = ("none", "no", "-")


class Dialogue:
    """`answers` are those of the flags, by name. Where there is no terminal (`asks` false) nothing is asked: what has no answer gets
    its default, and ConfigError names the flag of what has none."""

    def __init__(self, answers: Mapping[str, str], screen: Screen, *, asks: bool) -> None:
        self.asks = asks
        self._answers = dict(answers)
        self._screen = screen

    def given(self, name: str) -> str | None:
        """What the flag says, if it was given."""
        return self._answers.get(name)

    def title(self, text: str) -> None:
        self._screen.note("\n" + paint(text, STRONG))

    def say(self, text: str) -> None:
        self._screen.note("  " + text)

    def faint(self, text: str) -> None:
        self._screen.note("  " + paint(text, FAINT))

    def good(self, text: str) -> None:
        self._screen.note("  " + paint(text, GOOD))

    def warn(self, text: str) -> None:
        self._screen.note("  " + paint(text, WARNING))

    def ask(
        self, name: str, question: str, check: Callable[[str], T], default: str | None = None, *, shows: bool = True
    ) -> T:
        """The answer as `check` makes it of the text; what it refuses by ValueError is asked again. Without a terminal ConfigError."""
        if name in self._answers:
            # Once: a second sensor is asked for anew.
            return self._checked(name, self._answers.pop(name), check)
        if not self.asks:
            if default is None:
                raise ConfigError(f"--{name}: missing, expected an answer to: {question}")
            return self._checked(name, default, check)
        while True:
            text = typer.prompt(f"  {question}", default=default, show_default=shows, err=True)
            try:
                return check(str(text).strip())
            except ValueError as e:
                self._screen.note("  " + paint(f"{e}", BAD))

    def confirm(self, name: str, question: str, *, default: bool) -> bool:
        return self.ask(
            name, question + (" [Y/n]" if default else " [y/N]"), _yes, "y" if default else "n", shows=False
        )

    def choose(self, name: str, question: str, choices: list[tuple[str, str]], default: str | None = None) -> str:
        """One of `choices`: value and what a person reads. A flag says the value, a person its number or value."""
        values = [value for value, _ in choices]
        if self.asks and name not in self._answers:
            for i, (_, text) in enumerate(choices, 1):
                self._screen.note(f"  {paint(str(i), STRONG)}  {text}")
            shown = str(values.index(default) + 1) if default in values else None
        else:
            shown = default

        def check(text: str) -> str:
            if text in values:
                return text
            if text.isdecimal() and 1 <= int(text) <= len(values):
                return values[int(text) - 1]
            raise ValueError(f"found {text!r}, expected one of {', '.join(values)}, or its number")

        return self.ask(name, question, check, shown)

    def _checked(self, name: str, text: str, check: Callable[[str], T]) -> T:
        try:
            return check(text)
        except ValueError as e:
            raise ConfigError(f"--{name}: {e}") from None


def number(low: float, high: float, unit: str) -> Callable[[str], float]:
    """A check: a number of this span. A decimal comma is one too."""

    def check(text: str) -> float:
        try:
            found = float(text.replace(",", ".").removesuffix(unit).strip())
        except ValueError:
            raise ValueError(f"found {text!r}, expected a number ({unit})") from None
        if not low <= found <= high:
            raise ValueError(f"found {found:g}, expected {low:g} to {high:g} {unit}")
        return found

    return check


def optional(check: Callable[[str], T]) -> Callable[[str], T | None]:
    """A check that takes `none` too."""
    return lambda text: None if text.lower() in NONE else check(text)


def _yes(text: str) -> bool:
    if text.lower() in ("y", "yes", "o", "oui", "true"):
        return True
    if text.lower() in ("n", "no", "non", "false"):
        return False
    raise ValueError(f"found {text!r}, expected y or n")
