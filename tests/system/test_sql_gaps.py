"""humcli.gaps, and the notification when a gap opens."""

import json
import time

import pytest

from harness.record_calls import Delivery, at, record, record_as_cgi, stored

LINE = ("PENDING", "ESTIMATE_PENDING", "ACCEPTED", "IN_PROGRESS", "SUBMITTED", "VERIFIED", "COMPLETED")


@pytest.fixture(name="listener")
def fixture_listener(database):
    connection = database.connect()
    connection.cursor().execute("LISTEN humcli_gaps")
    yield connection
    connection.close()


def life(task="task_1", count=6, step=60):
    """Returns the usual events of a task, each a step after the previous
    one."""
    return [Delivery(task, LINE[i + 1], LINE[i], at(i * step)) for i in range(count)]


def gaps(connection, where=""):
    """Returns task, kind, status before, previous status and status of each
    gap."""
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT task_id, kind, status_before, previous_status, status FROM humcli.gaps {where}")
        return cursor.fetchall()


def notified(connection, listener):
    """Returns the notifications up to a mark that the test sends."""
    connection.cursor().execute("NOTIFY humcli_gaps, 'mark'")
    texts = []
    until = time.monotonic() + 10
    while not texts or texts[-1] != "mark":
        assert time.monotonic() < until
        listener.poll()
        texts += [notify.payload for notify in listener.notifies]
        del listener.notifies[:]
    return texts[:-1]


def gap(task, kind):
    """Returns the payload of a gap's notification."""
    return json.dumps({"task_id": task, "kind": kind}, separators=(",", ":"), ensure_ascii=False)


def test_whole(connection, listener):
    record(connection, life(), notify=True)
    assert gaps(connection) == [] and notified(connection, listener) == []


def test_opens_and_closes(connection, listener):
    """A missing event opens a gap, and its late arrival closes the gap."""
    deliveries = life()
    missing = deliveries.pop(2)
    record(connection, deliveries, notify=True)
    assert gaps(connection) == [("task_1", "hole", "ACCEPTED", "IN_PROGRESS", "SUBMITTED")]
    assert notified(connection, listener) == [gap("task_1", "hole")]
    record(connection, [missing], notify=True)
    assert gaps(connection) == [] and notified(connection, listener) == []


@pytest.mark.parametrize("previous, kind", ((None, None), ("PENDING", None), ("ACCEPTED", "start"), ("", None)))
def test_first(connection, listener, previous, kind):
    """The first event opens a gap if it has another previous_status than
    PENDING."""
    record(connection, [Delivery("task_1", "X", previous)], notify=True)
    assert gaps(connection) == ([("task_1", kind, None, previous, "X")] if kind else [])
    assert notified(connection, listener) == ([gap("task_1", kind)] if kind else [])


def test_says_nothing(connection, listener):
    """An event without previous_status opens no gap."""
    record(connection, [Delivery("task_1", "A"), Delivery("task_1", "B", None, at(1)),
                        Delivery("task_1", "C", "B", at(2))], notify=True)
    assert gaps(connection) == [] and notified(connection, listener) == []


def test_before_another(connection, listener):
    """A late event that does not fit opens a gap before the next event. The gap
    is notified once."""
    record(connection, life(), notify=True)
    record(connection, [Delivery("task_1", "ODD", "ESTIMATE_PENDING", at(1))], notify=True)
    assert gaps(connection) == [("task_1", "hole", "ODD", "ESTIMATE_PENDING", "ACCEPTED")]
    assert notified(connection, listener) == [gap("task_1", "hole")]
    # the gap after this event exists, and its own start fits
    record(connection, [Delivery("task_1", "ODDER", "ODD", at(2))], notify=True)
    assert gaps(connection) == [("task_1", "hole", "ODDER", "ESTIMATE_PENDING", "ACCEPTED")]
    assert notified(connection, listener) == []


def test_late_start(connection, listener):
    """A late event before the first opens a gap if it does not lead to it."""
    record(connection, life()[1:], notify=True)
    assert gaps(connection) == [("task_1", "start", None, "ESTIMATE_PENDING", "ACCEPTED")]
    assert notified(connection, listener) == [gap("task_1", "start")]
    record(connection, life()[:1], notify=True)
    assert gaps(connection) == [] and notified(connection, listener) == []


def test_at_once(connection, listener):
    """Events with equal times are put in order before gaps are looked for."""
    record(connection, life(step=0)[::-1], notify=True)
    assert gaps(connection) == [] and notified(connection, listener) == []
    record(connection, life("task_2", step=0)[:2] + [life("task_2", step=1)[3]], notify=True)
    assert notified(connection, listener) == [gap("task_2", "hole")]
    # an event after two with equal times, which follows the wrong one
    record(connection, life("task_3", step=0)[:2]
           + [Delivery("task_3", "X", "ESTIMATE_PENDING", at(5))], notify=True)
    assert notified(connection, listener) == [gap("task_3", "hole")]


