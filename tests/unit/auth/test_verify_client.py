"""A client proves who it is: by each method, against each kind of secret, well and badly."""

import hashlib
import re
import struct
from base64 import b64decode, b64encode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pglido.auth import scram, timing
from pglido.auth import scram_server as exchange_room
from pglido.auth.decoys import SecretPopulation
from pglido.auth.errors import AuthError
from pglido.auth.scram import Keys
from pglido.auth.secrets import Md5, Plain, Proof, Secret, Unset, Verifier, md5_secret
from pglido.auth.verify_client import Exchange
from pglido.config.enums import AuthType
from pglido.protocol import codes

from .dialogue import (
    BINDING,
    CERTIFICATE_BINDING,
    ended,
    initial,
    make_verifier,
    request,
    scramp_login,
    start,
)

SCRAM = AuthType.SCRAM_SHA_256
FAILED = 'password authentication failed for user "joe"'
VERIFIER = make_verifier("secret")
KINDS: list[Secret] = [Plain("secret"), md5_secret("secret", "joe"), VERIFIER]


def content(credentials: object) -> tuple[int, bytes, bytes, bytes]:
    """What is in the keys of a login."""
    assert isinstance(credentials, Keys)
    return credentials.iterations, credentials.salt, credentials.client_key, credentials.server_key


# The grammar of RFC 5802, section 7, as PostgreSQL reads it.
PRINTABLE = rb"[\x21-\x2b\x2d-\x7e]+"
BASE64 = rb"[A-Za-z0-9+/=]+"
VALUE = rb"[^,\0]*"
CLIENT_FIRST = re.compile(
    rb"(?P<flag>n|y|p=(?P<type>[A-Za-z0-9.-]+)),(?P<authzid>a=" + VALUE + rb")?,"
    rb"(?P<bare>(?P<extension>m=" + VALUE + rb",)?n=" + VALUE + rb","
    rb"r=(?P<nonce>" + PRINTABLE + rb")(?:,[A-Za-z]=" + VALUE + rb")*)"
)
CLIENT_FINAL = re.compile(
    rb"(?P<unproved>c=(?P<binding>" + BASE64 + rb"),r=(?P<nonce>" + PRINTABLE + rb")"
    rb"(?:,[A-Za-oq-z]=" + VALUE + rb")*),p=(?P<proof>" + BASE64 + rb")"
)

# RFC 7677, 3: the example exchange of SCRAM-SHA-256.
RFC_USER_SALT = b"W22ZaJ0SNY7soEsUEjb6gQ=="
RFC_CLIENT_FIRST = b"n,,n=user,r=rOprNGfwEbeRWgbNEkqO"
RFC_SERVER_NONCE = b"%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0"
RFC_CLIENT_FINAL = (
    b"c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,"
    b"p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ="
)
RFC_SERVER_FINAL = b"v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4="


def md5_reply(stored: str, message: bytes) -> bytes:
    code, salt = request(message)
    assert code == codes.AUTH_MD5
    assert len(salt) == 4
    return b"md5" + hashlib.md5(stored[3:].encode() + salt).hexdigest().encode() + b"\0"


# trust


def test_trust_lets_a_known_user_in_without_a_word() -> None:
    assert ended(start(AuthType.TRUST, "joe", Unset()), None) == Proof(Unset())
    assert ended(start(AuthType.TRUST, "joe", Plain("x")), None) == Proof(Plain("x"))


def test_trust_refuses_an_unknown_user() -> None:
    with pytest.raises(AuthError) as error:
        next(start(AuthType.TRUST, "joe", None))
    assert error.value.sqlstate == "28000"
    assert error.value.text == '"trust" authentication failed'


# password


@pytest.mark.parametrize("secret", KINDS, ids=repr)
def test_a_password_in_clear_fits_every_kind_of_secret(secret: Secret) -> None:
    exchange = start(AuthType.PASSWORD, "joe", secret)
    assert request(next(exchange)) == (codes.AUTH_CLEARTEXT, b"")
    assert ended(exchange, b"secret\0") == Proof(Plain("secret"))


