"""pglido's own file: what is read, and what is told about mistakes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pglido.config.enums import AuthType, PoolMode
from pglido.config.errors import ConfigError
from pglido.config.load import load
from pglido.config.model import rows

from .reading import toml, toml_errors


def test_a_full_file_is_read() -> None:
    config = toml(
        """
        [pglido]
        listen_addr = ["127.0.0.1", "::1"]
        listen_port = 6543
        unix_socket_mode = "0770"
        auth_type = "trust"
        query_timeout = "1.5m"
        query_wait_timeout = 3
        max_packet_size = "16MB"
        workers = "auto"
        admin_users = "a, b"
        syslog = true

        [databases.app]
        host = "h1, h2"
        port = [5432, 5433]
        pool_mode = "Session"

        [databases."*"]
        host = ["/run/postgresql"]

        [users.'wéird "name"']
        password = "x"
        pool_size = 3
        """
    )
    settings = config.settings
    assert settings.listen_addr == ("127.0.0.1", "::1")
    assert settings.unix_socket_mode == 0o770
    assert (settings.query_timeout, settings.query_wait_timeout) == (90.0, 3.0)
    assert settings.max_packet_size == 16 << 20
    assert settings.workers == 0
    assert settings.admin_users == ("a", "b")
    assert settings.auth_type is AuthType.TRUST
    assert config.databases["app"].pool_mode is PoolMode.SESSION
    assert config.secrets() == {'wéird "name"': "x"}
    assert config.warnings == ()


@pytest.mark.parametrize(
    ("text", "error"),
    [
        (
            "[pglido]\npol_mode = 1",
            '2: pol_mode: unknown key, expected a key of [pglido]; did you mean "pool_mode"?',
        ),
        (
            '[pglido]\n\npool_mode = "transactoin"',
            '3: pool_mode: found "transactoin", expected one of session, transaction, statement, listen; '
            'did you mean "transaction"?',
        ),
        (
            "[pglido]\npool_size = 3",
            '2: pool_size: unknown key, expected a key of [pglido]; did you mean "default_pool_size"?',
        ),
        ("[pglido]\nlisten_port = 0", "2: listen_port: found 0, expected a whole number from 1 to 65535"),
        (
            "[pglido]\nlisten_port = true",
            "2: listen_port: found true, expected a whole number from 1 to 65535",
        ),
        (
            "[pglido]\ndefault_pool_size = -1",
            "2: default_pool_size: found -1, expected a whole number, not negative",
        ),
        (
            "[pglido]\nconnect_query = 'x'",
            "2: connect_query: unknown key here; it belongs in [databases.NAME]",
        ),
        ("listen_port = 1\n", "1: listen_port: found outside of any table, expected it in [pglido]"),
        (
            "[plgido]\n",
            "1: plgido: unknown key, expected [pglido], [databases.NAME], [users.NAME] or include; "
            'did you mean "pglido"?',
        ),
        (
            "[databases.a.b]\nhost='x'",
            "1: databases.a.b: found a table; a name with dots needs quotes: "
            '[databases."a.b"], expected a key with a value',
        ),
        (
            "[databases.pgbouncer]",
            "1: databases.pgbouncer: this name belongs to the admin console, expected another name",
        ),
        ("[databases]\napp = 'host=x'", '2: databases.app: found "host=x", expected a table [databases.app]'),
        (
            "[databases.app]\nport = [1, 70000]",
            "2: databases.app.port: found [1, 70000], "
            "expected a port number, or one for each host from 1 to 65535",
        ),
        (
            "[users.u]\npassword = 12",
            "2: users.u.password: found a value that is kept secret, expected a string",
        ),
        (
            "[pglido]\nunix_socket_mode = 777",
            '2: unix_socket_mode: found 777, expected a file mode such as "0777" or 0o777',
        ),
        ("include = 3", "1: include: found 3, expected a list of file names"),
        ("pglido = 3", "1: pglido: found 3, expected [pglido]"),
        ("[pglido]\nauth_user = '''a\n\x0b'''", "3: not TOML: "),
        (
            '[pglido]\nuser = "a\\u0000"',
            '2: user: found "a\\x00", expected a string of valid UTF-8 without NUL',
        ),
        ("[pglido\n", "1: not TOML: "),
        ("[pglido]\nworkers = " + "9" * 5000, "not TOML"),
        ("a = " + "[" * 20_000, "not TOML: nested too deep"),
    ],
)
def test_a_mistake_is_told_with_line_key_and_what_was_expected(text: str, error: str) -> None:
    found = toml_errors(text)
    assert found
    assert error in found[0]


def test_all_mistakes_are_told_at_once() -> None:
    found = toml_errors("[pglido]\nx = 1\ny = 2\n[databases.d]\nz = 3\n[users.u]\nw = 4\n")
    assert [line.split(":")[0] for line in found] == ["2", "3", "5", "7"]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("${NAME}", "v"),
        ("a${NAME}b", "avb"),
        ("$${NAME}", "${NAME}"),
        ("$$$$", "$$"),
        ("SELECT $1", "SELECT $1"),
        ("${NOT:-d}", "d"),
        ("${NOT:-}", ""),
        ("${EMPTY:-d}", ""),
        ("$", "$"),
    ],
)
def test_variables_come_from_the_environment(text: str, value: str) -> None:
    config = toml(f"[databases.d]\nhost='h'\nconnect_query = '{text}'", NAME="v", EMPTY="")
    assert config.databases["d"].connect_query == value


def test_a_variable_may_be_a_number_a_flag_or_an_item_of_a_list() -> None:
    config = toml(
        '[pglido]\nauth_type="trust"\nlisten_port = "${P}"\nsyslog = "${F}"\nadmin_users = ["${U}"]',
        P="7000",
        F="true",
        U="joe",
    )
    assert (config.settings.listen_port, config.settings.syslog) == (7000, True)
    assert config.settings.admin_users == ("joe",)


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("${NOPE}", "2: databases.d.dbname: the environment variable NOPE is not set"),
        ("${", '2: databases.d.dbname: found "${", expected ${NAME}; write "$$" for a dollar sign'),
        ("${a b}", '2: databases.d.dbname: found "${a b}", expected ${NAME}'),
        ("${}", '2: databases.d.dbname: found "${}", expected ${NAME}'),
    ],
)
def test_a_variable_that_is_missing_is_told(text: str, error: str) -> None:
    found = toml_errors(f"[databases.d]\ndbname = '{text}'")
    assert found[0].startswith(error)


def test_what_a_variable_holds_is_not_in_the_error() -> None:
    found = toml_errors('[pglido]\nlisten_port = "${SECRET}"', SECRET="hunter2")
    assert found == ['2: listen_port: found "${SECRET}", expected a whole number from 1 to 65535']


def test_included_files_come_first_and_the_file_itself_has_the_last_word(tmp_path) -> None:
    (tmp_path / "conf.d").mkdir()
    (tmp_path / "conf.d" / "1.toml").write_text("[databases.a]\nhost='one'\nport=1\n[databases.b]\nhost='b'")
    (tmp_path / "conf.d" / "2.toml").write_text("[databases.a]\nhost='two'\n[pglido]\nauth_file='list'")
    (tmp_path / "conf.d" / "list").touch()
    main = tmp_path / "main.toml"
    main.write_text("include = ['conf.d/*.toml']\n[databases.a]\nport = 3\n")
    config = load(main, {})
    assert config.databases["a"].host == ("two",)
    assert config.databases["a"].port == (3,)
    assert set(config.databases) == {"a", "b"}
    assert config.settings.auth_file == str(tmp_path / "conf.d" / "list"), "relative to the file it stands in"


def test_a_mistake_in_an_included_file_names_that_file(tmp_path) -> None:
    (tmp_path / "part.toml").write_text("\n[pglido]\nnonsense = 1\n")
    main = tmp_path / "main.toml"
    main.write_text("include = 'part.toml'")
    with pytest.raises(ConfigError) as told:
        load(main, {})
    assert told.value.problems[0].file == str(tmp_path / "part.toml")
    assert told.value.problems[0].line == 3


@pytest.mark.parametrize(
    ("include", "error"),
    [
        ("main.toml", "includes itself"),
        ("missing.toml", "there is no file"),
        (".", "can't be read"),
        ("/dev/zero", "is larger than 16 MB"),
        ("latin.toml", "found the byte 0xe9, expected UTF-8"),
        ("a\\u0000b", "can't be read"),
        ("*\\u0000", "can't be read"),
    ],
)
def test_an_include_that_can_not_be_is_told(tmp_path, include: str, error: str) -> None:
    (tmp_path / "latin.toml").write_bytes(b"# caf\xe9\n")
    main = tmp_path / "main.toml"
    main.write_text(f'include = ["{include}"]')
    with pytest.raises(ConfigError, match=error):
        load(main, {})


def test_a_circle_of_includes_ends(tmp_path) -> None:
    (tmp_path / "a.toml").write_text("include = 'b.toml'")
    (tmp_path / "b.toml").write_text("include = 'a.toml'")
    with pytest.raises(ConfigError, match="includes itself"):
        load(tmp_path / "a.toml", {})


def test_an_ending_that_tells_nothing_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"expected \.toml for pglido, \.ini for PgBouncer"):
        load("/etc/passwd")


def test_a_file_that_is_not_there_is_told(tmp_path) -> None:
    with pytest.raises(ConfigError, match="No such file"):
        load(tmp_path / "none.toml")


def _never_a_traceback(text: str) -> None:
    """Whatever is wrong comes as lines that can be shown; any other exception fails the test."""
    assert all(line and "\n" not in line for line in toml_errors(text, A="b"))


@given(st.text())
def test_any_text_gives_a_config_or_a_config_error(text: str) -> None:
    _never_a_traceback(text)


_KEYS = [*rows(), *rows("databases"), *rows("users"), "nonsense", '"quo.ted"', "a.b"]
_VALUES = st.one_of(
    st.integers().map(str),
    st.floats().map(repr),
    st.booleans().map(lambda b: str(b).lower()),
    st.sampled_from(["1979-05-27T07:32:00Z", "07:32:00", "[]", "{}", "{a=1}", "[[1],['x']]", "0o777", "nan"]),
    st.sampled_from(
        ["'5s'", "'16MB'", "'${A}'", "'${B}'", "'1e999s'", "'" + "9" * 400 + "'", "'a,,b'", "'١'"]
    ),
    st.text(st.characters(exclude_characters="'\n\r", exclude_categories=["Cs", "Cc"])).map(
        lambda t: f"'{t}'"
    ),
)
_TABLES = st.sampled_from(
    ["[pglido]", "[databases.a]", '[databases."*"]', "[users.u]", "[databases]", "[[users]]"]
)


@given(st.lists(st.tuples(_TABLES, st.dictionaries(st.sampled_from(_KEYS), _VALUES)), max_size=4))
def test_any_value_for_any_key_gives_a_config_or_a_config_error(tables) -> None:
    lines = []
    for table, values in tables:
        lines += [table, *(f"{key} = {value}" for key, value in values.items())]
    _never_a_traceback("\n".join(lines))
