"""humcli.notify(): the notifications that listeners get."""

import json
import threading
import time

import pytest
from psycopg2 import errors

from harness.postgres import Cluster, Database, wait_until
from harness.record_calls import Delivery, at, listen, notification, notifications, record, record_batch


@pytest.fixture(name="listener")
def fixture_listener(database):
    connection = database.connect()
    listen(connection)
    yield connection
    connection.close()


def notify(connection, texts, gaps=None):
    with connection.cursor() as cursor:
        cursor.execute("SELECT humcli.notify(%s::text[], %s::text[])", [texts, gaps])


def notified(connection, listener):
    """Returns the notifications up to a mark that the test sends."""
    with connection.cursor() as cursor:
        cursor.execute("NOTIFY humcli_events, 'mark'")
    texts = []
    while not texts or texts[-1] != "mark":
        texts += notifications(listener, 1)
    return texts[:-1]


def test_text(connection, listener):
    """The payload is the documented one, byte by byte."""
    row = record_batch(connection, [Delivery("task_abc123", "SUBMITTED", "IN_PROGRESS")])[0]
    notify(connection, [row[6]])
    assert notified(connection, listener) == [
        f'{{"id":"{row[2]}","task_id":"task_abc123","status":"SUBMITTED",'
        '"previous_status":"IN_PROGRESS","first":true,"secret":"default"}']


def test_record_notifies_when_asked(connection, listener):
    """Each event is notified once, in the order of the ids. Repeats and
    duplicates are not notified."""
    deliveries = [Delivery("task_2", "A"), Delivery("task_1", "A"), Delivery("task_1", "B", "A", at(1)),
                  Delivery("task_1", "A", "B", at(2))]
    rows = record(connection, deliveries, notify=True)
    firsts = [True, True, True, False]
    assert notified(connection, listener) == [text for _, text in sorted(
        (row.id, notification(row.id, delivery, first))
        for row, delivery, first in zip(rows, deliveries, firsts))]
    record(connection, deliveries, notify=True)
    record(connection, [Delivery("task_2", "A", None, at(3))], notify=True)
    assert notified(connection, listener) == []
    record(connection, [Delivery("task_3", "A")])
    assert notified(connection, listener) == []


@pytest.mark.parametrize("name", ("default", 'odd " \\ name'))
def test_texts_of_a_batch(connection, listener, name):
    """record_batch() returns the text of each new event, of a promoted one too.
    notify() sends the texts as they are."""
    first = [Delivery("task_1", "A", "PENDING", at(0)), Delivery("task_1", "A", "PENDING", at(9)),
             Delivery("task_2", "B", "PENDING")]
    second = [Delivery("task_1", "X", "A", at(5)), Delivery("task_2", "B", "PENDING"), Delivery("task_3", "A", "")]
    first, second = ([d._replace(secret_name=name) for d in batch] for batch in (first, second))
    rows = record_batch(connection, first)
    assert [row[1] for row in rows] == ["recorded", "repeat", "recorded"]
    assert [row[6] for row in rows] == [notification(rows[0][2], first[0], True), None,
                                        notification(rows[2][2], first[2], True)]
    rows = record_batch(connection, second)
    assert [row[:2] for row in rows] == [(1, "recorded"), (1, "promoted"), (2, "duplicate"), (3, "recorded"),
                                         (1, "gap")]
    texts = [row[6] for row in rows]
    assert texts == [
        notification(rows[0][2], second[0], True), notification(rows[1][2], first[1], False), None,
        notification(rows[3][2], second[2]._replace(previous_status=None), True),
        '{"task_id":"task_1","kind":"hole"}']
    with connection.cursor() as cursor:
        cursor.execute("LISTEN humcli_gaps")
    notify(connection, texts[:2], texts[4:])
    assert notified(connection, listener) == texts[:2]
    assert [notify.payload for notify in connection.notifies] == texts[4:]


@pytest.mark.parametrize("texts", (None, []))
def test_resync(connection, listener, texts):
    notify(connection, texts, texts)
    assert notified(connection, listener) == ["{}"]


