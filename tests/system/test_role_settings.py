"""Settings of role and database (ALTER ROLE ... SET, ALTER DATABASE ... SET)
change nothing for the responder, directly and through PgBouncer."""

import contextlib

import pytest

from harness.failover import PgBouncer
from harness.responder import CGI, FastCGI, event, eventually, new_task, task_of
from harness.responder_database import WRITER
from harness.spool import Spool

RECEIVED = b'{"received":true}'
DUPLICATE = b'{"received":true,"duplicate":true}'
TOO_DEEP = b',"x":' + b"[" * 30000 + b"]" * 30000 + b"}"    # only PostgreSQL refuses it
SETTINGS = [("default_transaction_isolation", "repeatable read"),
            ("default_transaction_isolation", "serializable"),
            ("default_transaction_read_only", "on"),
            ("default_transaction_deferrable", "on"),
            ("statement_timeout", "5ms"),
            ("lock_timeout", "1ms"),
            ("idle_in_transaction_session_timeout", "1ms"),
            ("idle_session_timeout", "50ms"),
            ("transaction_timeout", "20ms"),
            ("search_path", "elsewhere, pg_catalog"),
            ("DateStyle", "German, DMY"),
            ("IntervalStyle", "sql_standard"),
            ("TimeZone", "Asia/Kathmandu"),
            ("bytea_output", "escape"),
            ("row_security", "off"),
            ("plan_cache_mode", "force_generic_plan"),
            ("extra_float_digits", "-15"),
            ("standard_conforming_strings", "off"),
            ("xmloption", "document"),
            ("exit_on_error", "on"),
            ("restrict_nonsystem_relation_kind", "view"),
            ("synchronous_commit", "off")]
HOSTILE = """
CREATE SCHEMA IF NOT EXISTS elsewhere;
GRANT USAGE ON SCHEMA elsewhere TO PUBLIC;
CREATE OR REPLACE FUNCTION elsewhere.set_config(text, text, boolean) RETURNS text
LANGUAGE plpgsql AS $$ BEGIN RAISE 'not this one'; END $$;
CREATE OR REPLACE FUNCTION elsewhere.pg_notify(text, text) RETURNS void
LANGUAGE plpgsql AS $$ BEGIN RAISE 'not this one'; END $$;
"""


@contextlib.contextmanager
def setting(store, where, name, value):
    """The setting of the role in the database, of the role, or of the database."""
    owner = {"role": f"ROLE {WRITER}", "database": f'DATABASE "{store.name}"'}[where]
    store.query(f'ALTER {owner} SET "{name}" = {value}' if name == "search_path" else
                f"ALTER {owner} SET \"{name}\" = '{value}'")
    try:
        yield
    finally:
        store.query(f'ALTER {owner} RESET "{name}"')


def skip_unknown(store, name):
    if not store.query("SELECT 1 FROM pg_settings WHERE lower(name) = lower(%s)", name):
        pytest.skip("this server does not know the setting")


def recorded(store, bodies):
    [(count,)] = store.query("SELECT count(*) FROM humcli.events WHERE task_id = ANY(%s)",
                             [task_of(body) for body in bodies])
    return count


@pytest.fixture(name="conninfo", params=["direct", "pgbouncer"])
def _conninfo(request, store):
    if request.param == "direct":
        yield store.conninfo
        return
    pooler = PgBouncer(store.cluster, WRITER)
    yield f"host=127.0.0.1 port={pooler.port} {store.login}"
    pooler.close()


@pytest.mark.parametrize("where", ["role", "database"])
@pytest.mark.parametrize("name, value", SETTINGS)
def test_setting(name, value, where, conninfo, paths, store):
    """Live events, the quarantine, and what waits in the spool."""
    skip_unknown(store, name)
    store.query(HOSTILE)
    with Spool() as spool, setting(store, where, name, value):
        spool.make()
        spooled, repeated = event(), new_task()
        spool.put(spooled)
        with FastCGI(paths.responder, conninfo, SPOOL=spool.path) as it:
            bodies = [event() for _ in range(5)]
            for body in bodies:
                assert it.post(body).body == RECEIVED, it.log()
            for stamp, answer in (("12:00", RECEIVED), ("12:05", DUPLICATE), ("11:55", DUPLICATE)):
                body = event(task_id=repeated, timestamp=f"2026-03-01T{stamp}:00Z")
                assert it.post(body).body == answer, it.log()
            assert it.post(event(status=5)).status == 422, it.log()
            assert it.post(event()[:-1] + TOO_DEEP).status == 422, it.log()
            assert eventually(lambda: not spool.waiting), it.log()
            assert '"ok"' in it.get().body.decode(), it.log()
        assert recorded(store, [spooled, *bodies]) == 6
        with CGI(paths.responder, conninfo, SPOOL=spool.path) as it:
            assert it.post(event()).body == RECEIVED, it.log()
            assert it.post(event()[:-1] + b',"x":01}').status == 400, it.log()


def test_pooler_in_statement_mode(paths, store):
    """It forbids transactions. The log says so, and no event is lost."""
    pooler = PgBouncer(store.cluster, WRITER, "statement")
    with contextlib.closing(pooler), Spool() as spool, \
            FastCGI(paths.responder, f"host=127.0.0.1 port={pooler.port} {store.login}",
                    SPOOL=spool.path) as it:
        assert it.post(event()).body == b'{"received":true,"spooled":true}'
        assert len(spool.waiting) == 1
        assert eventually(lambda: "not allowed in statement pooling mode" in it.log()), it.log()
        assert "needs session or transaction mode" in it.log()
