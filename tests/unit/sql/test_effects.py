"""What a text that leaves something in the server process says."""

import pytest

from pglido.sql import effects
from pglido.sql.scanner import KEEPS


@pytest.mark.parametrize(
    ("text", "keeps"),
    [
        (b"DO LANGUAGE plperl $$ $_SHARED{x} = 1; $$", True),
        (b"do language 'plperlu' $$ my $y = \\%_SHARED; $$", True),
        (b"DO $$GD['x'] = 1$$ LANGUAGE plpython3u", True),
        (b"DO LANGUAGE pltcl $$ set GD(x) $y; puts $GD(x) $$", True),
        (b"DO LANGUAGE plperl $$ my $x = 1; $$", False),
        (b"SELECT gd FROM sd WHERE _shared", False),
        (b"DO $$BEGIN PERFORM gd FROM sd; END$$", False),
    ],
)
def test_data_that_functions_of_a_language_share(text: bytes, keeps: bool) -> None:
    assert bool(effects.undying(text) & KEEPS) == keeps