@pytest.mark.parametrize("odd", (
    Delivery("task \"\\/\b\f\n\r\t\x01\x7f", "\u00e9\u2028\U0001f600", "%s'$1"),
    Delivery("{}", "null", "null"), Delivery("a", "")))
def test_escapes(connection, listener, odd):
    row = record(connection, [odd], notify=True)[0]
    text, = notified(connection, listener)
    assert json.loads(text) == {"id": str(row.id), "task_id": odd.task_id, "status": odd.status,
                                "previous_status": odd.previous_status, "first": True,
                                "secret": "default"}
    if "\x01" not in odd.task_id:
        assert text == notification(row.id, odd, True)


@pytest.mark.parametrize("length, whole", ((1000, True), (1001, False)))
@pytest.mark.parametrize("letter", ("x", "\u00e9", "\x01"))
def test_length(connection, listener, length, whole, letter):
    """A payload over 1,000 bytes, escapes included, shrinks to the id."""
    weight = len(json.dumps(letter, ensure_ascii=False).encode()) - 2
    empty = len(notification(1, Delivery("", "A"), True).encode())
    room = length - empty
    task = letter * (room // weight) + "y" * (room % weight)
    row = record(connection, [Delivery(task, "A")], notify=True)[0]
    assert row.id == 1
    text, = notified(connection, listener)
    if whole:
        assert text == notification(1, Delivery(task, "A"), True)
        assert len(text.encode()) == 1000
    else:
        assert text == '{"id":"1"}'


def test_lock_timeout_is_of_the_transaction(connection):
    def setting():
        with connection.cursor() as cursor:
            cursor.execute("SHOW lock_timeout")
            return cursor.fetchone()[0]

    with connection.cursor() as cursor:
        cursor.execute("SET lock_timeout = '7s'; BEGIN")
        notify(connection, None)
        assert setting() == "250ms"
        cursor.execute("COMMIT")
        assert setting() == "7s"
        # the recording transaction ends too, and can record again
        cursor.execute("BEGIN")
        record(connection, [Delivery("task_1", "A")], notify=True)
        assert setting() == "250ms"
        record(connection, [Delivery("task_2", "A")], notify=True)
        assert setting() == "250ms"
        cursor.execute("COMMIT")
        assert setting() == "7s"


def test_nothing_is_compiled(connection):
    """No call is compiled by JIT, because that takes 30 ms for each event and
    the next batch waits for it."""
    with connection.cursor() as cursor:
        cursor.execute("SET jit_above_cost = 0")
    began = time.monotonic()
    rows = record_batch(connection, [Delivery(f"task_{i}", "B", "A") for i in range(100)])
    notify(connection, [row[6] for row in rows])
    assert time.monotonic() - began < 1


def test_behind_a_stuck_commit(paths):
    """notify() does not wait for another application's notifying commit that
    waits for its standby."""
    cluster = Cluster()
    try:
        database = Database(cluster, cluster.create_database())
        database.psql("-q", "-f", str(paths.install_sql))
        database.execute("CREATE TABLE public.other ()")
        cluster.execute("ALTER SYSTEM SET synchronous_standby_names = 'absent'")
        cluster.execute("SELECT pg_reload_conf()")
        connection = database.connect()

        def value(sql):
            with connection.cursor() as cursor:
                cursor.execute(sql)
                return cursor.fetchone()[0]

        wait_until(lambda: value("SHOW synchronous_standby_names") == "absent", "the setting")
        stuck = database.connect()

        def commit():
            with stuck.cursor() as cursor:
                cursor.execute("BEGIN; INSERT INTO public.other DEFAULT VALUES; NOTIFY other; COMMIT")

        thread = threading.Thread(target=commit)
        thread.start()
        wait_until(lambda: value("SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'SyncRep'"),
                   "the other commit to wait")
        began = time.monotonic()
        with pytest.raises(errors.LockNotAvailable):
            notify(connection, None)
        assert 0.2 < time.monotonic() - began < 1.5
        cluster.execute("ALTER SYSTEM RESET synchronous_standby_names")
        cluster.execute("SELECT pg_reload_conf()")
        thread.join(10)
        assert not thread.is_alive()
        notify(connection, None)
        connection.close()
        stuck.close()
    finally:
        cluster.remove()
