"""record_status_read(): a status that HumCLI's API tells and no webhook did."""

import json
import threading
from datetime import timedelta

import pytest
from psycopg2 import errors

from harness.postgres import Database
from harness.record_calls import Delivery, at, listen, notifications, outcomes, record
from harness.subscription_calls import drain, ids, value

ANSWER = '{"data": {"task_id": "task_1",  "status": "S"}, "sandbox": true}'


def read(connection, status, last_id, api_time=None, read_at=at(3600), task="task_1", key="main", payload=ANSWER):
    """Calls the function; returns (outcome, id, previous_status)."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT * FROM humcli.record_status_read(%s, %s, %s, %s, %s, %s, %s)",
                       (task, status, last_id, api_time, read_at, key, payload))
        return cursor.fetchone()


def ask(connection, query, *values):
    with connection.cursor() as cursor:
        cursor.execute(query, values)
        return cursor.fetchall()


def gaps(connection):
    return ask(connection, "SELECT kind, status_before, previous_status, status FROM humcli.gaps")


def task(connection, name="task_1"):
    rows = ask(connection, "SELECT status, id FROM humcli.tasks WHERE task_id = %s", name)
    return rows[0] if rows else (None, None)


def webhook(connection, status, previous, seconds, kind="task.status_changed"):
    row, *_ = record(connection, [Delivery("task_1", status, previous, at(seconds), event=kind)], notify=True)
    return row.id


@pytest.fixture(name="shared", scope="module")
def fixture_shared(cluster, template):
    """One database for all tests, because to make one takes longer than most."""
    name = cluster.create_database(template=template)
    yield Database(cluster, name)
    cluster.drop_database(name)


@pytest.fixture(name="database")
def fixture_database(shared):
    """The database without rows."""
    shared.execute("DELETE FROM humcli.events; DELETE FROM humcli.readings; DELETE FROM humcli.retired;"
                   "DELETE FROM humcli.subscriptions")
    return shared


@pytest.fixture(name="connection")
def fixture_connection(database):
    it = database.connect()
    yield it
    it.close()


@pytest.fixture(name="listener")
def fixture_listener(database):
    connection = database.connect()
    listen(connection)
    with connection.cursor() as cursor:
        cursor.execute("LISTEN humcli_gaps")
    yield connection
    connection.close()


def test_row(connection, listener):
    """The event is marked by its type, signed by nobody, and notified."""
    last = webhook(connection, "SUBMITTED", "PENDING", 0)
    outcome, number, previous = read(connection, "COMPLETED", last)
    assert (outcome, previous) == ("recorded", "SUBMITTED")
    row, = ask(connection, "SELECT event, status, previous_status, occurred_at, received_at, first_of_status,"
               " secret_name, signature, key_name, payload::text FROM humcli.events WHERE id = %s", number)
    assert row == ("api.status_read", "COMPLETED", "SUBMITTED", at(3600), at(3600), True, None, None, "main", ANSWER)
    assert task(connection) == ("COMPLETED", number)
    assert gaps(connection) == [("read", "SUBMITTED", "SUBMITTED", "COMPLETED")]
    texts = [json.loads(text) for text in notifications(listener, 3)]
    assert {"id": str(number), "task_id": "task_1", "status": "COMPLETED", "previous_status": "SUBMITTED",
            "first": True, "secret": None} in texts
    assert {"task_id": "task_1", "kind": "read"} in texts


def test_only_such_an_event_is_unsigned(connection):
    with pytest.raises(errors.CheckViolation):
        ask(connection, "INSERT INTO humcli.events (event, task_id, status, occurred_at, received_at,"
            " first_of_status, payload) VALUES ('e', 't', 's', now(), now(), true, '{}') RETURNING id")


def test_outcomes(connection):
    first = webhook(connection, "ESTIMATE_PENDING", "PENDING", 0)
    assert read(connection, "ESTIMATE_PENDING", first) == ("current", first, "ESTIMATE_PENDING")
    assert read(connection, "ESTIMATE_PENDING", None)[0] == "current"
    assert read(connection, "ACCEPTED", None) == ("changed", first, "ESTIMATE_PENDING")
    second = webhook(connection, "ACCEPTED", "ESTIMATE_PENDING", 1)
    assert read(connection, "IN_PROGRESS", first)[0] == "changed"
    assert read(connection, "IN_PROGRESS", second)[0] == "recorded"
    assert read(connection, "IN_PROGRESS", second)[0] == "current"
    # a task that nothing is recorded of
    assert read(connection, "SUBMITTED", None, task="task_2")[0::2] == ("recorded", None)


@pytest.mark.parametrize("api, expected", [
    (at(5), at(5)),
    (None, at(3600)),
    (at(1), at(3600)),      # of an earlier visit
    (at(0), at(3600)),
    (at(3601), at(3601)),   # the clocks differ a little
    (at(86400), at(3600))])     # not yet: no event would ever follow it
def test_time(connection, api, expected):
    """The API's time counts only if it is later than the last event and not in
    the future."""
    number = read(connection, "ACCEPTED", webhook(connection, "ESTIMATE_PENDING", "PENDING", 1), api)[1]
    assert ask(connection, "SELECT occurred_at FROM humcli.events WHERE id = %s", number) == [(expected,)]


def test_our_clock_is_behind(connection):
    """The event becomes the last of the timeline nevertheless."""
    last = webhook(connection, "SUBMITTED", "IN_PROGRESS", 7200)
    number = read(connection, "COMPLETED", last, read_at=at(60))[1]
    assert task(connection) == ("COMPLETED", number)
    assert ask(connection, "SELECT occurred_at FROM humcli.events WHERE id = %s", number) == [
        (at(7200) + timedelta(microseconds=1),)]


@pytest.mark.parametrize("seconds", (30, 3600, 5000))
def test_webhook_afterwards(connection, listener, seconds):
    """It is recorded as usual, is no duplicate, and closes the gap, whether it
    happened before the time of reading, at it, or after it."""
    record(connection, [Delivery("task_1", "SUBMITTED", "IN_PROGRESS", at(0)),
                        Delivery("task_1", "IN_PROGRESS", "PENDING", at(-1))])
    read(connection, "VERIFIED", task(connection)[1])
    assert [row[0] for row in gaps(connection)] == ["read"]
    notifications(listener, 2)
    rows = record(connection, [Delivery("task_1", "VERIFIED", "SUBMITTED", at(seconds))], notify=True)
    assert outcomes(rows) == ["recorded"]
    assert gaps(connection) == []
    assert [json.loads(text)["status"] for text in notifications(listener, 1)] == ["VERIFIED"]
    assert task(connection)[0] == "VERIFIED"
    assert outcomes(record(connection, [Delivery("task_1", "COMPLETED", "VERIFIED", at(9000))])) == ["recorded"]
    assert gaps(connection) == []
    assert task(connection)[0] == "COMPLETED"


def test_life_goes_on(connection, listener):
    """A webhook that follows on a status that was read opens no gap; the read
    status stays one. A webhook that follows on another opens a hole."""
    webhook(connection, "ACCEPTED", "PENDING", 0)
    read(connection, "IN_PROGRESS", task(connection)[1], read_at=at(5))
    webhook(connection, "SUBMITTED", "IN_PROGRESS", 10)
    assert [(row[0], row[3]) for row in gaps(connection)] == [("read", "IN_PROGRESS")]
    webhook(connection, "COMPLETED", "VERIFIED", 20)
    assert [(row[0], row[3]) for row in gaps(connection)] == [("read", "IN_PROGRESS"), ("hole", "COMPLETED")]
    kinds = [json.loads(text).get("kind") for text in notifications(listener, 6)]
    assert [kind for kind in kinds if kind] == ["read", "hole"]


def test_late_webhooks_at_equal_times(connection):
    """Whatever the order, the views and the notifications agree on the gaps."""
    webhook(connection, "ESTIMATE_PENDING", "PENDING", 0)
    read(connection, "ACCEPTED", task(connection)[1], at(10))
    webhook(connection, "ACCEPTED", "ESTIMATE_PENDING", 10)
    assert gaps(connection) == []
    webhook(connection, "IN_PROGRESS", "ACCEPTED", 10)
    assert gaps(connection) == [] and task(connection)[0] == "IN_PROGRESS"


def test_consumers(connection):
    """Subscriptions get the event: all of them, those of its status, and those
    of its agent, by the key's name."""
    for name, named in (("all", {}), ("mine", {"secrets": ["main"]}), ("other", {"secrets": ["other"]}),
                        ("status", {"statuses": ["COMPLETED"]})):
        value(connection, "subscribe", name, **named)
    number = read(connection, "COMPLETED", None)[1]
    assert [row[:2] for row in ask(connection, "SELECT name, pending FROM humcli.subscription_status")] == [
        ("all", 1), ("mine", 1), ("other", 0), ("status", 1)]
    for name, expected in (("all", [number]), ("mine", [number]), ("other", []), ("status", [number])):
        assert ids(drain(connection, name)) == expected, name
        assert value(connection, "replay", name, ids=[number]) == len(expected)


