"""The worker pool: claims, leases, fences, retries, dead letters, the order."""

import subprocess
import time
from collections import Counter, defaultdict

import psycopg2
import pytest
from psycopg2 import errors

from harness.postgres import Database, wait_until
from harness.record_calls import Delivery, at, listen, notifications, record
from harness.subscription_calls import Threads, call, drain, fetch, fill, ids, value


@pytest.fixture(name="database")
def fixture_database(cluster, pooled):
    name = cluster.create_database(template=pooled)
    yield Database(cluster, name)
    cluster.drop_database(name)


def claim(connection, name="p", rows=1, lease="60 s", worker="w"):
    """Calls humcli.claim(); a row is (id, claim_no, attempt, event, task_id,
    status, ...)."""
    return call(connection, "claim", name, worker, rows, lease)


def make(connection, tasks=3, statuses="A", **options):
    """Makes a pool and events for it; returns the ids."""
    call(connection, "subscribe", "p")
    call(connection, "pool", "p", **options)
    return ids(record(connection, [Delivery(f"task_{i}", status, None, at(place * 1000))
                                   for place, status in enumerate(statuses) for i in range(tasks)]))


def due_now(connection):
    """Moves all times back, so that each lease and each backoff has ended."""
    connection.cursor().execute("UPDATE humcli.jobs SET due = clock_timestamp() - interval '1 ms'")


def count(connection, table):
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT count(*) FROM humcli.{table}")
        return cursor.fetchone()[0]


def test_claim_and_complete(connection):
    """claim() returns all columns and each event to one worker. A completed
    event is not claimed again."""
    everything = make(connection)
    rows = claim(connection, rows=2)
    with connection.cursor() as cursor:
        cursor.execute("SELECT id, event, task_id, status, previous_status, occurred_at, received_at, recorded_at,"
                       " secret_name, payload, signature FROM humcli.events WHERE id = ANY (%s) ORDER BY occurred_at, id",
                       [[row[0] for row in rows]])
        assert [row[:1] + row[3:] for row in rows] == cursor.fetchall()
    assert [row[2] for row in rows] == [1, 1]
    rest = claim(connection, rows=5)
    assert sorted(row[0] for row in rows + rest) == everything
    assert claim(connection) == []
    for row in rows + rest:
        assert value(connection, "complete", "p", row[0], row[1])
        assert not value(connection, "complete", "p", row[0], row[1])
    assert count(connection, "jobs") == 0


def test_secrets(connection):
    """A pool gets the events of its secrets only."""
    call(connection, "subscribe", "p", secrets=["a"])
    rows = record(connection, [Delivery(f"task_{i}", "A", secret_name="ab"[i % 2]) for i in range(6)])
    assert [row[0] for row in claim(connection, rows=10)] == ids(rows)[::2]


def test_a_subscription_becomes_a_pool(connection):
    """claim() makes a subscription a pool from its cursor on. fetch() and ack()
    then refuse it."""
    call(connection, "subscribe", "p")
    everything = ids(record(connection, [Delivery(f"task_{i}", "A") for i in range(6)]))
    rows = fetch(connection, "p", 4)
    call(connection, "ack", "p", rows[1].position)
    call(connection, "replay", "p", ids=everything[:1])
    assert {row[0] for row in claim(connection, rows=10)} == set(everything[:1] + everything[2:])
    with pytest.raises(errors.ObjectNotInPrerequisiteState, match="is a worker pool"):
        fetch(connection, "p")
    with pytest.raises(errors.SerializationFailure):
        call(connection, "ack", "p", rows[3].position)
    new = ids(record(connection, [Delivery("task_9", "A")]))
    assert [row[0] for row in claim(connection, rows=10)] == new


def test_fence(connection):
    """A worker that lost its lease can't complete, extend or fail the event,
    even after a replay of it."""
    event, = make(connection, 1)
    first, = claim(connection)
    due_now(connection)
    second, = claim(connection)
    assert (second[0], second[2]) == (event, 2) and second[1] != first[1]
    assert not value(connection, "complete", "p", event, first[1])
    assert not value(connection, "extend", "p", event, first[1])
    assert value(connection, "fail", "p", event, first[1], "x") == "lost"
    assert value(connection, "complete", "p", event, second[1])
    call(connection, "replay", "p", ids=[event])
    third, = claim(connection)
    assert third[2] == 1
    for old in (first, second):
        assert not value(connection, "complete", "p", event, old[1])
    assert value(connection, "fail", "p", event, third[1], "x", "0 s") == "retry"
    assert not value(connection, "complete", "p", event, third[1])
    assert not value(connection, "extend", "p", event, third[1])


