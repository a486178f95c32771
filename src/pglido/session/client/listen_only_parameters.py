"""Settings that pglido answers for by itself: their values as the server would report them."""

from collections.abc import Iterable

from ...sql.listen_statements import ListenStatementError
from ..state.parameters import REPORTED


def spelled(name: str, value: str, known: dict[str, str]) -> str:
    """A setting's value as the server would report it. Raises ListenStatementError where it can't be had."""
    if name == "application_name":
        clean = "".join(char if " " <= char <= "~" else "?" for char in value)
        return clean[:63]
    if name == "datestyle":
        return _date_style(value, known.get("DateStyle", "ISO, MDY"))
    if name == "client_encoding":
        encoding = known.get("client_encoding", "UTF8")
        if _plain(value) != _plain(encoding) and {_plain(value), _plain(encoding)} != {"utf8", "unicode"}:
            raise ListenStatementError("0A000", f"client_encoding is {encoding} for all clients of this database")
        return encoding
    if name == "extra_float_digits" and not value.lstrip("+-").isdigit():
        raise ListenStatementError("22023", f'invalid value for parameter "extra_float_digits": "{value}"')
    return value


def _plain(encoding: str) -> str:
    return encoding.lower().replace("-", "").replace("_", "")


_STYLES = {"iso": "ISO", "sql": "SQL", "postgres": "Postgres", "german": "German"}
_ORDERS = {"mdy": "MDY", "us": "MDY", "noneuro": "MDY", "dmy": "DMY", "euro": "DMY", "european": "DMY", "ymd": "YMD"}


def _date_style(value: str, now: str) -> str:
    style, _, order = now.partition(", ")
    for word in value.lower().replace(",", " ").split():
        if word in _STYLES:
            style = _STYLES[word]
        elif word in _ORDERS:
            order = _ORDERS[word]
        else:
            raise ListenStatementError("22023", f'invalid value for parameter "DateStyle": "{value[:63]}"')
    return f"{style}, {order}"


def announced(wanted: Iterable[tuple[str, str]], known: dict[str, str]) -> dict[str, str]:
    """What differs from `known` for a client that asked for these settings at login."""
    own: dict[str, str] = {}
    for asked, value in wanted:
        name = asked.lower()
        reported = REPORTED.get(name)
        if reported is None or name in ("client_encoding", "session_authorization"):
            continue
        try:
            value = spelled(name, value, {**known, **own})
        except ListenStatementError:
            continue
        if known.get(reported) != value:
            own[reported] = value
    return own
