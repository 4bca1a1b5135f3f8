"""A dump restored in a cluster with fewer transactions. The consumers'
functions fail until humcli.rebase(), so that no event is skipped."""

import io

import psycopg2
import pytest
from psycopg2 import errors

from harness.postgres import Database
from harness.record_calls import Delivery, at, record
from harness.subscription_calls import call, drain, fetch, ids, value

TABLES = ("events", "repeats", "retired", "late", "quarantine", "subscriptions", "replays", "jobs", "dead")
FAR = 5_000_000     # more transactions than a test run makes


def restore(cluster, template, source, ahead):
    """
    Copies a database row by row, as psql does with a dump. The copy looks like
    one of a cluster whose transaction counter is that much ahead.
    """
    copy = Database(cluster, cluster.create_database(template=template))
    reader, writer = source.connect(), copy.connect()
    with reader.cursor() as cursor, writer.cursor() as into:
        for table in TABLES:
            text = io.StringIO()
            cursor.copy_expert(f"COPY humcli.{table} TO STDOUT", text)
            text.seek(0)
            into.execute("BEGIN")
            if table == "events":
                into.execute("CREATE TEMP TABLE e ON COMMIT DROP AS TABLE humcli.events WITH NO DATA")
                into.copy_expert("COPY e FROM STDIN", text)
                into.execute(f"UPDATE e SET xid = xid + {ahead};"
                             "INSERT INTO humcli.events OVERRIDING SYSTEM VALUE SELECT * FROM e ORDER BY id;"
                             "SELECT setval('humcli.events_id_seq', greatest((SELECT max(id) FROM e), 1))")
            else:
                into.copy_expert(f"COPY humcli.{table} FROM STDIN", text)
            if table == "replays":
                into.execute("SELECT setval('humcli.replays_place_seq', (SELECT max(place) + 1 FROM humcli.replays))")
            if table == "subscriptions":
                into.execute(f"""
                    CREATE FUNCTION pg_temp.shift(s txid_snapshot) RETURNS txid_snapshot LANGUAGE sql STRICT AS $$
                        SELECT format('%s:%s:%s', txid_snapshot_xmin(s) + {ahead}, txid_snapshot_xmax(s) + {ahead},
                            (SELECT string_agg((x + {ahead})::text, ',' ORDER BY x) FROM txid_snapshot_xip(s) x)
                        )::txid_snapshot $$;
                    UPDATE humcli.subscriptions SET win_xid = CASE WHEN win_xid > 0 THEN win_xid + {ahead} ELSE 0 END,
                        done = CASE WHEN done::text = '1:1:' THEN done ELSE pg_temp.shift(done) END,
                        win = pg_temp.shift(win)""")
            into.execute("COMMIT")
    reader.close()
    writer.close()
    return copy


def burn(cluster, count):
    """Uses up transaction ids."""
    connection = cluster.connect()
    connection.cursor().execute(
        f"DO $$ BEGIN FOR i IN 1..{count} LOOP PERFORM txid_current(); COMMIT; END LOOP; END $$")
    connection.close()


@pytest.fixture(name="source")
def fixture_source(database):
    """Makes subscriptions in each state; returns the events that each still
    gets."""
    connection = database.connect()
    for name in ("new", "window", "done", "ahead", "some"):
        call(connection, "subscribe", name, statuses=["A"] if name == "some" else None)
    call(connection, "subscribe", "beginning", "beginning")
    early = psycopg2.connect(database.dsn())
    late = ids(record(early, [Delivery("early", "A")]))     # recorded after the open window
    rows = record(connection, [Delivery(f"task_{i}", "AB"[i % 2]) for i in range(10)])
    got = fetch(connection, "window")
    call(connection, "ack", "window", got[3].position)
    drain(connection, "done")
    drain(connection, "ahead")
    call(connection, "replay", "ahead", ids=[rows[0].id])
    early.commit()
    early.close()
    expected = {}
    for name in ("new", "window", "done", "ahead", "some", "beginning"):
        expected[name] = ids(fetch(connection, name)) + (late if name == "window" else [])
        if name != "window":    # their windows are not open in the dump
            connection.cursor().execute("UPDATE humcli.subscriptions SET win = NULL WHERE name = %s"
                                        " AND win_xid = 0", [name])
    connection.close()
    database.expected = expected
    return database


def check_refused(connection):
    """Checks that each function fails with a clear message."""
    for function, arguments in (("fetch", ["done"]), ("ack", ["done", "1:0:5:5"]), ("seek", ["done", "now"]),
                                ("replay", ["done", [1]]), ("purge", ["1 day"])):
        with pytest.raises(errors.ObjectNotInPrerequisiteState, match="restored"):
            call(connection, function, *arguments)