@pytest.mark.parametrize("secret", [*KINDS, Unset(), None], ids=repr)
@pytest.mark.parametrize("given", [b"wrong\0", b"\0", b"secret \0", b"\xff\xfe\0"])
def test_a_wrong_password_in_clear_is_refused(secret: Secret | None, given: bytes) -> None:
    exchange = start(AuthType.PASSWORD, "joe", secret)
    next(exchange)
    with pytest.raises(AuthError) as error:
        exchange.send(given)
    assert (error.value.sqlstate, error.value.text) == ("28P01", FAILED)


def test_an_empty_password_never_fits() -> None:
    exchange = start(AuthType.PASSWORD, "joe", Verifier(4096, b"salt", *scram.derive(b"", b"salt", 4096)[1:]))
    next(exchange)
    with pytest.raises(AuthError, match="wrong password"):
        exchange.send(b"\0")


@pytest.mark.parametrize("bad", [b"", b"secret", b"sec\0ret\0", b"secret\0\0", b"x" * 65535 + b"\0"])
def test_a_malformed_password_message_is_a_violation(bad: bytes) -> None:
    exchange = start(AuthType.PASSWORD, "joe", Plain("secret"))
    next(exchange)
    with pytest.raises(AuthError) as error:
        exchange.send(bad)
    assert error.value.sqlstate == "08P01"


def test_a_verifier_with_endless_iterations_is_not_calculated() -> None:
    endless = Verifier(2**31 - 1, VERIFIER.salt, VERIFIER.stored_key, VERIFIER.server_key)
    exchange = start(AuthType.PASSWORD, "joe", endless)
    next(exchange)
    with pytest.raises(AuthError, match="2147483647 iterations"):
        exchange.send(b"secret\0")


# md5


@pytest.mark.parametrize("secret", [Plain("secret"), md5_secret("secret", "joe")], ids=repr)
def test_md5_proves_a_password_in_clear_and_an_md5_secret(secret: Plain | Md5) -> None:
    exchange = start(AuthType.MD5, "joe", secret)
    reply = md5_reply(md5_secret("secret", "joe").text, next(exchange))
    assert ended(exchange, reply) == Proof(secret)


@pytest.mark.parametrize("secret", [Plain("secret"), md5_secret("secret", "joe"), Unset(), None], ids=repr)
def test_a_wrong_md5_proof_is_refused(secret: Secret | None) -> None:
    exchange = start(AuthType.MD5, "joe", secret, population=SecretPopulation(md5=1, shapes=()))
    reply = md5_reply(md5_secret("wrong", "joe").text, next(exchange))
    with pytest.raises(AuthError) as error:
        exchange.send(reply)
    assert (error.value.sqlstate, error.value.text) == ("28P01", FAILED)


def test_md5_challenges_differ() -> None:
    rng = iter([b"1234", b"5678"])
    salts = {
        request(next(start(AuthType.MD5, "joe", Plain("x"), rng=lambda size: next(rng))))[1] for _ in range(2)
    }
    assert salts == {b"1234", b"5678"}


def test_md5_gives_a_user_with_a_verifier_scram() -> None:
    assert isinstance(scramp_login(start(AuthType.MD5, "joe", VERIFIER), "secret").credentials, Keys)


# SCRAM


def test_scram_proves_the_password_behind_a_verifier_and_keeps_its_keys() -> None:
    proof = scramp_login(start(SCRAM, "joe", VERIFIER), "secret")
    derived = scram.derive(b"secret", VERIFIER.salt, 4096)
    assert content(proof.credentials) == (4096, VERIFIER.salt, derived.client_key, derived.server_key)