def test_repeated_late(connection):
    """A re-stamped redelivery after the next transition looks like an event, so
    that it opens a gap."""
    record(connection, life()[:3] + [life()[1]._replace(occurred_at=at(500))])
    assert gaps(connection) == [("task_1", "hole", "IN_PROGRESS", "ESTIMATE_PENDING", "ACCEPTED")]


def test_escapes(connection, listener):
    record(connection, [Delivery('a"\\\u00e9\n', "X", "Y")], notify=True)
    assert notified(connection, listener) == [gap('a"\\\u00e9\n', "start")]


def test_against_a_model(connection, listener, rng):
    """Random parts of histories in any order. The gaps are those of the sorted
    events, and each gap was notified."""
    open_ones = {}
    for number in range(150):
        task = f"task_{number}"
        deliveries = rng.sample(life(task), rng.randint(1, 6))
        for delivery in deliveries:
            before = set(gaps(connection, f"WHERE task_id = '{task}'"))
            rng.choice((record_as_cgi, lambda c, d: record(c, [d], notify=True)))(connection, delivery)
            after = gaps(connection, f"WHERE task_id = '{task}'")
            expected, last = [], None
            for d in sorted((d for d in stored(connection, "events") if d.task_id == task),
                            key=lambda d: d.occurred_at):
                if d.previous_status != (last or "PENDING"):
                    expected.append((task, "hole" if last else "start", last, d.previous_status, d.status))
                last = d.status
            assert after == expected
            opened = {row[3:] for row in after} - {row[3:] for row in before}
            kinds = {row[1] for row in after if row[3:] in opened}
            assert {json.loads(text)["kind"] for text in notified(connection, listener)} == kinds
            open_ones[task] = bool(after)
    assert any(open_ones.values()) and not all(open_ones.values())


def test_several_in_a_batch(connection, listener):
    """A batch opens only the gaps that are there at its end."""
    record(connection, life(), notify=True)
    late = [Delivery("task_1", "X", "ESTIMATE_PENDING", at(1)), Delivery("task_1", "Y", "X", at(2)),
            Delivery("task_1", "ESTIMATE_PENDING", "Y", at(3))]
    record(connection, late, notify=True)
    assert gaps(connection) == [] and notified(connection, listener) == []
    late = [Delivery("task_1", "X", "ACCEPTED", at(61)), Delivery("task_1", "Y", "ODD", at(62))]
    record(connection, late, notify=True)
    assert [row[3:] for row in gaps(connection)] == [("ODD", "Y"), ("ACCEPTED", "IN_PROGRESS")]
    assert notified(connection, listener) == [gap("task_1", "hole")]


def test_in_a_long_history(database, connection, listener):
    """A gap is found without reading all events of its task."""
    database.execute(
        "INSERT INTO humcli.events (event, task_id, status, previous_status, occurred_at, received_at,"
        " first_of_status, secret_name, signature, payload)"
        f" SELECT '{life()[0].event}', 'task_1', 'S' || i, 'S' || i - 1, '2026-03-01 12:00:00+00'::timestamptz"
        " + i * interval '1 min', now(), true, 'd', '', '{}' FROM generate_series(1, 50000) i")
    record(connection, [Delivery("warm", "A", "X"), Delivery("task_1", "B", "S100", at(6001))])     # makes the plans
    began = time.monotonic()
    for i in range(10):
        record(connection, [Delivery("task_1", "B", "ODD", at(60 * 1000 * (i + 1) + 1))], notify=True)
    assert time.monotonic() - began < 1     # 0.02 s on a quiet machine; 0.2 s each if all are read
    assert len(notified(connection, listener)) == 10


def test_by_task_is_fast(database, connection):
    """The gaps of one task are found without reading other tasks."""
    record(connection, life()[1:])
    database.execute(
        "INSERT INTO humcli.events (event, task_id, status, previous_status, occurred_at, received_at,"
        " first_of_status, secret_name, signature, payload)"
        " SELECT 'e', 'other_' || i / 5, 'S' || i % 5, 'S' || (i - 1) % 5, now() + i * interval '1 s', now(), true,"
        " 'd', '', '{}' FROM generate_series(1, 50000) i; ANALYZE humcli.events")
    connection.cursor().execute("SET enable_seqscan = off")
    with connection.cursor() as cursor:
        cursor.execute("EXPLAIN (ANALYZE, FORMAT JSON) SELECT * FROM humcli.gaps WHERE task_id = 'task_1'")
        plan = cursor.fetchone()[0][0]

    def rows(node):
        return node["Actual Rows"] * node["Actual Loops"] + sum(map(rows, node.get("Plans", ())))

    assert rows(plan["Plan"]) < 200