def test_lease(connection):
    """A claimed event is not claimed again before its lease ends. extend()
    moves the end. A worker keeps an expired event until another worker claims
    it."""
    event, = make(connection, 1)
    row, = claim(connection, lease="40 ms")
    assert claim(connection) == []
    assert value(connection, "extend", "p", event, row[1], "1 h")
    time.sleep(0.05)
    assert claim(connection) == []
    due_now(connection)
    assert value(connection, "extend", "p", event, row[1], "1 h")
    assert claim(connection) == []
    due_now(connection)
    assert value(connection, "complete", "p", event, row[1])
    record(connection, [Delivery("task_8", "A")])
    claim(connection, lease="30 ms")
    wait_until(lambda: claim(connection), "the lease to run out")


def test_backoff(connection):
    """The backoff doubles with each attempt, within a quarter, up to the
    maximum; or the worker sets it."""
    event, = make(connection, 1, backoff="10 s", longest_backoff="1 min")
    for attempt, expected in enumerate((10, 20, 40, 60, 60), 1):
        row, = claim(connection)
        assert row[2] == attempt
        assert value(connection, "fail", "p", event, row[1], "why") == "retry"
        with connection.cursor() as cursor:
            cursor.execute("SELECT extract(epoch FROM due - clock_timestamp())::float, error, worker FROM humcli.jobs")
            wait, error, worker = cursor.fetchone()
        assert 0.75 * expected - 2 < wait < 1.25 * expected and (error, worker) == ("why", None)
        assert claim(connection) == []
        due_now(connection)
    row, = claim(connection)
    assert value(connection, "fail", "p", event, row[1], "later", "0 s") == "retry"
    assert len(claim(connection)) == 1


def test_backoff_that_no_interval_can_hold(connection):
    """A large backoff, doubled many times, is still limited."""
    event, = make(connection, 1, backoff="100 years", longest_backoff="10000 years", max_attempts=99)
    with connection.cursor() as cursor:
        row, = claim(connection)
        cursor.execute("UPDATE humcli.jobs SET attempts = 50")
        assert value(connection, "fail", "p", event, row[1], "why") == "retry"
        cursor.execute("SELECT due > now() + interval '70 years' FROM humcli.jobs")
        assert cursor.fetchone() == (True,)


def test_dead_and_redriven(connection):
    """An event is dead after its last attempt failed or expired. redrive()
    gives it all attempts again."""
    failed, lost = make(connection, 2, max_attempts=2)
    for _ in range(2):
        rows = claim(connection, rows=2)
        assert len(rows) == 2
        last = {row[0]: value(connection, "fail", "p", row[0], row[1], "boom") for row in rows if row[0] == failed}
        due_now(connection)
    assert last == {failed: "dead"}
    assert claim(connection) == []      # moves the other to humcli.dead
    with connection.cursor() as cursor:
        cursor.execute("SELECT event_id, attempts, error FROM humcli.dead ORDER BY event_id")
        assert cursor.fetchall() == [(failed, 2, "boom"), (lost, 2, "the lease ran out")]
    assert count(connection, "jobs") == 0
    assert value(connection, "redrive", "p", 10 ** 9) == 0
    listen(connection)
    assert value(connection, "redrive", "p", lost) == 1
    assert notifications(connection, 1) == ["{}"]
    row, = claim(connection, rows=5)
    assert (row[0], row[2]) == (lost, 1)
    assert value(connection, "redrive", "p") == 1
    assert [row[0] for row in claim(connection, rows=5)] == [failed]
    assert count(connection, "dead") == 0


def test_dead_do_not_end_a_claim(connection):
    """A claim that meets dead letters continues with the next jobs."""
    make(connection, 3, max_attempts=1)
    claim(connection, rows=3)
    due_now(connection)
    new = ids(record(connection, [Delivery("task_9", "A")]))
    assert [row[0] for row in claim(connection)] == new
    assert count(connection, "dead") == 3