@pytest.mark.parametrize("iterations", [4096, 5000])
def test_scram_proves_a_password_in_clear(iterations: int) -> None:
    proof = scramp_login(start(SCRAM, "joe", Plain("secret"), iterations=iterations), "secret")
    assert proof.credentials == Plain("secret")


@pytest.mark.parametrize("password", ["pässwörd", "\u2168 ⅸ", "\u00a0x\u00ad", "\u0627\u0628"])
def test_scram_prepares_passwords_as_others_do(password: str) -> None:
    for secret in (make_verifier(password), Plain(password)):
        scramp_login(start(SCRAM, "joe", secret), password)


def test_scram_plus_is_offered_and_taken_on_tls() -> None:
    exchange = start(SCRAM, "joe", VERIFIER, binding=BINDING)
    assert request(next(exchange)) == (codes.AUTH_SASL, b"SCRAM-SHA-256-PLUS\0SCRAM-SHA-256\0\0")
    scramp_login(start(SCRAM, "joe", VERIFIER, binding=BINDING), "secret", CERTIFICATE_BINDING)


def test_scram_without_plus_works_on_tls_too() -> None:
    scramp_login(start(SCRAM, "joe", VERIFIER, binding=BINDING), "secret")


def test_plus_is_not_offered_without_tls() -> None:
    assert request(next(start(SCRAM, "joe", VERIFIER))) == (codes.AUTH_SASL, b"SCRAM-SHA-256\0\0")


def test_another_certificate_fails_the_binding() -> None:
    with pytest.raises(AuthError) as error:
        scramp_login(
            start(SCRAM, "joe", VERIFIER, binding=BINDING), "secret", ("tls-server-end-point", b"\x18" * 32)
        )
    assert (error.value.sqlstate, error.value.text) == ("28000", "SCRAM channel binding check failed")


def test_a_client_that_was_told_there_is_no_binding_is_warned() -> None:
    exchange = start(SCRAM, "joe", VERIFIER, binding=BINDING)
    next(exchange)
    with pytest.raises(AuthError) as error:
        exchange.send(initial("SCRAM-SHA-256", "y,,n=,r=abc"))
    assert error.value.text == "SCRAM channel binding negotiation error"


def test_the_example_of_rfc_7677(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exchange_room, "fresh_nonce", lambda rng: RFC_SERVER_NONCE)
    salt = b64decode(RFC_USER_SALT)
    derived = scram.derive(b"pencil", salt, 4096)
    exchange = start(SCRAM, "user", Verifier(4096, salt, derived.stored_key, derived.server_key))
    next(exchange)
    _, data = request(exchange.send(initial("SCRAM-SHA-256", RFC_CLIENT_FIRST)))
    assert data == b"r=rOprNGfwEbeRWgbNEkqO" + RFC_SERVER_NONCE + b",s=" + RFC_USER_SALT + b",i=4096"
    proof = ended(exchange, RFC_CLIENT_FINAL)
    assert request(proof.last) == (codes.AUTH_SASL_FINAL, RFC_SERVER_FINAL)
    assert content(proof.credentials) == (4096, salt, derived.client_key, derived.server_key)


@pytest.mark.parametrize("secret", [*KINDS, Unset(), None], ids=repr)
@pytest.mark.parametrize("binding", [None, CERTIFICATE_BINDING])
def test_a_wrong_scram_proof_is_refused(secret: Secret | None, binding: tuple[str, bytes] | None) -> None:
    with pytest.raises(AuthError) as error:
        scramp_login(start(SCRAM, "joe", secret, binding=binding and binding[1]), "wrong", binding)
    assert (error.value.sqlstate, error.value.text) == ("28P01", FAILED)


def test_an_md5_secret_can_never_prove_itself_by_scram_and_the_log_says_why() -> None:
    with pytest.raises(AuthError, match="MD5 secret, with which SCRAM-SHA-256 is impossible"):
        scramp_login(start(SCRAM, "joe", md5_secret("secret", "joe")), "secret")


