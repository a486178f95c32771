"""Write docs/settings.md from the table of settings: `python -m pglido.config.docs > docs/settings.md`."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from typing import Any

from .ini import WITHOUT_MEANING
from .model import rows
from .schema import Field, Kind, Scope
from .settings import CHAPTERS

_INTRODUCTION = """\
# Settings

*Written from the table in `src/pglido/config/` by `python -m pglido.config.docs`; edit the table instead.*

A configuration is a TOML file. It has one section for pglido, one for each database, and one for each user
that differs:

```toml
include = ["conf.d/*.toml"]

[pglido]
listen_addr = ["127.0.0.1", "::1"]
auth_file = "userlist.txt"
admin_users = ["postgres"]

[databases.app]
host = "db.example.org"
pool_size = 40

[databases."*"]
host = "db.example.org"

[users.report]
password = "${REPORT_PASSWORD}"
pool_mode = "session"
```

* **Times** are seconds, or a text with a unit: `"500ms"`, `"5s"`, `"10m"`, `"1h"`, `"1d"`.
  **Sizes** are bytes, or a text: `"64kB"`, `"16MB"`, `"1GB"`. **Lists** are lists, or one text with commas.
* **Precedence**: what a user sets goes before what a database sets, and that before `[pglido]`. Where a
  database names its `user`, the pool belongs to that user, and its size and mode come from there.
* **`include`** names files, also with wildcards, relative to the file it stands in. They are read first, in
  their order; the including file has the last word, key by key.
* **`${NAME}`** in any text is replaced from the environment, `${NAME:-default}` if it may be missing. `$$`
  is a dollar sign; a dollar in front of anything else (`$1`) stands for itself.
* **Paths** are relative to the file they stand in.
* **Reload** (SIGHUP, or `RELOAD` on the console) puts everything into force that is not marked *restart*.
* A key that doesn't exist, a value that can't be, files that are missing, combinations that can't work: each
  is told with file, line, key and what was expected, and nothing starts. `pglido check FILE` tells it
  beforehand.

## Coming from PgBouncer

`pglido serve pgbouncer.ini` reads PgBouncer's own file as it is: the names below are PgBouncer's wherever it
has them. In such a file PgBouncer's defaults hold, `%include` works, `${NAME}` does not, and the keys marked
*own* may be added.

* `auth_type = plain` is `password` here. `any`, `cert`, `hba`, `ldap` and `pam` are refused.
* `[pgbouncer]` opened again adds to what was set before. PgBouncer would forget it; a warning says so.
* These keys have nothing to act on and are named in one warning: {idle}, and the section `[peers]`.
"""

_SCOPE_TEXT: dict[Scope, tuple[str, str]] = {
    "databases": (
        "`[databases.NAME]`",
        "`NAME` is what clients ask for; `*` is for every name without an entry. `pglido` and `pgbouncer` are"
        " the console.",
    ),
    "users": (
        "`[users.NAME]`",
        "Users need no entry unless something differs or their secret is kept here.",
    ),
}

_KIND_WORDS = {
    Kind.TEXT: "text",
    Kind.FLAG: "true, false",
    Kind.COUNT: "number",
    Kind.FRACTION: "fraction",
    Kind.DURATION: "time",
    Kind.SIZE: "size",
    Kind.LIST: "list",
    Kind.PORTS: "port, or list",
    Kind.PATH: "path",
    Kind.MODE: "file mode",
    Kind.WORKERS: 'number, "auto"',
}


def page() -> str:
    """The whole of docs/settings.md."""
    idle = ", ".join(f"`{key}`" for key in sorted(WITHOUT_MEANING))
    parts = [_INTRODUCTION.replace("{idle}", idle), "## `[pglido]`"]
    for title, chapter in _chapters():
        parts += ["", f"### {title}", "", *_table(chapter)]
    for scope, (title, text) in _SCOPE_TEXT.items():
        table = rows(scope).values()
        parts += ["", f"## {title}", "", text, "", *_table(f for f in table if f.name != f.overrides)]
        again = ", ".join(f"`{f.name}`" for f in table if f.name == f.overrides)
        parts += ["", f"These global keys may be set here too, and then replace the global value: {again}."]
    return "\n".join(parts) + "\n"


def _chapters() -> Iterator[tuple[str, list[Field]]]:
    title, chapter = "", list[Field]()
    for name, field in rows().items():
        if name in CHAPTERS:
            if chapter:
                yield title, chapter
            title, chapter = CHAPTERS[name], []
        chapter.append(field)
    yield title, chapter


def _table(chapter: Iterable[Field]) -> list[str]:
    lines = ["| key | takes | default | meaning |", "|---|---|---|---|"]
    lines += [f"| `{f.name}` | {_takes(f)} | {_default(f)} | {_meaning(f)} |" for f in chapter]
    return lines


def _takes(field: Field) -> str:
    if field.kind is Kind.CHOICE or (field.choices and field.kind is Kind.TEXT):
        return ", ".join(field.choices)
    words = _KIND_WORDS[field.kind]
    low, high = field.row.low, field.row.high
    if high is not None and field.kind in (Kind.COUNT, Kind.FRACTION, Kind.WORKERS) and low is not None:
        words += f", {low:g} to {high:.10g}"
    return words


def _default(field: Field) -> str:
    if field.overrides:
        return f"`{field.overrides}`"
    text = shown(field, field.default)
    if field.row.ini_default is not None:
        text += f" (PgBouncer: {shown(field, field.row.ini_default)})"
    return text


def _meaning(field: Field) -> str:
    text = field.row.help.replace("|", "\\|")
    if field.row.zero and field.kind is not Kind.WORKERS:
        text += f" 0: {field.row.zero}."
    marks = [mark for mark, on in (("restart", not field.row.reload), ("own", field.row.own)) if on]
    return f"{text} *{', '.join(marks)}*" if marks else text


def shown(field: Field, value: Any) -> str:
    """A default as one would write it."""
    if value is None:
        return "not set"
    if value in ("", ()):
        return "empty"
    match field.kind:
        case Kind.FLAG:
            return "true" if value else "false"
        case Kind.DURATION:
            return _in_units(value, ((86400, "d"), (3600, "h"), (60, "m"), (1, "s")))
        case Kind.SIZE:
            return _in_units(value, ((1 << 30, "GB"), (1 << 20, "MB"), (1 << 10, "kB")))
        case Kind.LIST | Kind.PORTS:
            return ", ".join(f"`{item}`" for item in value)
        case Kind.MODE:
            return f"`{value:04o}`"
        case Kind.WORKERS if not value:
            return '`"auto"`'
        case _:
            return f"`{value}`"


def _in_units(value: float, units: tuple[tuple[int, str], ...]) -> str:
    for size, unit in units:
        if value >= size and value % size == 0:
            return f"`{value / size:g}{unit}`"
    return f"`{value:g}`" if isinstance(value, float) else f"`{value}`"


if __name__ == "__main__":
    sys.stdout.write(page())
