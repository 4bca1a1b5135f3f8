"""humcli.purge(), and the last event that stays of each task."""

from datetime import timedelta

import psycopg2
import pytest
from psycopg2 import errors

from harness.postgres import wait_until
from harness.record_calls import EVENT, Delivery, at, outcomes, record, stored
from harness.subscription_calls import Threads, call, drain, fetch, fill, ids, value
from harness.visit_model import Model

WINDOW = timedelta(seconds=60)


def age(connection, where="true"):
    """Moves both times of the rows back by a year."""
    for table in ("events", "repeats"):
        connection.cursor().execute(
            f"UPDATE humcli.{table} SET recorded_at = recorded_at - interval '1 year' WHERE {where}")


def purge(connection, older_than="1 day", max_tasks=1000):
    """Calls humcli.purge()."""
    return value(connection, "purge", older_than, max_tasks)


def count(connection, table):
    """Returns the number of rows of a table."""
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT count(*) FROM humcli.{table}")
        return cursor.fetchone()[0]


def old(task, status, previous=None, seconds=0, event=EVENT):
    """Returns a delivery of years ago."""
    return Delivery(task, status, previous, at(seconds) - timedelta(days=1500), event)


def test_secrets(connection):
    """A subscription holds back the tasks of its own secrets only."""
    call(connection, "subscribe", "s", secrets=["a"])
    record(connection, [old("mine", "A")._replace(secret_name="a"), old("other", "A")._replace(secret_name="b")])
    age(connection)
    assert purge(connection) == 1
    assert {d.task_id for d in stored(connection, "events")} == {"mine"}
    drain(connection, "s")
    assert purge(connection) == 1


def test_whole_histories(connection):
    """A task is purged only if its newest row, repeats included, is old by both
    times."""
    rows = record(connection, [old("gone", "A"), old("gone", "B", "A", 60), old("gone", "B", "A", 61),
                               old("recorded_now", "A"), old("happened_now", "A"),
                               Delivery("happened_now", "B", "A", at(0) + timedelta(days=36500))])
    age(connection, "task_id <> 'recorded_now'")
    record(connection, [old("repeated_now", "A", None, 1)])
    age(connection, "task_id = 'repeated_now'")
    record(connection, [old("repeated_now", "A", None, 2)])
    assert purge(connection, "400 days") == 0
    assert purge(connection) == 1
    assert {d.task_id for d in stored(connection, "events")} == {"recorded_now", "happened_now", "repeated_now"}
    assert [d.task_id for d in stored(connection, "repeats")] == ["repeated_now"]
    with connection.cursor() as cursor:
        cursor.execute("SELECT task_id, event, occurred_at, status, previous_status, event_id,"
                       " statuses @> '{A,B}' FROM humcli.retired")
        assert cursor.fetchall() == [
            ("gone", EVENT, old("gone", "B", "A", 61).occurred_at, "B", "A", rows[1].id, True)]
    assert purge(connection) == 0


def test_at_most(connection):
    record(connection, [old(f"task_{i}", "A") for i in range(10)])
    age(connection)
    assert [purge(connection, max_tasks=4) for _ in range(4)] == [4, 4, 2, 0]
    assert count(connection, "retired") == 10


def test_not_after_is_late(connection):
    """An event that is not after the last purged one is answered as a
    duplicate. It is kept once and is no event."""
    record(connection, [old("task", "A"), old("task", "B", "A", 100)])
    age(connection)
    purge(connection)
    for late in (old("task", "B", "A", 100), old("task", "A"), old("task", "0", None, 100),
                 old("task", "X", None, 50), old("task", "X", None, 50, "task.other")):
        for _ in range(2):
            row, = record(connection, [late])
            assert (row.outcome, row.id) == ("duplicate", None)
        assert late in stored(connection, "late")
    assert count(connection, "late") == 5
    assert count(connection, "events") == 0
    assert outcomes(record(connection, [old("task", "X", None, 60), old("task", "Z", "B", 100)])) == [
        "duplicate", "recorded"]