def test_a_client_may_hold_its_first_message_back() -> None:
    exchange = start(SCRAM, "joe", VERIFIER)
    next(exchange)
    assert request(exchange.send(b"SCRAM-SHA-256\0\xff\xff\xff\xff")) == (codes.AUTH_SASL_CONTINUE, b"")
    _, data = request(exchange.send(b"n,,n=,r=abc"))
    assert data.startswith(b"r=abc")


@pytest.mark.parametrize(
    ("first", "sqlstate", "text"),
    [
        ("n,a=other,n=,r=abc", "0A000", "client uses authorization identity, but it is not supported"),
        ("n,,m=x,n=,r=abc", "0A000", "client requires an unsupported SCRAM extension"),
        ("p=tls-unique,,n=,r=abc", "08P01", "malformed SCRAM message"),
        ("n,,r=abc", "08P01", "malformed SCRAM message"),
        ("n,,n=,r=", "08P01", "malformed SCRAM message"),
        ("n,,n=,r=a b", "08P01", "malformed SCRAM message"),
        ("n,,n=,r=abc,", "08P01", "malformed SCRAM message"),
        ("n,,n=,r=abc\n", "08P01", "malformed SCRAM message"),
        ("n,,n=,r=abc,x=\0", "08P01", "malformed SCRAM message"),
        ("n,,n=,r=" + "a" * 1017, "08P01", "malformed SASL message"),
        ("q,,n=,r=abc", "08P01", "malformed SCRAM message"),
        ("", "08P01", "malformed SCRAM message"),
    ],
)
def test_a_bad_first_message_gets_postgresqls_error(first: str, sqlstate: str, text: str) -> None:
    exchange = start(SCRAM, "joe", VERIFIER)
    next(exchange)
    with pytest.raises(AuthError) as error:
        exchange.send(initial("SCRAM-SHA-256", first))
    assert (error.value.sqlstate, error.value.text) == (sqlstate, text)


@pytest.mark.parametrize("first", ["n,,n=,r=abc", "y,,n=,r=abc"])
def test_plus_without_binding_is_a_violation(first: str) -> None:
    exchange = start(SCRAM, "joe", VERIFIER, binding=BINDING)
    next(exchange)
    with pytest.raises(AuthError, match="malformed SCRAM message"):
        exchange.send(initial("SCRAM-SHA-256-PLUS", first))


def test_an_unknown_binding_type_is_named() -> None:
    exchange = start(SCRAM, "joe", VERIFIER, binding=BINDING)
    next(exchange)
    with pytest.raises(AuthError, match='unsupported SCRAM channel-binding type "tls-unique"'):
        exchange.send(initial("SCRAM-SHA-256-PLUS", "p=tls-unique,,n=,r=abc"))


@pytest.mark.parametrize(
    ("reply", "text"),
    [
        (initial("SCRAM-SHA-1", "n,,n=,r=abc"), "client selected an invalid SASL authentication mechanism"),
        (initial("SCRAM-SHA-256-PLUS", "x"), "client selected an invalid SASL authentication mechanism"),
        (b"SCRAM-SHA-256", "malformed SASL message"),
        (b"SCRAM-SHA-256\0\0\0", "malformed SASL message"),
        (b"SCRAM-SHA-256\0\0\0\0\x05abc", "malformed SASL message"),
        (b"SCRAM-SHA-256\0\x7f\xff\xff\xffabc", "malformed SASL message"),
        (b"SCRAM-SHA-256\0\xff\xff\xff\xfeabc", "malformed SASL message"),
        (b"SCRAM-SHA-256\0\xff\xff\xff\xffabc", "malformed SASL message"),
        (b"", "malformed SASL message"),
    ],
)
def test_a_bad_initial_response_is_a_violation(reply: bytes, text: str) -> None:
    exchange = start(SCRAM, "joe", VERIFIER)
    next(exchange)
    with pytest.raises(AuthError) as error:
        exchange.send(reply)
    assert (error.value.sqlstate, error.value.text) == ("08P01", text)


