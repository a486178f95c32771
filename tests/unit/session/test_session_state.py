"""What is suspected of a session, and whose statement is shown for it."""

from parity.builds import Build


def test_pin_is_put_down_to_the_statement_of_its_client(build: Build) -> None:
    watched = build.sql.keywords
    setup = build.session.state.session_state.SessionState(build.session.server.reply_queue.ReplyQueue())
    setup.add_unverified(watched.DEFINES | watched.TEMP, (), True, b"CREATE FUNCTION first()")
    setup.cleaned()  # the client left, and what functions there are now is still to be asked
    assert setup.unverified == watched.DEFINES
    assert setup.cause == b""
    setup.add_unverified(watched.LOCKS, (), True, b"SELECT pg_advisory_lock(1)")
    assert setup.cause == b"SELECT pg_advisory_lock(1)"
    setup.add_unverified(watched.TEMP, (), True, b"CREATE TEMP TABLE later ()")
    assert setup.cause == b"SELECT pg_advisory_lock(1)"
