"""Errors as PostgreSQL tells them; all that a client may be told derives from one class."""


class PgError(Exception):
    """SQLSTATE, message, and where there are any, detail and hint (chapter "Error and Notice Message Fields").

    `str()` of it is for the operator: `log_text` where that is given, which may say what a client must not know.
    """

    def __init__(self, sqlstate: str, text: str, detail: str = "", hint: str = "", log_text: str = "") -> None:
        super().__init__(log_text or text)
        self.sqlstate = sqlstate
        self.text = text
        self.detail = detail
        self.hint = hint


class ProtocolViolation(PgError):
    """The peer does not keep to the protocol (08P01): its connection can't go on."""

    def __init__(self, text: str) -> None:
        super().__init__("08P01", text)