PROOF = b64encode(b"p" * 32)


@pytest.mark.parametrize(
    ("final", "text"),
    [
        (b"c=biws,r=%s", "malformed SCRAM message"),
        (b"c=biws,r=%s,p=", "malformed SCRAM message"),
        (b"c=biws,r=%s,p=AAAA", "malformed SCRAM message"),
        (b"c=biws,r=%s,p=" + PROOF[:-1], "malformed SCRAM message"),
        (b"c=biws,r=%s,p=" + PROOF + b",x=y", "malformed SCRAM message"),
        (b"c=biws,r=%s,p=" + PROOF + b"\0", "malformed SCRAM message"),
        (b"c=eSws,r=%s,p=" + PROOF, "unexpected SCRAM channel-binding attribute in client-final-message"),
        (b"c=biws,r=%sx,p=" + PROOF, "invalid SCRAM response"),
        (b"r=%s,c=biws,p=" + PROOF, "malformed SCRAM message"),
        (b"c=biws,r=%s,p=" + PROOF * 40, "malformed SCRAM message"),
        (b"", "malformed SCRAM message"),
    ],
)
def test_a_bad_final_message_is_a_violation(final: bytes, text: str) -> None:
    exchange = start(SCRAM, "joe", VERIFIER)
    next(exchange)
    _, data = request(exchange.send(initial("SCRAM-SHA-256", "n,,n=,r=abc")))
    nonce = data[2 : data.index(b",")]
    with pytest.raises(AuthError) as error:
        exchange.send(final.replace(b"%s", nonce))
    assert (error.value.sqlstate, error.value.text) == ("08P01", text)


def test_extensions_in_the_final_message_are_passed_over() -> None:
    exchange = start(SCRAM, "joe", VERIFIER)
    next(exchange)
    _, data = request(exchange.send(initial("SCRAM-SHA-256", "n,,n=,r=abc,x=y")))
    nonce = data[2 : data.index(b",")]
    with pytest.raises(AuthError, match="wrong password"):
        exchange.send(b"c=biws,r=%b,x=y,z=,p=%b" % (nonce, PROOF))


def test_no_challenge_is_given_twice() -> None:
    challenges = set()
    rng = iter(bytes([n]) * 18 for n in range(5))
    for _ in range(5):
        exchange = start(SCRAM, "joe", VERIFIER, rng=lambda size: next(rng))
        next(exchange)
        challenges.add(exchange.send(initial("SCRAM-SHA-256", "n,,n=,r=abc")))
    assert len(challenges) == 5


# Garbage

garbage = st.one_of(
    st.binary(max_size=80),
    st.from_regex(re.compile(rb"SCRAM-SHA-256(-PLUS)?\0[\0\xff]{3}.", re.DOTALL)),
    st.builds(initial, st.sampled_from(["SCRAM-SHA-256", "SCRAM-SHA-256-PLUS"]), st.binary(max_size=60)),
    st.from_regex(CLIENT_FIRST, fullmatch=True),
    st.from_regex(CLIENT_FINAL, fullmatch=True),
)


def feed(exchange: Exchange, replies: list[bytes]) -> None:
    for reply in replies:
        exchange.send(reply)


@given(
    method=st.sampled_from([AuthType.PASSWORD, AuthType.MD5, SCRAM]),
    secret=st.sampled_from([VERIFIER, md5_secret("secret", "joe"), Unset(), None]),
    binding=st.sampled_from([None, BINDING]),
    replies=st.lists(garbage, min_size=4, max_size=4),
    steps=st.integers(0, 2),
)
def test_garbage_at_any_step_ends_in_an_error(
    method: AuthType, secret: Secret | None, binding: bytes | None, replies: list[bytes], steps: int
) -> None:
    exchange = start(method, "joe", secret, binding=binding)
    next(exchange)
    good = [initial("SCRAM-SHA-256", "n,,n=,r=abc")][:steps]
    with pytest.raises(AuthError) as error:
        feed(exchange, good + replies)
    assert len(error.value.sqlstate) == 5
    assert error.value.text.isprintable()


