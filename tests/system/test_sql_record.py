"""humcli.record_batch() and humcli.quarantine_add(): each case of the recording
rule."""

import threading
import time
from datetime import timedelta

import psycopg2
import pytest
from psycopg2 import errors

from harness.postgres import Cluster, Database, wait_until
from harness.record_calls import (SIGNATURE, START, Delivery, at, listen, notification,
                                  notifications, outcomes, record, record_all,
                                  record_as_cgi, record_next, stored)


def one(connection, sql, *arguments):
    """Returns the single value of a query."""
    with connection.cursor() as cursor:
        cursor.execute(sql, arguments or None)
        return cursor.fetchone()[0]


def run(connection, sql, *arguments):
    with connection.cursor() as cursor:
        cursor.execute(sql, arguments or None)


def first(task="task_1", status="SUBMITTED", previous="IN_PROGRESS", seconds=0, **more):
    return Delivery(task, status, previous, at(seconds), **more)


def at_once(database, batches):
    """Records all batches at the same moment, each on its own connection."""
    barrier = threading.Barrier(len(batches))
    answers = [None] * len(batches)

    def go(number, batch):
        connection = database.connect()
        try:
            barrier.wait()
            answers[number] = record_all(connection, batch)
        except Exception as failure:    # pylint: disable=broad-except
            answers[number] = failure
        finally:
            connection.close()

    threads = [threading.Thread(target=go, args=pair) for pair in enumerate(batches)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for answer in answers:
        if isinstance(answer, Exception):
            raise answer
    return answers


# Events and duplicates.


def test_columns(connection):
    delivery = first(payload='{ "b":1, "a" :2,"b": 3 }')
    rows = record(connection, [delivery])
    assert [tuple(row) for row in rows] == [(1, "recorded", rows[0].id, None, None, None)]
    with connection.cursor() as cursor:
        cursor.execute("SELECT id, event, task_id, status, previous_status, occurred_at, received_at,"
                       " recorded_at BETWEEN now() - interval '1 min' AND now(), first_of_status,"
                       " secret_name, signature, payload::text, xid < txid_current()"
                       " FROM humcli.events")
        assert cursor.fetchall() == [(
            rows[0].id, delivery.event, "task_1", "SUBMITTED", "IN_PROGRESS", START, START,
            True, True, "default", SIGNATURE, delivery.payload, True)]


@pytest.mark.parametrize("count", (2, 200))
def test_same_delivery_at_once(database, connection, count):
    answers = at_once(database, [[first()]] * count)
    assert sorted(row.outcome for (row,) in answers) == ["duplicate"] * (count - 1) + ["recorded"]
    assert len({row.id for (row,) in answers}) == 1
    assert stored(connection, "events") == [first()]
    assert not stored(connection, "repeats")


def test_same_delivery_in_one_batch(connection):
    other = first("task_2")
    rows = record(connection, [first(), other, first(), first(seconds=5), first()])
    assert outcomes(rows) == ["recorded", "recorded", "duplicate", "repeat", "duplicate"]
    assert [row.place for row in rows] == [1, 2, 3, 4, 5]
    assert len({row.id for row in rows if row.place != 2}) == 1
    assert sorted(stored(connection, "events")) == [first(), other]
    assert stored(connection, "repeats") == [first(seconds=5)]


def test_no_deliveries(connection):
    assert record(connection, []) == []
    assert record(connection, [], notify=True) == []


def test_duplicate_whatever_previous_status(connection):
    """A delivery is a duplicate also with another previous_status, which is not
    part of HumCLI's key."""
    record(connection, [first()])
    assert outcomes(record(connection, [first(previous=None)])) == ["duplicate"]
    record(connection, [first(seconds=5)])
    rows = record(connection, [first(seconds=5, previous=None)])
    assert outcomes(rows) == ["duplicate"] and rows[0].id is not None
    assert stored(connection, "events") == [first()]
    assert stored(connection, "repeats") == [first(seconds=5)]


# Repeats.


def test_restamped(connection):
    event = record(connection, [first()])[0]
    for seconds in (30, -30, 600, 1200, -630):
        rows = record(connection, [first(seconds=seconds, payload='{"again":1}')])
        assert [(row.outcome, row.id) for row in rows] == [("repeat", event.id)], seconds
    assert stored(connection, "events") == [first()]
    assert len(stored(connection, "repeats")) == 5
    assert one(connection, "SELECT payload::text FROM humcli.repeats LIMIT 1") == '{"again":1}'


@pytest.mark.parametrize("seconds", (600.000001, -600.000001, 86400))
def test_beyond_the_window(connection, seconds):
    rows = record(connection, [first(), first(seconds=seconds)])
    assert outcomes(rows) == ["recorded", "recorded"]


@pytest.mark.parametrize("seconds", (600, -600))
def test_at_the_edge_of_the_window(connection, seconds):
    assert outcomes(record(connection, [first(), first(seconds=seconds)])) == ["recorded", "repeat"]


def test_no_window(connection):
    rows = record(connection, [first(), first(seconds=1), first()], timedelta(0))
    assert outcomes(rows) == ["recorded", "recorded", "duplicate"]


@pytest.mark.parametrize("other", (
    first(status="VERIFIED", seconds=1), first(previous="DISPUTED", seconds=1),
    first(previous=None, seconds=1), first("task_2", seconds=1),
    first(seconds=1, event="task.other"), first(event="task.other")))
def test_not_the_same(connection, other):
    assert outcomes(record(connection, [first()])) == ["recorded"]
    assert outcomes(record(connection, [other])) == ["recorded"]


def test_null_is_a_previous_status_too(connection):
    rows = record(connection, [first(previous=None), first(previous=None, seconds=1)])
    assert outcomes(rows) == ["recorded", "repeat"]


def test_a_window_in_days_is_elapsed_time(connection):
    """A window of days counts 24 hours for each, also for the day of 23 hours
    on which the clocks change."""
    run(connection, "SET timezone = 'Europe/Berlin'")
    night = timedelta(days=28)      # to 29 March 2026, 12:00 UTC
    batch = [Delivery("task_1", "A", None, START + night - timedelta(days=1, seconds=-s))
             for s in (0, 86400)]
    assert outcomes(record(connection, batch, timedelta(days=1))) == ["recorded", "repeat"]
    batch = [d._replace(task_id="task_2") for d in batch]
    assert outcomes(record(connection, batch, timedelta(hours=24))) == ["recorded", "repeat"]


# Promotion.


@pytest.mark.parametrize("kept, late, promoted", ((0, 60, 60), (60, 0, 0)))
def test_promotion(database, connection, kept, late, promoted):
    """A transition that splits a visit promotes a repeat of the half that has
    no event."""
    listener = database.connect()
    listen(listener)
    visit = [first(seconds=kept), first(seconds=late)]
    assert outcomes(record(connection, visit)) == ["recorded", "repeat"]
    between = Delivery("task_1", "DISPUTED", "SUBMITTED", at(30))
    rows = record(connection, [between], notify=True)
    assert outcomes(rows) == ["recorded", "promoted"]
    assert rows[1][:2] == (1, "promoted")
    assert rows[1][3:] == ("task_1", "SUBMITTED", "IN_PROGRESS")
    assert notifications(listener, 2) == [
        notification(rows[0].id, between, True),
        notification(rows[1].id, first(), False)]
    assert rows[1].id > rows[0].id
    assert one(connection, "SELECT occurred_at FROM humcli.events WHERE id = %s", rows[1].id) == at(promoted)
    assert one(connection, "SELECT count(DISTINCT xid) FROM humcli.events WHERE id = ANY (%s)",
               [row.id for row in rows]) == 1
    assert not stored(connection, "repeats")
    listener.close()


def test_promotion_of_the_earliest(connection):
    times = (0, 200, 100, 300, -100)
    record(connection, [first(seconds=s, payload=f'{{"n":{s}}}') for s in times])
    rows = record(connection, [Delivery("task_1", "DISPUTED", None, at(50))])
    assert outcomes(rows) == ["recorded", "promoted"]
    assert one(connection, "SELECT payload::text FROM humcli.events WHERE id = %s", rows[1].id) == '{"n":100}'
    assert sorted(d.occurred_at for d in stored(connection, "repeats")) == [at(-100), at(200), at(300)]
    # the same on the other side
    rows = record(connection, [Delivery("task_1", "DISPUTED", None, at(-50))])
    assert outcomes(rows) == ["recorded", "promoted"]
    assert one(connection, "SELECT payload::text FROM humcli.events WHERE id = %s", rows[1].id) == '{"n":-100}'


def test_no_promotion_where_both_halves_have_one(connection):
    record(connection, [first(), first(seconds=700)])
    assert outcomes(record(connection, [first(seconds=350)])) == ["repeat"]    # joins the two visits
    rows = record(connection, [Delivery("task_1", "DISPUTED", None, at(360))])
    assert outcomes(rows) == ["recorded"]


def test_promotion_inside_a_batch(connection):
    rows = record(connection, [first(), first(seconds=60), Delivery("task_1", "DISPUTED", None, at(30)),
                               first("task_2"), first(seconds=60)])
    assert [(row.place, row.outcome) for row in rows] == [
        (1, "recorded"), (2, "repeat"), (3, "recorded"), (3, "promoted"),
        (4, "recorded"), (5, "duplicate")]
    assert rows[5].id == rows[3].id


# Locks.


def test_opposite_order(database, connection):
    """Two batches with their tasks in opposite order do not deadlock."""
    for number in range(40):
        batch = [first(f"task_{number}_{i}") for i in range(20)]
        rows = at_once(database, [batch, batch[::-1]])
        for ours, theirs in zip(rows[0], rows[1][::-1]):
            assert sorted((ours.outcome, theirs.outcome)) == ["duplicate", "recorded"]
            assert ours.id == theirs.id
    assert one(connection, "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()") == 0


def colliding(connection):
    """Returns two tasks whose locks have the same key."""
    return one(connection, "SELECT min(array_agg) FROM (SELECT array_agg('task_' || i)"
                           " FROM generate_series(1, 300000) i"
                           " GROUP BY hashtext('task_' || i) HAVING count(*) > 1) c")


def test_same_key(database, connection):
    """Two tasks with the same lock are both recorded, and are busy together."""
    ours, theirs = colliding(connection)
    other = database.connect()
    run(other, "BEGIN")
    record(other, [first(ours)])
    rows = record(connection, [first(theirs), first("task_0")])
    assert outcomes(rows) == ["busy", "recorded"]
    run(other, "COMMIT")
    assert outcomes(record(connection, [first(theirs), first(ours)])) == ["recorded", "duplicate"]
    other.close()


@pytest.mark.parametrize("locked", (1, 3))
def test_busy(database, connection, locked):
    """Only events of a locked task are busy; together they wait half a
    second."""
    other = database.connect()
    held = [first(f"held_{i}") for i in range(locked)]
    free = [first(f"free_{i}") for i in range(5)]
    run(other, "BEGIN")
    record(other, held)
    run(connection, "SET lock_timeout = '1234ms'; BEGIN")
    began = time.monotonic()
    rows = record(connection, free[:2] + held + free[2:])
    took = time.monotonic() - began
    assert outcomes(rows) == ["recorded"] * 2 + ["busy"] * locked + ["recorded"] * 3
    assert [row.place for row in rows] == list(range(1, 6 + locked))
    assert all(row.id is None for row in rows if row.outcome == "busy")
    assert 0.45 < took < 1.2
    assert one(connection, "SHOW lock_timeout") == "1234ms"
    run(connection, "COMMIT")
    run(other, "ROLLBACK")
    assert outcomes(record(connection, held)) == ["recorded"] * locked
    other.close()


def test_sees_what_the_lock_waited_for(database, connection):
    """An event that another transaction commits during the wait is a duplicate.
    There is no error and no second row."""
    other = database.connect()
    run(connection, "SET lock_timeout = '1234ms'")
    for number in range(10):
        task = f"task_{number}"
        run(other, "BEGIN")
        record(other, [first(task)])
        run(connection, "BEGIN")
        answer = []
        thread = threading.Thread(
            target=lambda task=task: answer.extend(record(connection, [first(task), first(task, seconds=5)])))
        thread.start()
        wait_until(lambda: one(other, "SELECT count(*) FROM pg_locks"
                                      " WHERE locktype = 'advisory' AND NOT granted"), "the second to wait")
        run(other, "COMMIT")
        thread.join()
        assert outcomes(answer) == ["duplicate", "repeat"]
        assert one(connection, "SHOW lock_timeout") == "1234ms"
        run(connection, "COMMIT")
    other.close()


def test_order_of_locks(database, connection):
    """Locks are taken in the order of their keys, so that no circle of waits
    can arise."""
    other, watch = database.connect(), database.connect()
    run(other, "SET lock_timeout = 0; BEGIN")
    tasks = [f"task_{i}" for i in range(30)]
    keys = {task: one(connection, "SELECT hashtext(%s)", task) for task in tasks}
    middle = sorted(tasks, key=keys.get)[15]
    record(other, [first(middle)])
    answer = []
    thread = threading.Thread(target=lambda: answer.extend(record(connection, [first(task) for task in tasks])))
    thread.start()
    held = wait_until(lambda: one(watch, """
        SELECT array_agg(l.objid::bigint) FILTER (WHERE l.granted) FROM pg_locks l
        WHERE l.locktype = 'advisory' AND l.pid = %s
        HAVING NOT bool_and(l.granted)
        UNION ALL SELECT NULL LIMIT 1""", connection.info.backend_pid), "the batch to wait")
    assert sorted(held) == sorted(key % 2 ** 32 for key in keys.values() if key < keys[middle])
    run(other, "ROLLBACK")
    thread.join()
    assert outcomes(answer) == ["recorded"] * 30
    other.close()
    watch.close()


INSERT = ("INSERT INTO humcli.events (event, task_id, status, previous_status, occurred_at,"
          " received_at, first_of_status, secret_name, signature, payload)"
          " VALUES (%s, %s, %s, %s, %s, now(), true, 'default', %s, '{}') RETURNING id")


@pytest.mark.parametrize("batch", ([first()], [first(), first("task_2"), first(status="A")]))
def test_written_by_hand(database, connection, batch):
    """The constraint refuses a second row, also without the locks."""
    other = database.connect()
    run(other, "BEGIN")
    number = one(other, INSERT, first().event, "task_1", "SUBMITTED", "IN_PROGRESS", START, SIGNATURE)
    answer = []
    thread = threading.Thread(target=lambda: answer.extend(record(connection, batch)))
    thread.start()
    wait_until(lambda: one(other, "SELECT count(*) FROM pg_locks WHERE NOT granted"), "the second to wait")
    run(other, "COMMIT")
    thread.join()
    assert [tuple(row[:3]) for row in answer][0] == (1, "duplicate", number)
    assert len(stored(connection, "events")) == len(batch)
    other.close()


# record_next(), by which plain CGI records the usual event.


LINE = [Delivery("task_1", status, previous, at(60 * i)) for i, (previous, status) in enumerate((
    (None, "PENDING"), ("PENDING", "A"), ("A", "B"), ("B", "A"), ("A", "B")))]
LAST = LINE[-1].occurred_at


@pytest.mark.parametrize("start", (0, 1))
def test_next(database, connection, start):
    """record_next() makes the same rows and notifications as record_batch()."""
    listener = database.connect()
    listen(listener)
    ids = [record_next(connection, delivery) for delivery in LINE[start:]]
    assert None not in ids
    firsts = [d.status not in [e.status for e in LINE[start:i]] for i, d in enumerate(LINE) if i >= start]
    assert notifications(listener, len(ids)) == [
        notification(*row) for row in zip(ids, LINE[start:], firsts)]
    listener.close()
    columns = ("SELECT array_agg((event, task_id, status, previous_status, occurred_at, received_at,"
               " first_of_status, secret_name, signature, payload::text)::text ORDER BY id) FROM humcli.events")
    rows = one(connection, columns)
    run(connection, "TRUNCATE humcli.events")
    record(connection, LINE[start:])
    assert rows == one(connection, columns)
    assert outcomes(record(connection, LINE)) == ["recorded"] * start + ["duplicate"] * (5 - start)


@pytest.mark.parametrize("before, delivery", [
    (LINE, LINE[-1]),
    (LINE, LINE[-1]._replace(occurred_at=at(241))),
    (LINE, LINE[-1]._replace(occurred_at=at(241), previous_status="B")),
    (LINE, LINE[0]),
    (LINE, Delivery("task_1", "C", "B", at(239))),
    (LINE, Delivery("task_1", "C", "B", LAST)),
    (LINE, Delivery("task_1", "C", None, LAST)),
    (LINE, Delivery("task_1", "C", "A", at(300))),
    (LINE, Delivery("task_1", "C", "B", at(300), "task.other")),
    (LINE[:4], LINE[4]._replace(event="task.other")),
    ([], Delivery("task_1", "C", "B")),
    ([], Delivery("t" * 151, "C")),
    (LINE[:2], Delivery("task_1", "B", None, at(70))),
    ([LINE[1], Delivery("task_1", "C", "A", at(60))], Delivery("task_1", "D", "C", at(70))),
    ([LINE[1], LINE[1]._replace(occurred_at=at(61))], Delivery("task_1", "D", "A", at(70)))])
def test_not_the_usual(connection, before, delivery):
    """record_next() leaves unusual events to record_batch(): it changes nothing and
    holds no lock."""
    record(connection, before)
    here = [stored(connection, table) for table in ("events", "repeats")]
    run(connection, "BEGIN")
    assert record_next(connection, delivery) is None
    run(connection, "COMMIT")
    assert here == [stored(connection, table) for table in ("events", "repeats")]


def test_next_of_a_retired_task(database, connection):
    record(connection, LINE[:2])
    database.execute("UPDATE humcli.events SET recorded_at = now() - interval '3 days'")
    assert one(connection, "SELECT humcli.purge('1 day')") == 1
    assert record_next(connection, LINE[2]) is None
    assert outcomes(record(connection, [LINE[2]])) == ["recorded"]
    assert record_next(connection, LINE[3]) is None


@pytest.mark.parametrize("setting", ("default_transaction_isolation = 'repeatable read'",
                                     "default_transaction_isolation = serializable", "synchronous_commit = off"))
def test_next_leaves_to_record(connection, setting):
    """record_next() leaves to record_batch() what that refuses or corrects."""
    run(connection, f"SET {setting}")
    assert record_next(connection, first(previous=None)) is None
    run(connection, "RESET ALL")
    assert record_next(connection, first(previous=None))


def test_next_of_a_locked_task(database, connection):
    """record_next() does not wait for a lock, and reads only after it has the
    lock."""
    other = database.connect()
    run(other, "BEGIN")
    record(other, LINE[:1])
    assert record_next(connection, LINE[1]) is None
    run(other, "COMMIT")
    run(connection, "SET humcli.locked = 'true'")     # any role can set this
    run(other, "BEGIN")
    run(other, "SELECT pg_advisory_xact_lock(1752526179, hashtext('task_1'))")
    assert record_next(connection, LINE[1]) is None
    run(other, "COMMIT")
    assert record_next(connection, LINE[1])
    other.close()


def test_next_sets_a_limit_to_its_commit(connection):
    """record_next() limits the time of its own commit only. See also
    test_sql_notify.py."""
    run(connection, "SET lock_timeout = '1234ms'; BEGIN")
    assert record_next(connection, LINE[0])
    assert one(connection, "SHOW lock_timeout") == "250ms"
    run(connection, "COMMIT; BEGIN")
    assert record_next(connection, LINE[0]) is None
    assert one(connection, "SHOW lock_timeout") == "1234ms"
    run(connection, "COMMIT")


def test_next_beside_one_written_by_hand(database, connection):
    other = database.connect()
    run(other, "BEGIN")
    one(other, INSERT, LINE[1].event, *LINE[1][:4], SIGNATURE)
    answer = []
    thread = threading.Thread(target=lambda: answer.append(record_next(connection, LINE[1])))
    thread.start()
    wait_until(lambda: one(other, "SELECT count(*) FROM pg_locks WHERE NOT granted"), "the second to wait")
    time.sleep(0.4)
    run(other, "COMMIT")
    thread.join()
    assert answer == [None]
    assert outcomes(record(connection, [LINE[1]])) == ["duplicate"]
    other.close()


def test_next_at_once(database):
    """Of ten calls with the same event, one records it and the others see
    it."""
    barrier = threading.Barrier(10)
    answers = []

    def go():
        connection = database.connect()
        for delivery in LINE:
            barrier.wait()
            answers.append((delivery, record_next(connection, delivery)
                            or outcomes(record(connection, [delivery]))[0]))
        connection.close()

    threads = [threading.Thread(target=go) for _ in range(10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for delivery in LINE:
        mine = [answer for d, answer in answers if d is delivery]
        assert len(mine) == 10
        assert sum(answer not in ("duplicate", "busy") for answer in mine) == 1


# Transactions.


@pytest.mark.parametrize("level", ("REPEATABLE READ", "SERIALIZABLE"))
def test_isolation(connection, level):
    run(connection, f"BEGIN ISOLATION LEVEL {level}")
    with pytest.raises(psycopg2.Error) as caught:
        record(connection, [first()])
    assert caught.value.pgcode == "25001"
    run(connection, "ROLLBACK")
    assert not stored(connection, "events")


@pytest.mark.parametrize("setting, then", (("off", "on"), ("local", "local"), ("on", "on"),
                                           ("remote_apply", "remote_apply")))
@pytest.mark.parametrize("call", ("record", "quarantine_add"))
def test_synchronous_commit(connection, setting, then, call):
    run(connection, f"SET synchronous_commit = {setting}; BEGIN")
    if call == "record":
        record(connection, [first()])
    else:
        quarantine_add(connection, [("a" * 64, "reason")])
    assert one(connection, "SHOW synchronous_commit") == then
    run(connection, "COMMIT")
    assert one(connection, "SHOW synchronous_commit") == setting


def test_durable_though_off_by_role(paths):
    """A commit of record_batch() survives a crash, whatever the role's settings
    are."""
    cluster = Cluster(["wal_writer_delay = 10s", "autovacuum = off"])
    try:
        database = Database(cluster, cluster.create_database())
        database.psql("-q", "-f", str(paths.install_sql))
        cluster.execute("CREATE ROLE hasty LOGIN IN ROLE humcli_writer; ALTER ROLE hasty SET synchronous_commit = off")
        connection = database.connect("hasty")
        assert one(connection, "SHOW synchronous_commit") == "off"
        assert outcomes(record(connection, [first()])) == ["recorded"]
        cluster.kill()
        connection.close()
        cluster.start()
        assert database.execute("SELECT task_id FROM humcli.events") == [("task_1",)]
    finally:
        cluster.remove()


def test_duplicates_are_durable_too(connection):
    """The commit of a duplicate writes to the WAL, and so waits like that of
    the first delivery."""
    record(connection, [first(), first("task_2"), first("task_2", seconds=1)])
    connection.autocommit = False
    for batch in ([first()], [first(), first()], [first("task_2", seconds=1)], []):
        assert "recorded" not in outcomes(record(connection, batch))
        assert one(connection, "SELECT txid_current_if_assigned() IS NOT NULL")
        connection.commit()


def test_rollback(connection):
    """An invalid event fails the whole call, and no event of it is recorded."""
    for bad in (first("task_2", payload="{"), first(task=None), first(status=None),
                first("task_2")._replace(occurred_at="infinity")):
        with pytest.raises(psycopg2.Error) as caught:
            record(connection, [first(), bad])
        assert caught.value.pgcode[:2] in ("22", "23")
    assert not stored(connection, "events")


@pytest.mark.parametrize("window", (None, timedelta(seconds=-1)))
def test_bad_window(connection, window):
    with pytest.raises(errors.InvalidParameterValue):
        record(connection, [first()], window)


def test_arrays_of_two_lengths(connection):
    with pytest.raises(errors.ArraySubscriptError):
        run(connection, "SELECT humcli.record_batch(ARRAY['e'], ARRAY['t', 'u'], ARRAY['s'], ARRAY['p'], ARRAY[now()],"
                        " ARRAY[now()], ARRAY['n'], ARRAY['f'], ARRAY['{}']::json[], '10 min')")


# The columns of the rows.


def test_first_of_status(connection):
    """first_of_status is true once for each task_id and status, HumCLI's
    key."""
    deliveries = [Delivery("task_1", "B", "A", at(10)), Delivery("task_1", "A", "B", at(20)),
                  Delivery("task_1", "B", "A", at(30)), Delivery("task_1", "A", None, at(0)),
                  Delivery("task_1", "B", "A", at(40), event="task.other"),
                  Delivery("task_2", "B", "A", at(10))]
    for batch in (deliveries[:1], deliveries[1:3], deliveries[3:]):
        record(connection, batch)
    with connection.cursor() as cursor:
        cursor.execute("SELECT task_id, status, occurred_at FROM humcli.events WHERE first_of_status ORDER BY id")
        assert cursor.fetchall() == [("task_1", "B", at(10)), ("task_1", "A", at(20)), ("task_2", "B", at(10))]
    assert one(connection, "SELECT count(*) FROM humcli.events") == 6


@pytest.mark.parametrize("payload", (
    r'{"note":"\u0000"}', r'{"note":"\ud800"}', '{"n":' + "9" * 200000 + "}", '{"n":1e999999}',
    '{"n":' + "[" * 990 + "]" * 990 + "}"), ids=("nul", "surrogate", "digits", "exponent", "depth"))
def test_payload_that_jsonb_may_not_hold(connection, payload):
    """The payload is recorded as it was signed. Such a row does not fail a
    query over all rows."""
    record(connection, [first(payload=payload), first("task_2", payload='{"note":"x"}')])
    assert one(connection, "SELECT payload::text FROM humcli.events WHERE task_id = 'task_1'") == payload
    with connection.cursor() as cursor:
        cursor.execute("SELECT humcli.payload(payload) ->> 'note' FROM humcli.events ORDER BY task_id")
        assert cursor.fetchall() == [(None,), ("x",)]


def test_payload_null(connection):
    assert one(connection, r"""SELECT humcli.payload('{"note":"\u0000"}') IS NULL""")
    assert one(connection, "SELECT humcli.payload(NULL) IS NULL")
    assert one(connection, """SELECT humcli.payload('{"a":[1,null]}') = '{"a":[1,null]}'""")


def test_unknown_statuses_and_types(connection):
    odd = Delivery("t\u00e4sk \U0001f600", "\n\"'\\", "NULL", START, "x.y", '{"\u00e9":"\U0001f600"}')
    assert outcomes(record(connection, [odd])) == ["recorded"]
    assert stored(connection, "events") == [odd]


# Plans.


def fill(connection):
    """Inserts rows of other tasks, without statistics."""
    for table, extra, value in (("events", ", first_of_status", ", true"), ("repeats", "", "")):
        run(connection, f"INSERT INTO humcli.{table} (event, task_id, status, previous_status, occurred_at,"
                        f" received_at, secret_name, signature, payload{extra})"
                        " SELECT 'task.status_changed', 'other_' || i / 4, 'S' || i % 4, NULL,"
                        " '2026-01-01Z'::timestamptz + make_interval(secs => i), now(), 'default',"
                        f" repeat('f', 64), '{{}}'{value} FROM generate_series(1, 20000) i")


def read(connection):
    """Returns the number of rows this transaction has read from the two tables,
    and the number of sequential scans."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT sum(seq_scan), sum(seq_tup_read + coalesce(idx_tup_fetch, 0)),"
                       " (SELECT sum(idx_tup_read) FROM pg_stat_xact_user_tables t, LATERAL"
                       "  (SELECT pg_stat_get_xact_tuples_returned(i.indexrelid) AS idx_tup_read"
                       "   FROM pg_index i WHERE i.indrelid = t.relid) x WHERE t.schemaname = 'humcli')"
                       " FROM pg_stat_xact_user_tables"
                       " WHERE schemaname = 'humcli' AND relname IN ('events', 'repeats')")
        return [int(value) for value in cursor.fetchone()]


def test_plans_made_on_small_tables(database, connection):
    """A session that began with small tables does not scan large tables
    later."""
    def calls(number):
        task = f"task_{number}"
        record(connection, [first(task), first(task, seconds=60), first(f"{task}_b")])
        rows = record(connection, [Delivery(task, "DISPUTED", None, at(30)), first(task, seconds=10)], notify=True)
        assert outcomes(rows) == ["recorded", "promoted", "repeat"]

    other = database.connect()
    record(other, [first(f"small_{i % 9}", seconds=i) for i in range(20)])
    run(other, "VACUUM ANALYZE humcli.events")
    run(other, "VACUUM ANALYZE humcli.repeats")
    for number in range(10):    # after five calls PostgreSQL keeps a generic plan
        calls(number)
    fill(other)
    other.close()
    run(connection, "BEGIN")
    calls(10)
    scans, rows, entries = read(connection)
    assert scans == 0
    assert 0 < rows < 1000
    assert 0 < entries < 1000
    run(connection, "COMMIT")


# Quarantine.


def quarantine_add(connection, bodies):
    """Calls humcli.quarantine_add() with a signature and a reason for each
    body."""
    run(connection, "SELECT humcli.quarantine_add(%s::timestamptz[], %s, %s, %s, %s::bytea[])",
        [START] * len(bodies), [reason for _, reason in bodies], ["default"] * len(bodies),
        [signature for signature, _ in bodies], [psycopg2.Binary(b"\x00\xff{") for _ in bodies])


def test_quarantine(connection):
    quarantine_add(connection, [("b" * 64, "one"), ("a" * 64, "two"), ("b" * 64, "three")])
    quarantine_add(connection, [("b" * 64, "four")])
    with connection.cursor() as cursor:
        cursor.execute("SELECT signature, reason, seen, received_at, secret_name, body"
                       " FROM humcli.quarantine ORDER BY signature")
        rows = [(*row[:5], bytes(row[5])) for row in cursor.fetchall()]
    assert rows == [("a" * 64, "two", 1, START, "default", b"\x00\xff{"),
                    ("b" * 64, "one", 3, START, "default", b"\x00\xff{")]


def test_quarantine_in_opposite_order(database, connection):
    signatures = [f"{i:064x}" for i in range(20)]
    failures = []
    barrier = threading.Barrier(2)

    def go(order):
        mine = database.connect()
        try:
            for _ in range(40):
                barrier.wait()
                quarantine_add(mine, [(signature, "x") for signature in order])
        except Exception as failure:    # pylint: disable=broad-except
            failures.append(failure)
            barrier.abort()
        finally:
            mine.close()

    threads = [threading.Thread(target=go, args=(order,)) for order in (signatures, signatures[::-1])]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    assert one(connection, "SELECT array_agg(DISTINCT seen) FROM humcli.quarantine") == [80]


# An empty previous_status.


@pytest.mark.parametrize("way", (record, record_as_cgi))
def test_empty_previous_status(connection, way):
    """An empty previous_status counts as none in the row, in the rule, in the
    views and in the notification."""
    listen(connection)

    def put(*deliveries):
        return [row for d in deliveries for row in (
            way(connection, [d], notify=True) if way is record else way(connection, d))]

    rows = put(first(previous=""), first(previous=None, seconds=1), first(previous="", seconds=2),
               first("task_2", previous=""))
    assert outcomes(rows) == ["recorded", "repeat", "repeat", "recorded"]
    assert {d.previous_status for d in stored(connection, "events") + stored(connection, "repeats")} == {None}
    assert notifications(connection, 2)[0] == notification(rows[0].id, first(previous=None), True)
    assert one(connection, "SELECT count(*) FROM humcli.gaps") == 0


# A visit of many deliveries.


@pytest.mark.parametrize("beyond", (False, True))
@pytest.mark.parametrize("step", (1, -1))
def test_long_visit(connection, step, beyond):
    """One more costs no walk along all of them, also with another event of the
    status beyond them. The limit is far from what it needs, and a fifth of what
    walking takes."""
    record(connection, [first()])
    number = one(connection, "SELECT id FROM humcli.events")
    run(connection, "INSERT INTO humcli.repeats (event, task_id, status, previous_status, occurred_at,"
        " received_at, secret_name, signature, payload, event_id)"
        " SELECT e.event, e.task_id, e.status, e.previous_status, e.occurred_at + i * interval '1 s' * %s,"
        " e.received_at, e.secret_name, e.signature, e.payload, e.id"
        " FROM humcli.events e, generate_series(1, 20000) i", step)
    if beyond:
        assert outcomes(record(connection, [first(seconds=step * 30000)])) == ["recorded"]
    run(connection, "SET statement_timeout = '3 s'")
    rows = record(connection, [first(seconds=step * (20000 + i)) for i in range(1, 251)]
                  + [first(seconds=step * (i + .5)) for i in range(5000, 5250)])
    assert {(row.outcome, row.id) for row in rows} == {("repeat", number)}
    run(connection, "SET statement_timeout = 0")
    rows = record(connection, [first(status="A", seconds=step * 15000.2)])
    assert outcomes(rows) == ["recorded", "promoted"]
    promoted = rows[1].id
    run(connection, "SET statement_timeout = '3 s'")
    # In each half, one has the promoted event and one the first.
    rows = record(connection, [first(seconds=step * (20000 + i)) for i in range(251, 451)])
    assert {(row.outcome, row.id) for row in rows} == {("repeat", promoted)}
    rows = record(connection, [first(seconds=step * (i + .5)) for i in range(1000, 1200)])
    assert {(row.outcome, row.id) for row in rows} == {("repeat", number)}