def test_in_order(connection):
    """Only one event of a task is claimed at a time, the earliest recorded one.
    A failed event delays its task; a dead letter does not."""
    everything = make(connection, 2, "ABC", in_order=True, max_attempts=2)
    first = claim(connection, rows=10)
    assert [row[5] for row in first] == ["A", "A"] and claim(connection) == []
    assert value(connection, "complete", "p", first[0][0], first[0][1])
    assert value(connection, "fail", "p", first[1][0], first[1][1], "x", "1 h") == "retry"
    (row,) = claim(connection, rows=10)
    assert (row[4], row[5]) == (first[0][4], "B")
    # an earlier event, recorded while a later one is claimed, is the next one
    late = Delivery(row[4], "0", None, at(-1000))
    record(connection, [late])
    assert claim(connection) == []
    assert value(connection, "complete", "p", row[0], row[1])
    (row,) = claim(connection, rows=10)
    assert row[5] == "0"
    due_now(connection)
    assert not value(connection, "extend", "p", row[0], row[1])     # another may be claimed
    again = claim(connection, rows=10)
    assert sorted(r[5] for r in again) == ["0", "A"]
    for r in again:
        value(connection, "fail", "p", r[0], r[1], "x")
    assert count(connection, "dead") == 2
    assert sorted(r[5] for r in claim(connection, rows=10)) == ["B", "C"]
    assert len(everything) == 6


def test_in_order_behind_a_slice(database, connection):
    """The order holds for all recorded events, also if there are more than one
    claim enqueues."""
    call(connection, "subscribe", "p", "beginning")
    call(connection, "pool", "p", in_order=True)
    fill(database, 1200)
    record(connection, [Delivery("task_1", "EARLY", None, at(-10 ** 8))])
    early = [row for row in claim(connection, rows=2000) if row[4] == "task_1"]
    assert [row[5] for row in early] == ["EARLY"]


def claim_pages(connection):
    """Claims once; returns the rows and the number of pages that were read."""
    with connection.cursor() as cursor:
        cursor.execute("EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) SELECT * FROM humcli.claim('p', 'w', 1)")
        plan = cursor.fetchone()[0][0]["Plan"]
    return plan["Actual Rows"], plan["Shared Hit Blocks"] + plan["Shared Read Blocks"]


def backlog(connection, tasks, each):
    """Makes that many jobs of that many tasks, with the earliest last."""
    with connection.cursor() as cursor:
        cursor.execute(
            "WITH e AS (INSERT INTO humcli.events (event, task_id, status, occurred_at, received_at,"
            " first_of_status, secret_name, signature, payload)"
            " SELECT 'task.status_changed', 'task_' || t, 'A', now() - i * interval '1 s', now(), true, 's', '', '{}'"
            " FROM generate_series(1, %s) t, generate_series(1, %s) i RETURNING id, task_id, occurred_at)"
            " INSERT INTO humcli.jobs (subscription, event_id, task_id, occurred_at) SELECT 'p', * FROM e", [tasks, each])
        cursor.execute("VACUUM ANALYZE humcli.jobs")


def test_a_claim_in_order_is_cheap(connection):
    """The number of pages does not grow with the jobs that wait behind one of
    their task, also with plans that were made on the empty table."""
    call(connection, "subscribe", "p")
    call(connection, "pool", "p", in_order=True)
    for _ in range(7):
        assert claim(connection) == []
    backlog(connection, 20, 1000)
    assert len(claim(connection)) == 1      # the first claim enqueues the events
    seen = [claim_pages(connection) for _ in range(20)]
    assert [rows for rows, _ in seen] == [1] * 19 + [0]
    assert max(pages for _, pages in seen) < 6000, seen     # 60,000 before


def test_in_order_each_task_has_its_turn(connection):
    """Each task is served, though the first task has more due jobs than one
    claim reads."""
    call(connection, "subscribe", "p")
    call(connection, "pool", "p", in_order=True)
    backlog(connection, 1, 1000)
    assert len(claim(connection)) == 1
    backlog_of = {f"task_{number}" for number in range(2, 52)}
    record(connection, [Delivery(task, "A", None, at(place)) for task in backlog_of for place in (0, 3600_000)])
    seen = set()
    for _ in range(600):
        (row,) = claim(connection)
        seen.add(row[4])
        assert value(connection, "fail", "p", row[0], row[1], "later", "0 s") in ("retry", "dead")
        connection.cursor().execute("UPDATE humcli.jobs SET attempts = 0 WHERE worker IS NULL")
        if seen == backlog_of:
            break
    assert seen == backlog_of


def test_slices(database, connection):
    """Many unread events are enqueued in several parts, each event once."""
    call(connection, "subscribe", "p", "beginning", ["A"])
    fill(database, 2300, "AB")
    got = []
    while rows := claim(connection, rows=70):
        got += [row[0] for row in rows]
        assert count(connection, "jobs") <= 2300
        for row in rows:
            call(connection, "complete", "p", row[0], row[1])
    assert len(got) == len(set(got)) == 1150


