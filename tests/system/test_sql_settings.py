"""The SQL under settings of role and database: they change nothing, or the
function says which one is in the way."""

from datetime import timedelta

import psycopg2
import pytest

from harness.postgres import Database
from harness.record_calls import (Delivery, at, listen, notifications, outcomes, record,
                                  record_as_cgi)

# Each would change what the functions do, did they not set their own.
SETTINGS = {
    "search_path": "odd, public", "DateStyle": "'SQL, DMY'", "TimeZone": "'Pacific/Chatham'",
    "IntervalStyle": "sql_standard", "bytea_output": "escape", "row_security": "off",
    "plan_cache_mode": "force_custom_plan", "statement_timeout": "'20 s'", "lock_timeout": "'1 ms'",
    "idle_in_transaction_session_timeout": "'20 s'", "idle_session_timeout": "'20 s'",
    "default_transaction_deferrable": "on", "synchronous_commit": "off", "client_min_messages": "error",
    "extra_float_digits": "-15", "quote_all_identifiers": "on", "standard_conforming_strings": "off",
    "array_nulls": "off", "transform_null_equals": "on", "xmloption": "document", "lc_messages": "'C'",
    "enable_indexscan": "off", "enable_nestloop": "off", "check_function_bodies": "off",
    "default_transaction_read_only": "on", "default_transaction_isolation": "'repeatable read'",
}
HOSTILE = """
    CREATE SCHEMA odd;
    CREATE TABLE odd.events (); CREATE TABLE public.events ();
    CREATE FUNCTION public.format(text, bigint) RETURNS text LANGUAGE plpgsql AS
        $$ BEGIN RAISE 'hostile format()'; END $$;
    CREATE FUNCTION public.format(text, text, text) RETURNS text LANGUAGE plpgsql AS
        $$ BEGIN RAISE 'hostile format()'; END $$;
    CREATE FUNCTION odd.now() RETURNS timestamptz LANGUAGE plpgsql AS
        $$ BEGIN RAISE 'hostile now()'; END $$;
    CREATE FUNCTION odd.hostile(text, text) RETURNS boolean LANGUAGE plpgsql AS
        $$ BEGIN RAISE 'hostile operator'; END $$;
    CREATE OPERATOR odd.= (LEFTARG = text, RIGHTARG = text, FUNCTION = odd.hostile)"""


@pytest.fixture(name="odd")
def fixture_odd(cluster, pooled):
    name = cluster.create_database(template=pooled)
    yield Database(cluster, name)
    cluster.drop_database(name)


def query(connection, sql, *values):
    with connection.cursor() as cursor:
        cursor.execute(sql, values or None)
        return cursor.fetchall() if cursor.description else []


def life(connection):
    """Everything that the SQL does."""
    listen(connection)
    deliveries = [Delivery("task_1", "A"), Delivery("task_1", "A", None, at(10)), Delivery("task_1", "C", "B", at(20)),
                  Delivery("task_2", "A"), Delivery("task_2", "B", "A")]
    assert outcomes(record(connection, deliveries[:3], notify=True)) == ["recorded", "repeat", "recorded"]
    assert record_as_cgi(connection, deliveries[3])[0].outcome == "recorded"
    assert record_as_cgi(connection, deliveries[4])[0].outcome == "recorded"
    assert record_as_cgi(connection, deliveries[4])[0].outcome == "duplicate"
    assert outcomes(record(connection, [Delivery("task_1", "X", "A", at(5))])) == ["recorded", "promoted"]
    texts = notifications(connection, 4)
    assert '"status":"A","previous_status":null' in texts[0]
    query(connection, "SELECT humcli.quarantine_add(ARRAY[now()], ARRAY['r'], ARRAY['s'], ARRAY['f'], ARRAY[%s])",
          psycopg2.Binary(b"\0\\x"))
    query(connection, "SELECT humcli.subscribe('s', 'beginning')")
    rows = query(connection, "SELECT position, id FROM humcli.fetch('s')")
    assert len(rows) == 6
    query(connection, "SELECT humcli.ack('s', %s)", rows[-1][0])
    query(connection, "SELECT humcli.seek('s', 'now')")
    assert query(connection, "SELECT humcli.replay('s', since => '2020-01-02')") == [(6,)]
    assert len(query(connection, "SELECT position, id FROM humcli.fetch('s')")) == 6
    query(connection, "SELECT humcli.subscribe('p', 'beginning'); SELECT humcli.pool('p', in_order => true)")
    rows = query(connection, "SELECT id, claim_no FROM humcli.claim('p', 'w', 10)")
    assert len(rows) == 2
    assert query(connection, "SELECT humcli.complete('p', %s, %s)", *rows[0]) == [(True,)]
    assert query(connection, "SELECT humcli.extend('p', %s, %s)", *rows[1]) == [(True,)]
    assert query(connection, "SELECT humcli.fail('p', %s, %s, 'no')", *rows[1]) == [("retry",)]
    for view in ("tasks", "timeline", "gaps", "deliveries", "subscription_status"):
        assert query(connection, f"SELECT * FROM humcli.{view}")
    assert query(connection, "SELECT humcli.identities_behind()") == [([],)]
    query(connection, "SELECT humcli.unsubscribe('s'); SELECT humcli.unsubscribe('p')")
    query(connection, "UPDATE humcli.events SET recorded_at = recorded_at - interval '400 d',"
          " occurred_at = occurred_at - interval '3650 d'")
    query(connection, "UPDATE humcli.repeats SET recorded_at = recorded_at - interval '400 d',"
          " occurred_at = occurred_at - interval '3650 d'")
    assert query(connection, "SELECT humcli.purge(%s)", timedelta(days=1)) == [(2,)]


@pytest.mark.parametrize("name", SETTINGS)
def test_setting(odd, name):
    """Of the database: all works as it does without. The caller asks for a
    transaction of the kind that recording needs, as the receiver does."""
    odd.execute(HOSTILE)
    odd.execute(f"ALTER DATABASE {odd.name} SET {name} = {SETTINGS[name]}")
    connection = odd.connect()
    if name == "default_transaction_read_only":
        query(connection, "SET default_transaction_read_only = off")
    if name == "default_transaction_isolation":
        for call in ("record", "purge"):
            with pytest.raises(psycopg2.errors.ActiveSqlTransaction, match="needs READ COMMITTED"):
                if call == "record":
                    record(connection, [Delivery("t", "A")])
                else:
                    query(connection, "SELECT humcli.purge('1 day')")
        query(connection, "SET default_transaction_isolation = 'read committed'")
    life(connection)
    connection.close()
