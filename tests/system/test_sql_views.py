"""humcli.timeline, humcli.tasks, humcli.statuses."""

import itertools

import pytest

from harness.record_calls import Delivery, at, record

DOCUMENTED = {
    "PENDING", "ESTIMATE_PENDING", "ACCEPTED", "IN_PROGRESS", "SUBMITTED", "VERIFIED",
    "COMPLETED", "MANUAL_REVIEW", "DISPUTED", "CANCELLED"}


def timeline(connection, task="task_1"):
    """Returns the statuses of a task in the view's order."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT status, place FROM humcli.timeline WHERE task_id = %s", [task])
        rows = cursor.fetchall()
    assert [place for _, place in rows] == list(range(1, len(rows) + 1))
    return [status for status, _ in rows]


def current(connection, task="task_1"):
    with connection.cursor() as cursor:
        cursor.execute("SELECT status FROM humcli.tasks WHERE task_id = %s", [task])
        return cursor.fetchone()[0]


def life(*statuses, moment=0, step=0):
    """Returns deliveries with transitions from each status to the next."""
    return [Delivery("task_1", status, previous, at(moment + i * step))
            for i, (previous, status) in enumerate(zip(statuses, statuses[1:]))]


def test_statuses(connection):
    with connection.cursor() as cursor:
        cursor.execute("SELECT status, terminal FROM humcli.statuses")
        rows = dict(cursor.fetchall())
        assert set(rows) == DOCUMENTED
        assert {status for status in rows if rows[status]} == {"COMPLETED", "CANCELLED"}
        cursor.execute("SELECT event, trigger FROM humcli.statuses WHERE status = 'MANUAL_REVIEW'")
        assert cursor.fetchall() == [("Manual review needed", "AI Guardian confidence too low")]


def test_by_time(connection):
    """The order is that of occurred_at, not that of arrival."""
    deliveries = life("PENDING", "ESTIMATE_PENDING", "PENDING", "ESTIMATE_PENDING", "ACCEPTED", step=1)
    for delivery in deliveries[::-1]:
        record(connection, [delivery])
    assert timeline(connection) == [d.status for d in deliveries]
    assert current(connection) == "ACCEPTED"


@pytest.mark.parametrize("order", itertools.permutations(range(3)))
def test_equal_times(connection, order):
    """With equal times, a row follows the row whose status is its
    previous_status."""
    chain = life("IN_PROGRESS", "SUBMITTED", "VERIFIED", "COMPLETED")
    for i in order:
        record(connection, [chain[i]])
    record(connection, life("ACCEPTED", "IN_PROGRESS", moment=-1))
    assert timeline(connection) == ["IN_PROGRESS", "SUBMITTED", "VERIFIED", "COMPLETED"]
    assert current(connection) == "COMPLETED"


def test_equal_times_unrelated(connection):
    """Unrelated rows with equal times are ordered by id."""
    for status in ("C", "A", "B"):
        record(connection, [Delivery("task_1", status, "X")])
    assert timeline(connection) == ["C", "A", "B"]


@pytest.mark.parametrize("order", itertools.permutations(range(3)))
def test_equal_times_in_a_circle(connection, order):
    """A circle of transitions ends, and the rows that follow from it come
    after."""
    rows = [Delivery("task_1", "A", "B"), Delivery("task_1", "B", "A"), Delivery("task_1", "C", "B")]
    for i in order:
        record(connection, [rows[i]])
    circle = ["AB"[i] for i in order if i < 2]
    assert timeline(connection) == circle + ["C"]


def test_status_that_is_its_own_previous(connection):
    record(connection, [Delivery("task_1", "A", "A"), Delivery("task_1", "B", "A")])
    assert timeline(connection) == ["A", "B"]


def test_tasks(connection):
    """There is one row for each task, also for unknown statuses."""
    record(connection, life("SUBMITTED", "VERIFIED", "COMPLETED", step=1)
           + [Delivery("task_2", "SOMETHING_NEW", None, secret_name="sandbox"),
              Delivery("task_3", "A", "B", event="task.other")])
    with connection.cursor() as cursor:
        cursor.execute("SELECT task_id, status, previous_status, occurred_at, event, meaning, trigger,"
                       " terminal, events, secret_name FROM humcli.tasks")
        assert cursor.fetchall() == [
            ("task_1", "COMPLETED", "VERIFIED", at(1), "task.status_changed", "Completed",
             "task finalized, escrow released", True, 2, "default"),
            ("task_2", "SOMETHING_NEW", None, at(0), "task.status_changed", None, None, None, 1, "sandbox"),
            ("task_3", "A", "B", at(0), "task.other", None, None, None, 1, "default")]


def test_repeats_are_not_in_the_views(connection):
    record(connection, [Delivery("task_1", "A"), Delivery("task_1", "A", None, at(5))])
    assert timeline(connection) == ["A"]
    with connection.cursor() as cursor:
        cursor.execute("SELECT status, event_id IS NULL, repeat_id IS NULL FROM humcli.deliveries ORDER BY occurred_at")
        assert cursor.fetchall() == [("A", False, True), ("A", True, False)]


def test_one_task_is_looked_up_by_index(connection):
    """A condition on the task uses the table's index through both views."""
    record(connection, [Delivery(f"task_{i}", "A") for i in range(500)])
    with connection.cursor() as cursor:
        cursor.execute("VACUUM ANALYZE humcli.events")
        for view in ("timeline", "tasks"):
            cursor.execute(f"EXPLAIN SELECT * FROM humcli.{view} WHERE task_id = 'task_7'")
            plan = "\n".join(row[0] for row in cursor.fetchall())
            assert "Index Cond: (task_id = 'task_7'" in plan and "Seq Scan on events" not in plan, plan