def test_pool(cluster, pooled):
    """A worker pool gets the event, by the key's name, too."""
    name = cluster.create_database(template=pooled)
    connection = cluster.connect(name)
    for pool, secrets in (("mine", ["main"]), ("other", ["other"])):
        value(connection, "subscribe", pool, secrets=secrets)
    number = read(connection, "COMPLETED", None)[1]
    assert ask(connection, "SELECT id, event, secret_name FROM humcli.claim('mine', 'w')") == [
        (number, "api.status_read", None)]
    assert ask(connection, "SELECT id FROM humcli.claim('other', 'w')") == []
    connection.close()
    cluster.drop_database(name)


def test_a_retired_task(connection):
    """Its retired row is the status recorded before."""
    ask(connection, "INSERT INTO humcli.retired (task_id, event, occurred_at, status, event_id, statuses)"
        " VALUES ('task_1', 'task.status_changed', now() - interval '9 days', 'DISPUTED', 7, '{DISPUTED}')"
        " RETURNING 1")
    assert read(connection, "DISPUTED", 7) == ("current", 7, "DISPUTED")
    assert read(connection, "COMPLETED", None)[0] == "changed"
    assert read(connection, "COMPLETED", 7)[0::2] == ("recorded", "DISPUTED")


def test_lock(database, connection):
    """A webhook that is being recorded has the task's lock."""
    last = webhook(connection, "SUBMITTED", "PENDING", 0)
    other = database.connect()
    with other.cursor() as cursor:
        cursor.execute("BEGIN; SELECT humcli.lock_tasks('{task_1}')")
        assert read(connection, "COMPLETED", last)[0] == "busy"
        cursor.execute("COMMIT")
    other.close()


