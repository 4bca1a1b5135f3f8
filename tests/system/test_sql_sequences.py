"""Identity sequences that are behind their tables, as a data-only restore or a
switch-over of logical replication leaves them: no event is lost by it, and no
number is used twice."""

import threading

import psycopg2
import pytest

from harness.postgres import Database
from harness.record_calls import (Delivery, at, outcomes, record, record_all, record_as_cgi,
                                  record_next, stored)


def restart(connection, table, column="id"):
    """Sets a sequence back to its start."""
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT setval(pg_get_serial_sequence('humcli.{table}', '{column}'), 1, false)")


def query(connection, sql, *values):
    with connection.cursor() as cursor:
        cursor.execute(sql, values or None)
        return cursor.fetchall() if cursor.description else []


def behind(connection):
    return query(connection, "SELECT humcli.identities_behind()")[0][0]


@pytest.mark.parametrize("rows", (1, 3, 400))
def test_new_event(connection, cluster, rows):
    """A new event is recorded, never acknowledged as a duplicate, and the log
    says so."""
    record(connection, [Delivery(f"task_{i}", "A") for i in range(rows)])
    restart(connection, "events")
    assert behind(connection) == ["events.id"]
    batch = [Delivery("new_1", "A"), Delivery("new_2", "A"), Delivery("task_0", "B", "A", at(1)),
             Delivery("new_1", "B", "A", at(1))]
    assert outcomes(record(connection, batch)) == ["recorded"] * 4
    assert len(stored(connection, "events")) == rows + 4
    assert behind(connection) == []
    assert "the sequence of humcli.events.id was behind its table" in cluster.log


def test_new_event_under_cgi(connection):
    record(connection, [Delivery("task_1", "A"), Delivery("task_2", "A")])
    restart(connection, "events")
    assert record_next(connection, Delivery("new", "A")) is None
    assert record_as_cgi(connection, Delivery("new", "A"))[0].outcome == "recorded"
    assert record_next(connection, Delivery("newer", "A")) is not None
    assert len(stored(connection, "events")) == 4


def test_far_behind(connection):
    """A distance that is crossed at once."""
    record(connection, [Delivery("task_1", "A")])
    query(connection, "UPDATE humcli.events SET id = DEFAULT; SELECT setval("
          "pg_get_serial_sequence('humcli.events', 'id'), 10000000)")
    number = record(connection, [Delivery("task_2", "A")])[0].id
    restart(connection, "events")
    assert record(connection, [Delivery("task_3", "A")])[0].id == number + 1


@pytest.mark.parametrize("distance", (50, 50000))
def test_at_once(database, connection, distance):
    """Several writers find it at the same moment."""
    record(connection, [Delivery(f"task_{i}", "A") for i in range(50)])
    query(connection, "SELECT setval(pg_get_serial_sequence('humcli.events', 'id'), %s)", distance)
    record(connection, [Delivery("last", "A")])
    restart(connection, "events")
    failures = []

    def write(number):
        writer = database.connect()
        try:
            for i in range(20):
                rows = record_all(writer, [Delivery(f"w_{number}_{i}_{j}", "A") for j in range(3)])
                assert outcomes(rows) == ["recorded"] * 3
        except (psycopg2.Error, AssertionError) as failure:
            failures.append(failure)
        finally:
            writer.close()

    threads = [threading.Thread(target=write, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    assert len(stored(connection, "events")) == 51 + 4 * 20 * 3


def test_repeat_and_promotion(connection):
    record(connection, [Delivery("task_1", "A"), Delivery("task_1", "A", None, at(10))])
    restart(connection, "repeats")
    rows = record(connection, [Delivery("task_1", "A", None, at(20))])
    assert outcomes(rows) == ["repeat"]
    restart(connection, "events")
    assert outcomes(record(connection, [Delivery("task_1", "B", "A", at(5))])) == ["recorded", "promoted"]
    assert len(stored(connection, "events")) == 3 and len(stored(connection, "repeats")) == 1


def test_late(connection):
    query(connection, "INSERT INTO humcli.retired (task_id, event, occurred_at, status, event_id, statuses)"
          " VALUES ('old', 'e', now(), 'A', 1, '{A}')")
    for second in (1, 2):
        assert outcomes(record(connection, [Delivery("old", "A", None, at(second))])) == ["duplicate"]
        restart(connection, "late")
    assert len(stored(connection, "late")) == 2


def test_quarantine(connection):
    for signature in "ab":
        query(connection, "SELECT humcli.quarantine_add(ARRAY[now()], ARRAY['r'], ARRAY['s'], ARRAY[%s],"
              " ARRAY['x'::bytea])", signature * 64)
        restart(connection, "quarantine")
    assert query(connection, "SELECT count(*) FROM humcli.quarantine") == [(2,)]


def test_replay(connection):
    record(connection, [Delivery(f"task_{i}", "A") for i in range(4)])
    ids = [number for number, in query(connection, "SELECT id FROM humcli.events ORDER BY id")]
    query(connection, "SELECT humcli.subscribe('s')")
    for number in ids[:2]:
        assert query(connection, "SELECT humcli.replay('s', ids => ARRAY[%s::bigint])", number) == [(1,)]
        restart(connection, "replays", "place")
    assert [row[0] for row in query(connection, "SELECT id FROM humcli.fetch('s')")] == ids[:2]


def test_position_before_a_seek(connection):
    """Its number is not assigned again."""
    query(connection, "SELECT humcli.subscribe('s')")
    record(connection, [Delivery("task_1", "A")])
    position = query(connection, "SELECT position FROM humcli.fetch('s')")[0][0]
    restart(connection, "subscriptions", "generation")
    query(connection, "SELECT humcli.seek('s', 'beginning')")
    assert query(connection, "SELECT position FROM humcli.fetch('s')")[0][0] != position
    with pytest.raises(psycopg2.errors.SerializationFailure):
        query(connection, "SELECT humcli.ack('s', %s)", position)


def test_lost_claim(cluster, pooled):
    """A worker that lost its lease stays fenced off."""
    name = cluster.create_database(template=pooled)
    connection = Database(cluster, name).connect()
    query(connection, "SELECT humcli.subscribe('p')")
    record(connection, [Delivery("task_1", "A")])
    number, first = query(connection, "SELECT id, claim_no FROM humcli.claim('p', 'w', 1, '1 ms')")[0]
    query(connection, "SELECT pg_sleep(0.01)")
    query(connection, "SELECT setval(pg_get_serial_sequence('humcli.jobs', 'claim_no'), %s, false)", first)
    second = query(connection, "SELECT claim_no FROM humcli.claim('p', 'v', 1, '1 min')")[0][0]
    assert second > first
    assert query(connection, "SELECT humcli.complete('p', %s, %s)", number, first) == [(False,)]
    assert query(connection, "SELECT humcli.complete('p', %s, %s)", number, second) == [(True,)]
    connection.close()
    cluster.drop_database(name)


def test_every_conflict_names_its_key(paths):
    """A conflict without a key would also hide one that it does not mean."""
    for part in (paths.source / "sql").rglob("*.sql"):
        for line in part.read_text().splitlines():
            code = line.split("--")[0]
            assert "ON CONFLICT" not in code or "ON CONFLICT (" in code or "ON CONSTRAINT" in code, part