def nearly(grammar: re.Pattern[bytes]) -> st.SearchStrategy[bytes]:
    """What the grammar allows, with some bytes of it changed, doubled or taken out, or none."""
    whole = st.from_regex(grammar, fullmatch=True)
    pieces = st.binary(max_size=2) | st.sampled_from([b",", b"=", b"\0", b"n", b"p", b""])
    change = st.tuples(st.integers(0, 400), pieces)
    return st.builds(changed, whole, st.lists(change, max_size=3))


def changed(data: bytes, changes: list[tuple[int, bytes]]) -> bytes:
    for at, piece in changes:
        at %= len(data) + 1
        data = data[:at] + piece + data[at + 1 :]
    return data[:1000]


@given(first=nearly(CLIENT_FIRST) | st.binary(max_size=200), binding=st.sampled_from([None, BINDING]))
def test_first_messages_are_read_by_the_grammar(first: bytes, binding: bytes | None) -> None:
    for mechanism in ("SCRAM-SHA-256", "SCRAM-SHA-256-PLUS")[: 1 + (binding is not None)]:
        exchange = start(SCRAM, "joe", VERIFIER, binding=binding)
        next(exchange)
        match = CLIENT_FIRST.fullmatch(first)
        refusal = None
        answer = b""
        try:
            answer = exchange.send(initial(mechanism, first))
        except AuthError as error:
            refusal = str(error)
        assert (match is None) == (refusal is not None and "unreadable" in refusal)
        if match is not None and refusal is None:
            assert request(answer)[1].startswith(b"r=" + match["nonce"])


@given(final=nearly(CLIENT_FINAL) | st.binary(max_size=200))
def test_final_messages_are_read_by_the_grammar(final: bytes) -> None:
    exchange = start(SCRAM, "joe", VERIFIER)
    next(exchange)
    exchange.send(initial("SCRAM-SHA-256", "n,,n=,r=abc"))
    with pytest.raises(AuthError) as error:
        exchange.send(final)
    assert (CLIENT_FINAL.fullmatch(final) is None) == ("unreadable" in str(error.value))


@given(size=st.integers(-(2**31), 2**31 - 1), data=st.binary(max_size=20))
def test_any_length_in_the_initial_response_is_harmless(size: int, data: bytes) -> None:
    exchange = start(SCRAM, "joe", VERIFIER)
    next(exchange)
    reply = b"SCRAM-SHA-256\0" + struct.pack("!i", size) + data
    if size == -1 and not data:
        assert request(exchange.send(reply)) == (codes.AUTH_SASL_CONTINUE, b"")
    else:
        with pytest.raises(AuthError):
            exchange.send(reply)


# What it costs