def test_idle_claims_write_nothing(connection):
    make(connection, 1, in_order=False)
    for in_order in (False, True):
        call(connection, "pool", "p", in_order=in_order)
        for row in claim(connection):
            call(connection, "complete", "p", row[0], row[1])
        with connection.cursor() as cursor:
            cursor.execute("BEGIN")
            assert claim(connection) == []
            cursor.execute("SELECT txid_current_if_assigned()")
            assert cursor.fetchone() == (None,)
            cursor.execute("COMMIT")


def test_seek_and_status(connection):
    everything = make(connection, 5, max_attempts=1)
    first, = claim(connection)
    value(connection, "fail", "p", first[0], first[1], "x")
    claim(connection)
    with connection.cursor() as cursor:
        cursor.execute("SELECT pool, pending, claimed, dead, oldest = (SELECT min(recorded_at) FROM humcli.events e"
                       " JOIN humcli.jobs j ON j.event_id = e.id) FROM humcli.subscription_status")
        assert cursor.fetchone() == (True, 3, 1, 1, True)
    call(connection, "seek", "p", "now")
    assert claim(connection) == [] and count(connection, "jobs") == 0
    call(connection, "seek", "p", "beginning")
    assert sorted(row[0] for row in claim(connection, rows=9)) == everything
    call(connection, "unsubscribe", "p")
    assert count(connection, "jobs") == count(connection, "dead") == 0


@pytest.mark.parametrize("arguments", (("p", None), ("p", "w", 0), ("p", "w", None), ("p", "w", 1, "0 s"), ("p", "w", 1, None)))
def test_refused(connection, arguments):
    make(connection)
    with pytest.raises(errors.InvalidParameterValue):
        call(connection, "claim", *arguments)
    with pytest.raises(errors.NoDataFound):
        call(connection, "claim", "absent", "w")


def test_installation(cluster, pooled, paths, template):
    """A second installation, and one by a query string, changes nothing.
    Without the schema there is a clear message. The rights are as
    documented."""
    database = Database(cluster, cluster.create_database(template=pooled))
    look = ("SELECT proname, pg_get_functiondef(oid), proowner, proacl::text FROM pg_proc"
            " WHERE pronamespace = 'humcli'::regnamespace ORDER BY 1, 2")
    before = database.execute(look)
    folder = paths.source / "sql"
    text = subprocess.run(["awk", "-v", f"dir={folder}", "-f", folder / "flatten.awk", folder / "pool.sql"],
                          check=True, capture_output=True, text=True).stdout
    database.execute(text)
    database.psql("-v", "ON_ERROR_STOP=1", "-q", "-f", str(folder / "pool.sql"))
    database.psql("-v", "ON_ERROR_STOP=1", "-q", "-f", str(folder / "install.sql"))
    assert database.execute(look) == before
    consumer = {"pool", "claim", "complete", "extend", "fail", "redrive"}
    for name, definition, _, _ in before:
        if name in consumer:
            assert "SECURITY DEFINER" in definition and "TO 'pg_catalog', 'pg_temp'" in definition
    granted = {row[0] for row in database.execute(
        "SELECT proname FROM pg_proc WHERE pronamespace = 'humcli'::regnamespace"
        " AND has_function_privilege('humcli_consumer', oid, 'EXECUTE')")}
    assert granted & (consumer | {"enqueue_unread", "move_to_dead", "claimable_heads"}) == consumer
    assert not database.execute("SELECT 1 FROM pg_proc WHERE pronamespace = 'humcli'::regnamespace"
                                " AND EXISTS (SELECT FROM aclexplode(proacl) WHERE grantee = 0)")
    cluster.drop_database(database.name)
    empty = Database(cluster, cluster.create_database())
    with pytest.raises(errors.ObjectNotInPrerequisiteState):
        empty.execute(text)
    cluster.drop_database(empty.name)
    assert template