def test_left_neighbour(connection):
    """The last event stays: its redeliveries are repeats, and humcli.gaps uses
    it."""
    last = record(connection, [old("task", "A"), old("task", "B", "A", 100)])[1].id
    age(connection)
    purge(connection)
    row, = record(connection, [old("task", "B", "A", 101)])
    assert (row.outcome, row.id) == ("repeat", last)
    assert outcomes(record(connection, [old("task", "B", "A", 101)])) == ["duplicate"]
    new, = record(connection, [old("task", "C", "B", 200)])
    assert new.outcome == "recorded"
    assert count(connection, "gaps") == 0
    record(connection, [old("task", "E", "D", 300)])
    record(connection, [old("other", "A")])
    age(connection, "task_id = 'other'")
    purge(connection)
    record(connection, [old("other", "C", "B", 1)])
    with connection.cursor() as cursor:
        cursor.execute("SELECT task_id, kind, status_before, previous_status FROM humcli.gaps")
        assert cursor.fetchall() == [("other", "hole", "A", "B"), ("task", "hole", "C", "D")]


def test_repeats_alone(connection):
    """Redeliveries of the last event are purged, too, and move its time on."""
    record(connection, [old("task", "A")])
    age(connection)
    purge(connection)
    record(connection, [old("task", "A", None, 5)])
    age(connection)
    assert (purge(connection), purge(connection)) == (1, 0)
    assert count(connection, "repeats") == 0
    assert outcomes(record(connection, [old("task", "A", None, 5), old("task", "A", None, 9)])) == [
        "duplicate", "repeat"]


def test_split_next_to_the_last_event(connection):
    """A transition between the last event and its repeat promotes the
    repeat."""
    record(connection, [old("task", "A")])
    age(connection)
    purge(connection)
    record(connection, [old("task", "A", None, 20)])
    rows = record(connection, [old("task", "B", None, 10)])
    assert outcomes(rows) == ["recorded", "promoted"]


def test_first_of_status(connection):
    """first_of_status takes purged events into account."""
    record(connection, [old("task", "A"), old("task", "B", "A", 100)])
    age(connection)
    purge(connection)
    record(connection, [old("task", "A", "B", 1000), old("task", "C", "A", 2000)])
    age(connection)
    purge(connection)
    record(connection, [old("task", status, None, 3000 + i * 1000) for i, status in enumerate("ABCDD")])
    with connection.cursor() as cursor:
        cursor.execute("SELECT first_of_status FROM humcli.events ORDER BY occurred_at")
        assert [row[0] for row in cursor.fetchall()] == [False, False, False, True, False]


def test_a_task_never_seen(connection):
    """The event of a task never seen before is recorded, however old."""
    assert outcomes(record(connection, [old("task", "A", None, -10 ** 9)])) == ["recorded"]


def test_needed(database, connection):
    """A task stays if a subscription has not fetched it or is to get it again.
    A subscription to other statuses does not keep it."""
    call(connection, "subscribe", "all")
    call(connection, "subscribe", "some", statuses=["Z"])
    record(connection, [old("task_1", "A"), old("task_1", "B", "A", 100)])
    record(connection, [old("task_2", "A")])
    age(connection)
    assert purge(connection) == 0
    rows = fetch(connection, "all")
    call(connection, "ack", "all", rows[0].position)
    assert purge(connection) == 0
    call(connection, "ack", "all", rows[1].position)
    assert purge(connection) == 1
    assert ids(drain(connection, "all")) == [rows[2].id]
    call(connection, "replay", "all", task_id="task_2")
    assert purge(connection) == 0
    drain(connection, "all")
    for table in ("jobs (subscription, task_id, occurred_at, event_id)", "dead (subscription, attempts, event_id)"):
        values = "'all', 'task_2', now()" if table.startswith("jobs") else "'all', 1"
        connection.cursor().execute(f"INSERT INTO humcli.{table} VALUES ({values}, {rows[2].id})")
        assert purge(connection) == 0
        connection.cursor().execute(f"DELETE FROM humcli.{table.split()[0]}")
    call(connection, "seek", "all", "beginning")
    assert purge(connection) == 0
    call(connection, "seek", "all", "now")
    assert purge(connection) == 1


@pytest.mark.parametrize("older_than, max_tasks", (("23:59:59", 1), (None, 1), ("1 day", 0), ("1 day", None), ("1 day", 2001)))
def test_refused(connection, older_than, max_tasks):
    with pytest.raises(errors.InvalidParameterValue):
        purge(connection, older_than, max_tasks)


def test_isolation(database):
    connection = psycopg2.connect(database.dsn())
    connection.set_session(isolation_level="REPEATABLE READ")
    with pytest.raises(errors.ActiveSqlTransaction):
        purge(connection)
    connection.close()