@pytest.mark.parametrize("noticed", (True, False), ids=("at once", "when the counter has caught up"))
def test_restore(cluster, template, source, noticed):
    """Events are recorded also before rebase(). After it each subscription gets
    the old and the new events."""
    ahead = FAR if noticed else 3000
    copy = restore(cluster, template, source, ahead)
    connection = copy.connect()
    new = ids(record(connection, [Delivery("task_1", "B", "A", at(1)), Delivery("task_99", "A")]))
    with connection.cursor() as cursor:     # in a subtransaction
        cursor.execute("BEGIN; SAVEPOINT a")
        new += ids(record(connection, [Delivery("task_98", "A")]))
        cursor.execute("COMMIT")
    with connection.cursor() as cursor:
        cursor.execute("SELECT name FROM humcli.subscription_status WHERE needs_rebase ORDER BY name")
        assert len(cursor.fetchall()) == 6
    check_refused(connection)
    with pytest.raises(errors.ObjectNotInPrerequisiteState):
        call(connection, "subscribe", "another")
    if not noticed:
        burn(cluster, ahead + 100)
        check_refused(connection)
    assert value(connection, "rebase")
    assert not value(connection, "rebase")
    new += ids(record(connection, [Delivery("task_97", "A")]))
    for name, expected in source.expected.items():
        wanted = set(expected) | set(new)
        if name == "some":
            wanted.discard(new[0])
        got = ids(drain(connection, name, 3))
        assert set(got) == wanted, name
        assert len(got) == len(wanted), name
    assert ids(drain(connection, "done")) == []
    call(connection, "seek", "done", "beginning")
    everything = copy.execute("SELECT id FROM humcli.events")
    assert set(ids(drain(connection, "done"))) == {row[0] for row in everything}
    connection.close()
    cluster.drop_database(copy.name)


def test_between_the_two_snapshots(cluster, template, database):
    """The counter is after one of a cursor's two snapshots and before the
    other."""
    connection = database.connect()
    call(connection, "subscribe", "s")
    record(connection, [Delivery("task_0", "A")])
    burn(cluster, 140_000)
    rest = ids(record(connection, [Delivery("task_1", "A"), Delivery("task_2", "A")]))
    rows = fetch(connection, "s")
    call(connection, "ack", "s", rows[0].position)
    connection.close()
    # as if the other cluster had made half as many more transactions
    copy = restore(cluster, template, database, 70_000)
    connection = copy.connect()
    done, win, present = copy.execute("SELECT txid_snapshot_xmax(done), txid_snapshot_xmax(win), txid_current()"
                                      " FROM humcli.subscriptions")[0]
    assert int(done) < int(present) < int(win)
    new = ids(record(connection, [Delivery("task_3", "A")]))
    with pytest.raises(errors.ObjectNotInPrerequisiteState):
        fetch(connection, "s")
    assert value(connection, "rebase")
    assert ids(drain(connection, "s")) == rest + new
    connection.close()
    cluster.drop_database(copy.name)


def test_counter_ahead(cluster, template, source):
    """A cluster with more transactions needs no rebase(), because all new
    events come after the old ones."""
    copy = restore(cluster, template, source, 0)
    connection = copy.connect()
    new = ids(record(connection, [Delivery("task_99", "A")]))
    for name, expected in source.expected.items():
        assert sorted(ids(drain(connection, name))) == sorted(expected + new), name
    assert not value(connection, "rebase")
    connection.close()
    cluster.drop_database(copy.name)


def test_unsubscribe_without_rebase(cluster, template, source):
    copy = restore(cluster, template, source, FAR)
    connection = copy.connect()
    call(connection, "unsubscribe", "done")
    connection.close()
    cluster.drop_database(copy.name)


def test_no_false_alarm(database):
    """Uncommitted rows and a subscription of the same transaction do not look
    like a restored dump."""
    connection = psycopg2.connect(database.dsn())
    call(connection, "subscribe", "s")
    record(connection, [Delivery("task_1", "A")])
    assert fetch(connection, "s") == []
    call(connection, "seek", "s", "now")
    connection.commit()
    connection.close()


@pytest.mark.parametrize("xid, present, whole", (
    (5, 10, 5), (4294967295, 2 ** 32 + 10, 2 ** 32 - 1), (3, 2 ** 32 + 10, 2 ** 32 + 3), (10, 2 ** 32 - 10, 2 ** 32 + 10)))
def test_xid_to_bigint(database, xid, present, whole):
    """The conversion is right around the wrap of the 32 bits, tried with other
    present transaction ids."""
    body, = database.execute("SELECT prosrc FROM pg_proc WHERE proname = 'xid_to_bigint'")[0]
    body = body.replace("pg_catalog.txid_snapshot_xmax(pg_catalog.txid_current_snapshot())", f"{present}::bigint").replace("p_xid", f"'{xid}'::xid")
    assert database.execute(body) == [(whole,)]
