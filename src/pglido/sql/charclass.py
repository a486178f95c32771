"""The bytes that PostgreSQL's lexer tells apart in classes (scan.l), and how long a name it reads."""

from ..protocol.startup import NAME_SIZE

DOUBLE = 0x22
AMPERSAND = 0x26
QUOTE = 0x27
STAR = 0x2A
BACKSLASH = 0x5C
UNDERSCORE = 0x5F

# Longer names are cut.
LONGEST_NAME = NAME_SIZE

# Classes of bytes; what may be part of a word comes last.
PLAIN = 0
DASH = 1
SLASH = 2
MARK = 3  # '
IDENT = 4  # "
SEMICOLON = 5
OPEN = 6
CLOSE = 7
END = 8  # a zero ends the text
DOLLAR = 9
DIGIT = 10
NAME = 11

_classes = bytearray(256)
for _class, _bytes in (
    (DASH, b"-"),
    (SLASH, b"/"),
    (MARK, b"'"),
    (IDENT, b'"'),
    (SEMICOLON, b";"),
    (OPEN, b"("),
    (CLOSE, b")"),
    (END, b"\0"),
    (DOLLAR, b"$"),
    (DIGIT, b"0123456789"),
    (NAME, b"_ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz" + bytes(range(128, 256))),
):
    for _byte in _bytes:
        _classes[_byte] = _class
CLASSES = bytes(_classes)
# Each byte in lower case, as far as it is ASCII.
LOWER = bytes(range(256)).lower()