@pytest.mark.parametrize("in_order", (False, True))
def test_workers_that_crash_hang_and_fail(database, connection, rng, in_order):
    """While others write, each event is completed once or becomes a dead
    letter. With in_order, never two events of a task are claimed at a time."""
    total = 5_000
    call(connection, "subscribe", "p")
    call(connection, "pool", "p", in_order=in_order, max_attempts=4, backoff="5 ms", longest_backoff="20 ms")
    connection.cursor().execute("CREATE TABLE public.done (id bigint, task_id text, occurred_at timestamptz,"
                                " at timestamptz DEFAULT clock_timestamp())")
    lease = "400 ms"
    threads, writing = Threads(), Threads()
    finished = []
    held = defaultdict(int)     # task -> claims with a running lease, in_order
    seeds = [type(rng)(rng.random()) for _ in range(6)]

    def write(number, rng):
        mine = database.connect()
        for start in range(0, total // 2, 50):
            record(mine, [Delivery(f"task_{number}_{rng.randint(0, 60)}", rng.choice("ABC"), None, at(rng.random() * 1e6))
                          for _ in range(min(50, total // 2 - start))])
        mine.close()

    def work(number, rng):
        mine = psycopg2.connect(database.dsn())
        while True:
            last = bool(finished)
            rows = claim(mine, rows=rng.choice((1, 3, 10)), lease=lease, worker=f"w{number}")
            mine.commit()
            taken = time.monotonic()
            if in_order:
                assert len({row[4] for row in rows}) == len(rows)
            if not rows:
                with mine.cursor() as cursor:
                    cursor.execute("SELECT count(*) FROM humcli.jobs")
                    idle = cursor.fetchone() == (0,)
                mine.commit()
                if idle and last:
                    break
                time.sleep(0.01)
                continue
            kind = rng.random()
            if kind < 0.03:     # crashes
                mine.close()
                mine = psycopg2.connect(database.dsn())
                continue
            if kind < 0.06:     # hangs, and completes too late
                time.sleep(0.5)
            for row in rows:
                chance = rng.random()
                if chance < 0.15:
                    value(mine, "fail", "p", row[0], row[1], "at random")
                    mine.commit()
                    continue
                if chance < 0.2:
                    value(mine, "extend", "p", row[0], row[1], lease)
                if in_order and time.monotonic() - taken < 0.3:
                    held[row[4]] += 1
                    assert held[row[4]] == 1, "two of a task at a time"
                    held[row[4]] -= 1
                with mine.cursor() as cursor:
                    cursor.execute("INSERT INTO public.done (id, task_id, occurred_at) VALUES (%s, %s, %s)",
                                   [row[0], row[4], row[7]])
                if value(mine, "complete", "p", row[0], row[1]):
                    mine.commit()
                else:
                    mine.rollback()
        mine.close()

    for number in range(2):
        writing.start(write, number, seeds[number])
    for number in range(4):
        threads.start(work, number, seeds[2 + number])
    try:
        writing.join()
    finally:
        finished.append(True)
        threads.join()
    everything = {row[0] for row in database.execute("SELECT id FROM humcli.events")}
    done = Counter(row[0] for row in database.execute("SELECT id FROM public.done"))
    dead = {row[0] for row in database.execute("SELECT event_id FROM humcli.dead")}
    assert len(everything) > total * 0.95
    assert max(done.values()) == 1
    assert not set(done) & dead and set(done) | dead == everything
    assert count(connection, "jobs") == 0
    # dead letters can still be completed
    assert value(connection, "redrive", "p", None, 100_000) == len(dead)
    assert drain_pool(connection) == len(dead)


def drain_pool(connection):
    """Completes all jobs; returns their number."""
    done = 0
    while rows := claim(connection, rows=100):
        for row in rows:
            assert value(connection, "complete", "p", row[0], row[1])
        done += len(rows)
    return done


def test_one_user(cluster, paths):
    """Without the roles, all functions work for the owner."""
    cluster.execute("CREATE ROLE sql_plain LOGIN")
    database = Database(cluster, cluster.create_database(owner="sql_plain"))
    try:
        for script in ("install.sql", "pool.sql"):
            database.psql("-v", "ON_ERROR_STOP=1", "-q", "-f", str(paths.source / "sql" / script), user="sql_plain")
        connection = database.connect("sql_plain")
        call(connection, "subscribe", "s")
        call(connection, "subscribe", "p")
        new = ids(record(connection, [Delivery("task_1", "B", "A")], notify=True))
        assert ids(drain(connection, "s")) == new and drain_pool(connection) == 1
        call(connection, "replay", "s", ids=new)
        call(connection, "seek", "s", "now")
        assert value(connection, "purge", "1 day") == 0 and not value(connection, "rebase")
        assert count(connection, "gaps") == 1 and count(connection, "subscription_status") == 2
        call(connection, "unsubscribe", "s")
        connection.close()
    finally:
        cluster.drop_database(database.name)
        cluster.execute("DROP ROLE sql_plain")