# Many events of one task in one millisecond. The limit is far from what a view
# needs, and near to nothing for one that counts paths.


def layers(count, width=6):
    """Each status of a layer can follow each of the layer before: paths without number."""
    return [Delivery("task_1", f"L{i}", f"L{i - 1}" if i else None, at(0), event=f"type_{j}")
            for i in range(count // width) for j in range(width)]


def knot(count):
    """Cycles within cycles."""
    return [Delivery("task_1", f"S{i % (count // 4)}", f"S{(i * 7 + 1) % (count // 4)}", at(0), event=f"type_{i % 4}")
            for i in range(count)]


def chain(count):
    return [Delivery("task_1", f"S{i:04}", f"S{i - 1:04}" if i else None, at(0)) for i in range(count)]


@pytest.mark.parametrize("make", (layers, knot, chain))
def test_many_events_at_one_time(database, rng, make):
    connection = database.connect()
    deliveries = make(600)
    unique = list({d.key: d for d in deliveries}.values())
    rng.shuffle(unique)
    with connection.cursor() as cursor:
        cursor.execute("SET statement_timeout = '20 s'")
    record(connection, unique[:500], notify=True)
    for delivery in unique[500:520]:
        record(connection, [delivery], notify=True)
    with connection.cursor() as cursor:
        for view in ("timeline", "tasks", "gaps"):
            cursor.execute(f"SELECT count(*) FROM humcli.{view}")
        cursor.execute("SELECT count(*), count(DISTINCT place) FROM humcli.timeline")
        assert cursor.fetchall() == [(len(unique[:520]), len(unique[:520]))]
    if make is chain:
        record(connection, unique[520:])
        assert timeline(connection) == [d.status for d in chain(600)]
        with connection.cursor() as cursor:
            cursor.execute("SELECT count(*) FROM humcli.gaps")
            assert cursor.fetchall() == [(0,)]
    connection.close()


def depth_order(rows):
    """A model for groups without a cycle: by the longest way to a row, then by id."""
    depths = {}

    def depth(number):
        if number not in depths:
            causes = [other for other in rows if rows[other][1] == rows[number][0]]
            depths[number] = 1 + max(map(depth, causes), default=0)
        return depths[number]

    return sorted(rows, key=lambda number: (depth(number), number))


def test_equal_times_against_a_model(connection, rng):
    for number in range(60):
        task = f"task_{number}"
        names = "ABCDEFGH"
        for event in ("x", "y"):
            for status in rng.sample(range(8), rng.randint(1, 8)):
                previous = names[rng.randrange(status)] if status and rng.random() < .8 else None
                record(connection, [Delivery(task, names[status], previous, at(0), event=event)])
        with connection.cursor() as cursor:
            cursor.execute("SELECT id, previous_status, status FROM humcli.timeline WHERE task_id = %s", [task])
            rows = {row[0]: row[1:] for row in cursor.fetchall()}
        assert list(rows) == depth_order(dict(sorted(rows.items())))


def test_equal_times_in_a_circle_that_is_entered(connection):
    """From where it is entered; then no gap is seen."""
    for previous, status in (("B", "A"), ("A", "B"), ("X", "B"), ("B", "C")):
        record(connection, [Delivery("task_1", status, previous, event=f"{previous} {status}")])
    with connection.cursor() as cursor:
        cursor.execute("SELECT previous_status, status FROM humcli.timeline")
        assert cursor.fetchall() == [("X", "B"), ("B", "A"), ("A", "B"), ("B", "C")]