def test_waits_for_a_replay(database, connection):
    """purge() waits for a replay in progress and keeps its events. It does not
    wait for a consumer."""
    call(connection, "subscribe", "s")
    rows = record(connection, [old("task_1", "A"), old("task_2", "A")])
    age(connection)
    drain(connection, "s")
    replay = psycopg2.connect(database.dsn())
    call(replay, "replay", "s", ids=[rows[0].id])
    threads, purged = Threads(), []
    other = database.connect()
    threads.start(lambda: purged.append(purge(other)))
    wait_until(lambda: database.execute("SELECT count(*) FROM pg_locks l WHERE NOT l.granted")[0][0],
               "the purge to wait")
    replay.commit()
    threads.join()
    assert purged == [1]
    assert ids(fetch(replay, "s")) == [rows[0].id]      # locks the subscription
    with other.cursor() as cursor:
        cursor.execute("SET lock_timeout = '5s'")
    assert purge(other) == 0
    replay.close()
    other.close()


def test_waits_for_a_writer(database, connection):
    """purge() skips a task that is being recorded, and its new event counts."""
    record(connection, [old("task_1", "A"), old("task_2", "A")])
    age(connection)
    writer = psycopg2.connect(database.dsn())
    record(writer, [old("task_1", "B", "A", 500)])
    assert purge(connection) == 1
    writer.commit()
    assert purge(connection) == 0
    assert len(stored(connection, "events")) == 2
    writer.close()


def test_against_the_model(database, rng):
    """With random histories and purges between, the rows are those of the
    model."""
    connection = database.connect()
    model = Model(WINDOW)
    numbers = {}
    tasks = [f"task_{i}" for i in range(60)]
    purged = 0
    # Nothing is purged in the last rounds, so that something is left.
    for number in range(64):
        batch = [Delivery(rng.choice(tasks), rng.choice("AB"), rng.choice((None, "A")),
                          at(rng.choice((0, 1, 59, 60, 61, 120, 121)) + rng.randint(0, 3) * 100)
                          - timedelta(days=1500), rng.choice((EVENT, EVENT, "task.other")))
                 for _ in range(40)]
        if number == 63:    # at least one repeat
            batch += [Delivery("last", "A", None, at(n) - timedelta(days=1500)) for n in (0, 1)]
        rows = record(connection, batch, WINDOW)
        step = iter(rows)
        for place, delivery in enumerate(batch, 1):
            verdict = model.deliver(delivery)
            row = next(step)
            assert (row.place, row.outcome) == (place, verdict.outcome), delivery
            if verdict.outcome == "recorded":
                numbers[row.id] = delivery.key
            if row.id is None:
                assert verdict.visit == {None}
            if verdict.promoted:
                row = next(step)
                assert row.outcome == "promoted"
                numbers[row.id] = verdict.promoted
        assert next(step, None) is None
        if number >= 56:
            continue
        chosen = rng.sample(tasks, 6)
        age(connection, f"task_id IN ({str(chosen)[1:-1]})")
        here = {key[0] for key, history in model.histories.items()
                if any(model.retired.get(key[0]) != d for d in history.values())}
        aged = [task for task in chosen if task in here]
        assert purge(connection) == len(aged)
        purged += len(aged)
        for task in aged:
            model.retire(task)
    events, repeats, late = (stored(connection, table) for table in ("events", "repeats", "late"))
    connection.close()
    assert purged > 100 and late and repeats
    assert {d.key: d for d in events} == model.events
    assert {d.key: d for d in repeats} == model.repeats
    assert {d.key: d for d in late} == model.late


def test_few_rows_are_read(database, connection):
    """purge() reads each old row once, by index, and no other rows."""
    fill(database, 20_000)
    connection.cursor().execute("UPDATE humcli.events SET recorded_at = '2020-01-01', occurred_at = '2020-01-01'"
                                " WHERE id <= 500; ANALYZE humcli.events")
    with connection.cursor() as cursor:
        cursor.execute("BEGIN")
        assert purge(connection, max_tasks=100) == 100
        cursor.execute("SELECT seq_tup_read, idx_tup_fetch FROM pg_stat_xact_user_tables"
                       " WHERE relid = 'humcli.events'::regclass")
        sequential, by_index = cursor.fetchone()
        cursor.execute("COMMIT")
    assert sequential <= 25_000 and by_index < 3000