@pytest.fixture
def derivations(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The iterations of each key derivation done in this test, with no keys kept from before."""
    done: list[int] = []
    real = scram.derive

    def derive(password: bytes, salt: bytes, iterations: int) -> scram.Derived:
        done.append(iterations)
        return real(password, salt, iterations)

    monkeypatch.setattr(scram, "derive", derive)
    monkeypatch.setattr(timing, "DERIVATIONS", scram.Derivations(10))
    return done


def test_a_stored_verifier_costs_scram_no_derivation(derivations: list[int]) -> None:
    for _ in range(3):
        scramp_login(start(SCRAM, "joe", VERIFIER), "secret")
    assert derivations == []


def test_a_password_in_clear_is_derived_once(derivations: list[int]) -> None:
    for _ in range(3):
        scramp_login(start(SCRAM, "joe", Plain("secret")), "secret")
    assert derivations == [4096]


def test_a_password_against_a_verifier_is_derived_once(derivations: list[int]) -> None:
    for _ in range(3):
        exchange = start(AuthType.PASSWORD, "joe", VERIFIER)
        next(exchange)
        ended(exchange, b"secret\0")
    assert derivations == [4096]


CROWDS = {
    "plain": [Plain("secret")],
    "md5": [md5_secret("secret", "joe")],
    "verifiers": [VERIFIER],
    "all": KINDS,
}


@pytest.mark.parametrize("method", [AuthType.PASSWORD, SCRAM])
@pytest.mark.parametrize("population", CROWDS)
def test_every_refusal_costs_the_same(method: AuthType, population: str, derivations: list[int]) -> None:
    def attempt(exchange: Exchange) -> None:
        if method is SCRAM:
            scramp_login(exchange, "wrong")
        next(exchange)
        exchange.send(b"wrong\0")

    costs = set()
    for secret in [*CROWDS[population], Unset(), None]:
        for _ in range(2):  # the second time with whatever was kept of the first
            derivations.clear()
            exchange = start(method, "joe", secret, population=SecretPopulation.of(CROWDS[population]))
            with pytest.raises(AuthError):
                attempt(exchange)
            costs.add(tuple(derivations))
    expected = {
        (SCRAM, "plain"): (4096,),
        (SCRAM, "all"): (4096,),
        (AuthType.PASSWORD, "verifiers"): (4096,),
        (AuthType.PASSWORD, "all"): (4096,),
    }
    assert costs == {expected.get((method, population), ())}


def test_wrong_passwords_push_no_kept_keys_out(derivations: list[int]) -> None:
    def log_in(password: bytes) -> None:
        exchange = start(AuthType.PASSWORD, "joe", VERIFIER)
        next(exchange)
        exchange.send(password + b"\0")

    with pytest.raises(StopIteration):
        log_in(b"secret")
    for number in range(20):
        with pytest.raises(AuthError):
            log_in(b"wrong%d" % number)
    derivations.clear()
    with pytest.raises(StopIteration):
        log_in(b"secret")
    assert derivations == []


# What it looks like


def challenge(
    secret: Secret | None, user: str = "joe", method: AuthType = SCRAM, population: SecretPopulation | None = None
) -> bytes:
    """All that a client sees before it proves anything, but for the nonce."""
    exchange = start(method, user, secret, population=population or SecretPopulation())
    first = next(exchange)
    if request(first)[0] != codes.AUTH_SASL:
        return first[:9]
    return first + exchange.send(initial("SCRAM-SHA-256", "n,,n=,r=abc")).partition(b",")[2]


def test_an_unknown_user_is_challenged_the_same_each_time_and_unlike_others() -> None:
    assert challenge(None, "joe") == challenge(None, "joe")
    assert challenge(None, "joe") != challenge(None, "jim")


def test_an_unknown_user_is_challenged_as_one_with_a_password_in_clear() -> None:
    population = SecretPopulation.of([Plain("a"), Plain("b")])
    assert challenge(None, population=population) == challenge(Plain("secret"), population=population)


def test_an_unknown_user_is_challenged_like_those_with_verifiers() -> None:
    secret = make_verifier("x", 7777, b"a salt of 20 bytes..")
    population = SecretPopulation.of([secret])
    known, unknown = (re.sub(rb"s=[^,]*", b"s=", challenge(s, population=population)) for s in (secret, None))
    assert known == unknown
    assert len(challenge(secret, population=population)) == len(challenge(None, population=population))


def test_with_md5_an_unknown_user_gets_the_challenge_that_all_get() -> None:
    assert challenge(None, method=AuthType.MD5, population=SecretPopulation.of([VERIFIER]))[5:9] == struct.pack(
        "!i", codes.AUTH_SASL
    )
    assert challenge(None, method=AuthType.MD5, population=SecretPopulation.of([Plain("x")])) == challenge(
        Plain("x"), method=AuthType.MD5
    )
