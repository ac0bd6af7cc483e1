"""How faults are asked for: `parse_fault`."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

from producer.faults.kinds import EXAMPLE, FAULTS, FaultKind
from repstream.errors import SettingsError
from repstream.faults.signal import direction, rotate

__all__ = ["EXAMPLE", "FAULTS", "SYNTAX", "Fault", "FaultKind", "parse_fault"]

SYNTAX = "KIND[:AMOUNT]@START[-END][/DEVICE]"


@dataclass(frozen=True)
class Fault:
    """One fault as asked for.

    Attributes
    ----------
    amount : float
        In the kind's unit.
    start_s, end_s : float
        Span of event time from the start of the replay, s; the end (inf: none) is outside.
    device : str
        Glob of device ids.
    parameter : str
        The kind's word; empty where it takes none.
    ramp_s : float
        Event time in which it grows to its amount, from the start, s; 0 for at once.
    """

    kind: FaultKind
    amount: float
    start_s: float
    end_s: float = math.inf
    device: str = "*"
    parameter: str = ""
    ramp_s: float = 0.0


_SPEC = re.compile(r"(?P<kind>[^:@/]+)(:(?P<amount>[^@/]*))?@(?P<start>[^-/]*)(-(?P<end>[^/]*))?(/(?P<device>.*))?")


def parse_fault(spec: str) -> Fault:
    """Read one ``KIND[:AMOUNT]@START[-END][/DEVICE]``.

    AMOUNT is a number, a word, or ``NUMBER,WORD``, as the kind has them, and then ``~S`` for a gradual one.

    Raises
    ------
    SettingsError
        Saying what is wrong with it, and showing one that is right.

    Examples
    --------
    >>> fault = parse_fault("drop:0.05@30-90/spar-s08-*")
    >>> fault.kind.name, fault.amount, fault.start_s, fault.end_s, fault.device
    ('drop', 0.05, 30.0, 90.0, 'spar-s08-*')
    >>> fault = parse_fault("rotate:45,x~20@60")
    >>> fault.amount, fault.parameter, fault.ramp_s
    (45.0, 'x', 20.0)
    """
    match = _SPEC.fullmatch(spec)
    name = match["kind"] if match else re.split("[:@/]", spec, maxsplit=1)[0]
    kind = FAULTS.get(name)

    def wrong(what: str) -> SettingsError:
        return SettingsError(f"fault {spec!r}: {what}; write {SYNTAX}, e.g. {kind.example if kind else EXAMPLE}")

    def number(text: str, what: str) -> float:
        try:
            value = float(text)
        except ValueError:
            raise wrong(f"{what} {text!r} is not a number") from None
        if not math.isfinite(value):
            raise wrong(f"{what} {text!r} is not finite")
        return value

    if kind is None:
        raise wrong(f"there is no kind {name!r}; the kinds are {', '.join(FAULTS)}")
    if match is None:
        raise wrong("it has no @START")
    text, tilde, ramp = (match["amount"] or "").partition("~")
    amount, parameter, ramp_s = kind.default, kind.words[0] if kind.words else "", 0.0
    if match["amount"] is not None:
        if tilde and not kind.is_gradual:
            raise wrong(f"{name} is there or not, it does not grow: leave ~{ramp} out")
        if tilde:
            ramp_s = number(ramp, "the time after '~'")
            if ramp_s < 0:
                raise wrong(f"the time after '~' is at least 0 s, not {ramp_s:g}")
        if kind.unit is None and not kind.words:
            raise wrong(f"{name} takes no amount")
        word: str | None = text
        if kind.unit is not None:
            first, comma, rest = text.partition(",")
            amount, word = number(first, "the amount"), rest if comma else None
        if word is not None:
            if not kind.words:
                raise wrong(f"{name} takes nothing after its amount, not {word!r}")
            if not _is_allowed(kind, word):
                raise wrong(f"the {kind.parameter} of {name} is one of {kind.choice}, not {word!r}")
            parameter = word
    low, high = kind.allowed
    if not low <= amount <= high:
        raise wrong(f"the amount of {name} is {low:g} to {high:g} ({kind.unit}), not {amount:g}")
    start_s = number(match["start"], "the start")
    end_s = math.inf if match["end"] is None else number(match["end"], "the end")
    if end_s <= start_s:
        raise wrong(f"it ends at {end_s:g} s, not after its start at {start_s:g} s")
    if kind.amount_is_length:
        if match["amount"] is not None and match["end"] is not None:
            raise wrong(f"{name} takes a length or an END, not both")
        if match["end"] is None:
            end_s = start_s + amount
    if match["device"] == "":
        raise wrong("the device after '/' is empty")
    return Fault(kind, amount, start_s, end_s, match["device"] or "*", parameter, ramp_s)


def _is_allowed(kind: FaultKind, word: str) -> bool:
    if word in kind.words:
        return True
    if kind.sensor is not rotate:
        return False
    try:
        direction(word)
    except ValueError:
        return False
    return True