def test_race(database, connection, rng):
    """A webhook at a random moment between look and record: one event, or a
    webhook after the event that was read; never a second reading."""
    webhooks = database.connect()
    for number in range(50):
        name = f"race_{number}"
        record(connection, [Delivery(name, "SUBMITTED", None, at(0))])
        last = task(connection, name)[1]
        start = threading.Barrier(2)

        def deliver(name=name, start=start, pause=rng.random() * 0.004):
            start.wait()
            threading.Event().wait(pause)
            record(webhooks, [Delivery(name, "COMPLETED", "SUBMITTED", at(10))])

        thread = threading.Thread(target=deliver)
        thread.start()
        start.wait()
        threading.Event().wait(rng.random() * 0.004)
        outcome = read(connection, "COMPLETED", last, task=name)[0]
        thread.join()
        rows = ask(connection, "SELECT event FROM humcli.events WHERE task_id = %s AND status = 'COMPLETED'"
                   " ORDER BY id", name)
        assert (outcome, rows) in (
            ("current", [("task.status_changed",)]),
            ("recorded", [("api.status_read",), ("task.status_changed",)])), number
        assert read(connection, "COMPLETED", last, task=name)[0] == "current"
    assert gaps(connection) == []
    webhooks.close()


def test_readings(connection):
    """An answer is kept whole, also one that is no JSON."""
    for status, body in ((200, ANSWER), (500, "<html>"), (429, None), (404, '{"error": "\\ud800"}')):
        value(connection, "add_reading", "task_1", at(0), status, body, "main")
    assert ask(connection, "SELECT http_status, body::text, key_name FROM humcli.readings ORDER BY id") == [
        (200, ANSWER, "main"), (500, '"<html>"', "main"), (429, None, "main"), (404, '{"error": "\\ud800"}', "main")]


def test_purge(connection):
    """The readings of a task go with it, and old ones of unknown tasks."""
    ask(connection, "SELECT humcli.record_status_read('task_1', 'COMPLETED', NULL, NULL,"
        " now() - interval '3 days', 'main', '{}')")
    ask(connection, "UPDATE humcli.events SET recorded_at = now() - interval '3 days' RETURNING 1")
    for name, age in (("task_1", "1 hour"), ("unknown", "3 days"), ("new", "1 hour"), ("task_test_1", "1 hour")):
        ask(connection, "INSERT INTO humcli.readings (task_id, read_at, http_status, key_name)"
            " VALUES (%s, now() - %s::interval, 404, 'main') RETURNING 1", name, age)
    assert value(connection, "purge", "1 day") == 1
    assert ask(connection, "SELECT task_id FROM humcli.readings ORDER BY 1") == [("new",), ("task_test_1",)]
    assert ask(connection, "SELECT status FROM humcli.retired") == [("COMPLETED",)]
    ask(connection, "SELECT humcli.record_status_read('task_test_1', 'COMPLETED', NULL, NULL, now(), 'main', '{}')")
    assert value(connection, "purge_tests") == 1
    assert ask(connection, "SELECT task_id FROM humcli.readings") == [("new",)]


def test_timestamp_field(database, paths):
    """A name learnt later survives an upgrade."""
    assert database.execute("SELECT status, timestamp_field FROM humcli.statuses"
                            " WHERE timestamp_field IS NOT NULL ORDER BY 1") == [
        ("ACCEPTED", "accepted_at"), ("PENDING", "created_at")]
    database.execute("UPDATE humcli.statuses SET timestamp_field = 'timestamps.done' WHERE status = 'COMPLETED'")
    database.psql("-v", "ON_ERROR_STOP=1", "-q", "-f", str(paths.install_sql))
    assert database.execute("SELECT timestamp_field FROM humcli.statuses WHERE status = 'COMPLETED'") == [
        ("timestamps.done",)]
