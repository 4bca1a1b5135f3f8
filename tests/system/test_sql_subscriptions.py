"""Durable subscriptions: in any order of commits, no event is missed and none
is fetched twice."""

import time
from collections import Counter, defaultdict

import psycopg2
import pytest
from psycopg2 import errors

from harness.postgres import wait_until
from harness.record_calls import Delivery, at, listen, notifications, record
from harness.subscription_calls import Threads, call, drain, fetch, fill, ids, value


def one(connection, sql, *arguments):
    """Returns the first row of a statement."""
    with connection.cursor() as cursor:
        cursor.execute(sql, arguments)
        return cursor.fetchone()


def cursor_of(connection, name):
    """Returns the cursor of a subscription."""
    return one(connection, "SELECT done::text, win::text, win_xid, win_id, ctid FROM humcli.subscriptions"
               " WHERE name = %s", name)


def reads(connection):
    """Returns the numbers of rows of humcli.events read by scans and by index
    so far. Two calls in one transaction give a difference."""
    return one(connection, "SELECT seq_tup_read, idx_tup_fetch FROM pg_stat_xact_user_tables"
               " WHERE relid = 'humcli.events'::regclass")


def begin(database, user="postgres"):
    """Returns a connection that begins transactions by itself."""
    return psycopg2.connect(database.dsn(user))


def test_now_and_beginning(connection):
    """A subscription begins now or at the beginning. subscribe() returns
    whether it made one, and does not change an existing one."""
    record(connection, [Delivery("task_1", "A")])
    assert value(connection, "subscribe", "late")
    assert value(connection, "subscribe", "all", start="beginning", statuses=None)
    assert not value(connection, "subscribe", "late", "beginning", ["B"])
    first = one(connection, "SELECT id FROM humcli.events")[0]
    second, = ids(record(connection, [Delivery("task_2", "A", "PENDING", at(5), payload='{"a": "\\u0000"}')]))
    assert ids(fetch(connection, "all")) == [first, second]
    row, = fetch(connection, "late")
    whole = one(connection, "SELECT id, event, task_id, status, previous_status, occurred_at, received_at,"
                " recorded_at, secret_name, signature FROM humcli.events WHERE id = %s", second)
    assert row[1:10] + (row.signature,) == whole
    assert one(connection, "SELECT payload::text FROM humcli.fetch('late')") == ('{"a": "\\u0000"}',)


def test_until_acknowledged(connection):
    """Events are fetched again until they are acknowledged. A position
    acknowledges all events up to it."""
    call(connection, "subscribe", "s")
    everything = ids(record(connection, [Delivery(f"task_{i}", "A") for i in range(10)]))
    assert ids(fetch(connection, "s", 4)) == everything[:4]
    rows = fetch(connection, "s", 4)
    assert ids(rows) == everything[:4]
    call(connection, "ack", "s", rows[2].position)
    assert ids(fetch(connection, "s")) == everything[3:]
    for row in rows[:3]:
        with pytest.raises(errors.SerializationFailure):
            call(connection, "ack", "s", row.position)
    assert ids(drain(connection, "s", 3)) == everything[3:]
    assert fetch(connection, "s") == []


def test_transactions_out_of_order(database, connection):
    """A transaction that begins first and commits last is not missed and delays
    no others."""
    call(connection, "subscribe", "s")
    early, rolled_back = begin(database), begin(database)
    first, = ids(record(early, [Delivery("task_1", "A")]))
    record(rolled_back, [Delivery("task_2", "A")])
    second, = ids(record(connection, [Delivery("task_3", "A")]))
    assert ids(drain(connection, "s")) == [second]
    third, = ids(record(connection, [Delivery("task_4", "A")]))
    assert ids(drain(connection, "s")) == [third]
    rolled_back.rollback()
    assert fetch(connection, "s") == []
    early.commit()
    fourth, = ids(record(connection, [Delivery("task_5", "A")]))
    assert ids(drain(connection, "s")) == [first, fourth]
    early.close()
    rolled_back.close()


def test_under_way_at_subscribe_and_at_seek(database, connection):
    """'now' is before all later commits, however early their transaction
    began."""
    early = begin(database)
    first, = ids(record(early, [Delivery("task_1", "A")]))
    call(connection, "subscribe", "s")
    early.commit()
    assert ids(drain(connection, "s")) == [first]
    second, = ids(record(early, [Delivery("task_2", "A")]))
    record(connection, [Delivery("task_3", "A")])
    call(connection, "seek", "s", "now")
    early.commit()
    assert ids(drain(connection, "s")) == [second]
    early.close()


def test_promotions(connection):
    """A repeat that is promoted long after it was recorded is fetched."""
    call(connection, "subscribe", "s")
    a, = record(connection, [Delivery("task_1", "A", None, at(0))])
    assert record(connection, [Delivery("task_1", "A", None, at(2))])[0].outcome == "repeat"
    assert ids(drain(connection, "s")) == [a.id]
    rows = record(connection, [Delivery("task_1", "B", None, at(1))])
    assert [row.outcome for row in rows] == ["recorded", "promoted"]
    assert ids(drain(connection, "s")) == ids(rows)


def test_idle_polling_writes_nothing(database, connection):
    """Polling without new events assigns no transaction id and writes no row,
    also with events of other statuses and with open transactions."""
    call(connection, "subscribe", "all", "beginning")
    call(connection, "subscribe", "some", "beginning", ["Z"])
    record(connection, [Delivery(f"task_{i}", "A") for i in range(5)])
    drain(connection, "all", 2)
    fetch(connection, "some")
    writer = begin(database)
    record(writer, [Delivery("task_9", "A")])
    before = [cursor_of(connection, name) for name in ("all", "some")]
    with connection.cursor() as cursor:
        cursor.execute("BEGIN")
        for _ in range(5):
            assert fetch(connection, "all") == [] and fetch(connection, "some") == []
        assert one(connection, "SELECT txid_current_if_assigned()") == (None,)
        cursor.execute("COMMIT")
    assert [cursor_of(connection, name) for name in ("all", "some")] == before
    writer.rollback()
    writer.close()


def test_statuses(connection):
    """Only events of the chosen statuses are fetched, in order."""
    call(connection, "subscribe", "s", statuses=["B", "C"])
    rows = record(connection, [Delivery(f"task_{i}", "ABCD"[i % 4]) for i in range(40)])
    assert ids(drain(connection, "s", 7)) == [row.id for i, row in enumerate(rows) if i % 4 in (1, 2)]


def test_secrets(connection):
    """Only events of the chosen secret names are fetched, in order. The status
    view counts and names them; replay() and the pools keep to them."""
    call(connection, "subscribe", "s", secrets=["a", "b"])
    call(connection, "subscribe", "both", statuses=["B"], secrets=["a"])
    rows = record(connection, [Delivery(f"task_{i}", "AB"[i // 20], secret_name="abcd"[i % 4]) for i in range(40)])
    mine = [row.id for i, row in enumerate(rows) if i % 4 < 2]
    both = [row.id for i, row in enumerate(rows) if i % 4 == 0 and i >= 20]
    with connection.cursor() as cursor:
        cursor.execute("SELECT name, statuses, secrets, pending FROM humcli.subscription_status")
        assert cursor.fetchall() == [("both", ["B"], ["a"], 5), ("s", None, ["a", "b"], 20)]
    assert [(row.id, row.secret_name) for row in drain(connection, "s", 7)] == [
        (number, "ab"[i % 2]) for i, number in enumerate(mine)]
    assert ids(drain(connection, "both")) == both
    assert value(connection, "replay", "both", ids=ids(rows)) == 5
    assert ids(drain(connection, "both")) == both


@pytest.mark.parametrize("named", ({"secrets": []}, {"secrets": [None]}, {"statuses": []}, {"statuses": ["A", None]}))
def test_lists_of_names(connection, named):
    with pytest.raises(errors.InvalidParameterValue):
        call(connection, "subscribe", "s", **{name: [*names] for name, names in named.items()})


@pytest.mark.parametrize("count, moves", ((1000, False), (1001, True)))
@pytest.mark.parametrize("window", (False, True))
@pytest.mark.parametrize("chosen", ({"statuses": ["Z"]}, {"secrets": ["z"]}), ids=("statuses", "secrets"))
def test_cursor_moves_past_others(database, connection, count, moves, window, chosen):
    """Events of other statuses or secrets are not read at each fetch, with and
    without an open window before them."""
    call(connection, "subscribe", "s", "beginning", **chosen)
    if window:
        record(connection, [Delivery("first", "Z", secret_name="z")])
        assert len(drain(connection, "s")) == 1
    fill(database, count)
    before = cursor_of(connection, "s")
    assert fetch(connection, "s") == []
    assert (cursor_of(connection, "s") != before) == moves
    after = cursor_of(connection, "s")
    assert fetch(connection, "s") == [] and cursor_of(connection, "s") == after
    wanted, = ids(record(connection, [Delivery("last", "Z", secret_name="z")]))
    assert ids(drain(connection, "s")) == [wanted]


def test_exactly_once_in_a_transaction(database, connection):
    """After a rollback the event is fetched again. A commit acknowledges it
    together with the consumer's own writes."""
    connection.cursor().execute("CREATE TABLE public.mine (id bigint)")
    call(connection, "subscribe", "s")
    everything = ids(record(connection, [Delivery(f"task_{i}", "A") for i in range(6)]))
    consumer = begin(database)

    def work():
        rows = fetch(consumer, "s", 4)
        with consumer.cursor() as cursor:
            cursor.executemany("INSERT INTO public.mine VALUES (%s)", [[row.id] for row in rows])
        call(consumer, "ack", "s", rows[-1].position)
        return ids(rows)

    assert work() == everything[:4]
    consumer.rollback()
    assert work() == everything[:4]
    assert work() == everything[4:]     # continues in the same transaction
    assert fetch(consumer, "s") == []
    consumer.commit()
    assert [row[0] for row in database.execute("SELECT id FROM public.mine")] == everything
    assert fetch(consumer, "s") == []
    consumer.close()


def test_second_consumer_waits(database, connection):
    """A second consumer of a subscription waits for the first one's commit, and
    gets the events after it."""
    call(connection, "subscribe", "s")
    everything = ids(record(connection, [Delivery(f"task_{i}", "A") for i in range(6)]))
    first, second = begin(database), database.connect()
    rows = fetch(first, "s", 2)
    threads, got = Threads(), []
    threads.start(lambda: got.extend(fetch(second, "s")))
    wait_until(lambda: one(connection, "SELECT count(*) FROM pg_locks l WHERE NOT l.granted")[0],
               "the second to wait")
    call(first, "ack", "s", rows[-1].position)
    first.commit()
    threads.join()
    assert ids(got) == everything[2:]
    first.close()
    second.close()


def test_second_consumer_is_refused(database, connection):
    """Without transactions two consumers may fetch the same event, but only one
    can acknowledge it."""
    call(connection, "subscribe", "s")
    record(connection, [Delivery(f"task_{i}", "A") for i in range(6)])
    other = database.connect()
    mine, others = fetch(connection, "s", 4), fetch(other, "s", 2)
    call(connection, "ack", "s", mine[-1].position)
    with pytest.raises(errors.SerializationFailure, match="acknowledged already"):
        call(other, "ack", "s", others[-1].position)
    other.close()


def test_older_transaction(database, connection):
    """A transaction older than the cursor gets all committed events; its own
    events are fetched after its commit."""
    call(connection, "subscribe", "s")
    old = begin(database)
    one(old, "SELECT txid_current()")
    first, = ids(record(connection, [Delivery("task_1", "A")]))
    assert ids(drain(old, "s")) == [first]
    own = ids(record(old, [Delivery("task_2", "A")]))
    old.commit()
    assert ids(drain(connection, "s")) == own
    own = ids(record(old, [Delivery("task_3", "A")]))
    second, = ids(record(connection, [Delivery("task_4", "A")]))
    assert ids(drain(old, "s")) == [second]     # its own events are fetched after its commit
    own += ids(record(old, [Delivery("task_5", "A")]))
    assert fetch(old, "s") == []
    old.commit()
    assert ids(drain(old, "s")) == own
    old.commit()
    # the window was made by a younger transaction than the one that reads it
    one(old, "SELECT txid_current()")
    both = ids(record(connection, [Delivery("task_6", "A"), Delivery("task_7", "A")]))
    assert ids(fetch(connection, "s")) == both
    assert ids(drain(old, "s", 1)) == both
    old.commit()
    third, = ids(record(connection, [Delivery("task_8", "A")]))
    assert ids(drain(connection, "s")) == [third]
    old.close()


@pytest.mark.parametrize("way", ("subscribe", "seek", "fetch", "ack"))
def test_cursor_is_of_a_younger_transaction(database, connection, way):
    """
    A transaction id that was assigned and never logged is assigned again after
    a crash. So the cursor's row has a younger transaction id than the ids it
    covers. If the row survives the crash, so does the counter.
    """
    call(connection, "subscribe", "s")
    fill(database, 3)
    if way == "ack":
        assert fetch(connection, "s")
    consumer = begin(database)
    mine, = one(consumer, "SELECT txid_current()")
    fill(database, 3, first=4)
    if way == "ack":
        drain(connection, "s")
        fill(database, 3, first=7)
        assert fetch(connection, "s")   # opens a window younger than the consumer
    if way == "subscribe":
        call(consumer, "subscribe", "t")
    elif way == "seek":
        call(consumer, "seek", "s", "now")
    else:
        rows = fetch(consumer, "s")
        if way == "ack":
            call(consumer, "ack", "s", rows[-1].position)
    consumer.commit()
    consumer.close()
    rows = database.execute("SELECT greatest(txid_snapshot_xmax(done), txid_snapshot_xmax(win)),"
                            " humcli.xid_to_bigint(xmin) FROM humcli.subscriptions")
    assert all(reach <= written for reach, written in rows)
    assert max(reach for reach, _ in rows) > mine


def test_seek(database, connection):
    """seek() moves to now, to the beginning, or to a time. Positions from
    before it can't be acknowledged."""
    call(connection, "subscribe", "s")
    old = ids(record(connection, [Delivery(f"task_{i}", "A") for i in range(4)]))
    time.sleep(0.002)   # more than a tick of the clock
    moment, = one(connection, "SELECT clock_timestamp()")
    new = ids(record(connection, [Delivery(f"task_{i}", "B", None, at(9)) for i in range(4)]))
    assert ids(drain(connection, "s")) == old + new
    call(connection, "seek", "s", "beginning")
    before = fetch(connection, "s")
    assert ids(before) == old + new
    call(connection, "seek", "s", str(moment))
    rows = fetch(connection, "s", 2)
    assert ids(rows) == new[:2]
    for stale in (before[0], before[-1]):
        with pytest.raises(errors.SerializationFailure):
            call(connection, "ack", "s", stale.position)
    youngest, = ids(record(connection, [Delivery("task_9", "A")]))
    assert ids(drain(connection, "s", 3)) == new + [youngest]
    call(connection, "seek", "s", "beginning")
    call(connection, "seek", "s", "now")
    assert fetch(connection, "s") == []
    call(connection, "seek", "s", "infinity")
    assert fetch(connection, "s") == []
    with pytest.raises(errors.InvalidDatetimeFormat):
        call(connection, "seek", "s", "soon")
    assert database.execute("SELECT count(*) FROM humcli.replays") == [(0,)]


def test_stale_position_in_a_new_window(connection):
    """seek() makes older positions invalid, because one of them would skip
    events that are fetched again."""
    call(connection, "subscribe", "s")
    record(connection, [Delivery(f"task_{i}", "A") for i in range(4)])
    rows = fetch(connection, "s")
    call(connection, "seek", "s", "beginning")
    assert len(fetch(connection, "s")) == 4
    with pytest.raises(errors.SerializationFailure):
        call(connection, "ack", "s", rows[2].position)
    call(connection, "unsubscribe", "s")
    call(connection, "subscribe", "s", "beginning")
    assert len(fetch(connection, "s")) == 4
    with pytest.raises(errors.SerializationFailure):
        call(connection, "ack", "s", rows[2].position)


def test_replay(database, connection):
    """Replays by id, task, status and time are fetched first, with their own
    positions."""
    call(connection, "subscribe", "s")
    call(connection, "subscribe", "other")
    rows = record(connection, [Delivery(f"task_{i % 3}", "ABCD"[i // 3], None, at(i * 1000)) for i in range(12)])
    everything = ids(rows)
    assert ids(drain(connection, "s")) == everything
    moments = [row[0] for row in database.execute("SELECT recorded_at FROM humcli.events ORDER BY id")]
    for arguments, expected in (
            ({"ids": [everything[5], everything[2], 10 ** 12]}, [everything[2], everything[5]]),
            ({"task_id": "task_1"}, everything[1::3]),
            ({"statuses": ["B", "D"]}, everything[3:6] + everything[9:]),
            ({"since": moments[4], "until": moments[9]},
             [i for i, m in zip(everything, moments) if moments[4] <= m < moments[9]]),
            ({"task_id": "task_1", "statuses": ["C"]}, [everything[7]]),
            ({"task_id": "none"}, [])):
        assert value(connection, "replay", "s", **arguments) == len(expected)
        assert ids(drain(connection, "s", 2)) == expected, arguments
    # replays come first, together with new events, and are acknowledged one by
    # one
    new = ids(record(connection, [Delivery("task_7", "A")]))
    call(connection, "replay", "s", ids=everything[:2])
    assert value(connection, "replay", "s", ids=everything[:3]) == 1
    rows = fetch(connection, "s")
    assert ids(rows) == everything[:3] + new
    assert len({row.position for row in rows}) == 4
    call(connection, "ack", "s", rows[1].position)
    with pytest.raises(errors.SerializationFailure):
        call(connection, "ack", "s", rows[0].position)
    assert ids(fetch(connection, "s")) == everything[2:3] + new
    call(connection, "ack", "s", rows[3].position)
    assert fetch(connection, "s") == []
    with pytest.raises(errors.SerializationFailure):
        call(connection, "ack", "s", rows[2].position)
    assert ids(drain(connection, "other")) == everything + new


def test_replay_is_of_what_is_past(connection):
    """replay() adds only events that were fetched before and have the chosen
    statuses. Listeners are notified."""
    call(connection, "subscribe", "s", statuses=["A"])
    rows = record(connection, [Delivery(f"task_{i}", "AB"[i % 2]) for i in range(8)])
    mine = ids(rows)[::2]
    part = fetch(connection, "s", 2)
    call(connection, "ack", "s", part[-1].position)
    listen(connection)
    assert value(connection, "replay", "s", ids=ids(rows)) == 2
    assert notifications(connection, 1) == ["{}"]
    assert ids(drain(connection, "s", 3)) == mine[:2] + mine[2:]
    with pytest.raises(errors.InvalidParameterValue):
        call(connection, "replay", "s")


def test_replays_at_once(database, connection):
    """A replay that is added during a fetch is not acknowledged with its
    events."""
    call(connection, "subscribe", "s")
    everything = ids(record(connection, [Delivery(f"task_{i}", "A") for i in range(20)]))
    drain(connection, "s")
    slow = begin(database)
    call(slow, "replay", "s", ids=everything[:10])
    threads = Threads()
    threads.start(call, database.connect(), "replay", "s", everything[10:])
    wait_until(lambda: one(connection, "SELECT count(*) FROM pg_locks l WHERE NOT l.granted")[0],
               "the second to wait")
    slow.commit()
    threads.join()
    assert ids(drain(connection, "s", 3)) == everything
    slow.close()


@pytest.mark.parametrize("function, arguments, error", (
    ("subscribe", ["", "now"], errors.InvalidParameterValue),
    ("subscribe", [None, "now"], errors.InvalidParameterValue),
    ("subscribe", ["a b", "now"], errors.InvalidParameterValue),
    ("subscribe", ["x" * 64, "now"], errors.InvalidParameterValue),
    ("subscribe", ["s", "yesterday"], errors.InvalidParameterValue),
    ("subscribe", ["s", None], errors.InvalidParameterValue),
    ("subscribe", ["s", "now", []], errors.InvalidParameterValue),
    ("subscribe", ["s", "now", ["A", None]], errors.InvalidParameterValue),
    ("fetch", ["there", 0], errors.InvalidParameterValue),
    ("fetch", ["there", None], errors.InvalidParameterValue),
    ("fetch", ["absent"], errors.NoDataFound),
    ("ack", ["absent", "1:0:5:5"], errors.NoDataFound),
    ("ack", ["there", "1"], errors.InvalidParameterValue),
    ("ack", ["there", "1:0:5:x"], errors.InvalidParameterValue),
    ("ack", ["there", "1:0:5:9999999999999999999"], errors.InvalidParameterValue),
    ("ack", ["there", None], errors.InvalidParameterValue),
    ("ack", ["there", "1:0:5:5"], errors.SerializationFailure),
    ("ack", ["there", "1:7:0:0"], errors.SerializationFailure),
    ("seek", ["absent", "now"], errors.NoDataFound),
    ("seek", ["there", None], errors.InvalidParameterValue),
    ("replay", ["absent", [1]], errors.NoDataFound),
    ("unsubscribe", ["absent"], errors.NoDataFound)))
def test_refused(connection, function, arguments, error):
    call(connection, "subscribe", "there")
    with pytest.raises(error):
        call(connection, function, *arguments)


def test_unsubscribe(database, connection):
    """unsubscribe() leaves no row. A new subscription of that name starts
    again."""
    call(connection, "subscribe", "s")
    everything = ids(record(connection, [Delivery("task_1", "A")]))
    drain(connection, "s")
    call(connection, "replay", "s", everything)
    call(connection, "unsubscribe", "s")
    for table in ("subscriptions", "replays"):
        assert database.execute(f"SELECT count(*) FROM humcli.{table}") == [(0,)]
    assert value(connection, "subscribe", "s", "beginning")
    assert ids(drain(connection, "s")) == everything


def test_repeatable_read(database, connection):
    """A repeatable-read transaction has one snapshot. The second consumer gets
    a serialization failure."""
    call(connection, "subscribe", "s")
    first, = ids(record(connection, [Delivery("task_1", "A")]))
    reader = begin(database)
    reader.set_session(isolation_level="REPEATABLE READ")
    one(reader, "SELECT count(*) FROM humcli.events")
    second, = ids(record(connection, [Delivery("task_2", "A")]))
    assert ids(drain(reader, "s")) == [first]
    reader.commit()
    assert ids(fetch(reader, "s")) == [second]
    reader.rollback()
    one(reader, "SELECT count(*) FROM humcli.events")
    assert ids(drain(connection, "s")) == [second]
    with pytest.raises(errors.SerializationFailure):
        fetch(reader, "s")
    reader.close()


def test_few_rows_are_read(database, connection):
    """A fetch reads few rows by index, also with plans made on the empty table.
    It does not read all events since a long transaction began."""
    call(connection, "subscribe", "s")
    for _ in range(10):     # after five calls PostgreSQL keeps a generic plan
        assert fetch(connection, "s") == []
    writer = begin(database)
    record(writer, [Delivery("long", "A")])
    fill(database, 100_000)
    assert len(drain(connection, "s", 5000)) == 100_000
    record(connection, [Delivery("one", "A")])
    with connection.cursor() as cursor:
        cursor.execute("BEGIN")
        before = reads(connection)
        rows = fetch(connection, "s", 10)
        assert len(rows) == 1
        call(connection, "ack", "s", rows[-1].position)
        after = reads(connection)
        cursor.execute("COMMIT")
    assert after[0] == before[0] and after[1] - before[1] < 50
    writer.rollback()
    writer.close()


# ---- many at once


def lives(rng, task):
    """Returns shuffled deliveries whose statuses alternate within the window,
    so that some are repeats before they become events."""
    names = ("PENDING", "ESTIMATE_PENDING")
    history = [Delivery(task, names[i % 2], names[(i + 1) % 2], at(i)) for i in range(rng.choice((1, 2, 8)))]
    rng.shuffle(history)
    return history


class Writers:
    """Five threads that record, sleep, commit or roll back, and repeat this."""

    def __init__(self, database, seeds, events):
        self.database = database
        self.events = events
        self.threads = Threads()
        self.promotions = 0
        self.rollbacks = 0
        for number, rng in enumerate(seeds):
            self.threads.start(self.write, number, rng)

    def write(self, number, rng):
        """Runs one writer, with its own tasks and tasks that all writers
        share."""
        connection = begin(self.database)
        left = self.events
        stream = []
        task = 0
        while left > 0 or stream:
            while left > 0 and len(stream) < 60:
                task += 1
                name = f"task_{number}_{task}" if task % 50 else f"shared_{task}"
                history = lives(rng, name)
                left -= len(history)
                for delivery in history:    # close enough that a history spans transactions
                    stream.insert(rng.randint(max(0, len(stream) - 40), len(stream)), delivery)
            size = rng.choice((1, 5, 20, 60))
            batch, stream = stream[:size], stream[size:]
            while batch:
                rows = record(connection, batch)
                if rng.random() < 0.3:
                    time.sleep(rng.random() * 0.02)
                if rng.random() < 0.1:
                    connection.rollback()
                    self.rollbacks += 1
                    continue
                connection.commit()
                self.promotions += sum(row.outcome == "promoted" for row in rows)
                batch = [batch[row.place - 1] for row in rows if row.outcome == "busy"]
        connection.close()


def check_order(events):
    """Checks that the events of each task are in the order of recording."""
    tasks = defaultdict(list)
    for event in events:
        tasks[event.task_id].append(event.id)
    assert all(numbers == sorted(numbers) for numbers in tasks.values())


@pytest.mark.parametrize("stuck", (False, True), ids=("alone", "beside an open writer"))
def test_nothing_lost_nothing_twice(database, connection, rng, stuck):
    """Each way of consuming gets all events of five writers. An open
    transaction of another application delays none."""
    connection.cursor().execute("CREATE TABLE public.mine (id bigint)")
    for name in ("plain", "exact", "raced"):
        call(connection, "subscribe", name)
    call(connection, "subscribe", "some", statuses=["PENDING"])
    other = begin(database)
    if stuck:
        one(other, "SELECT txid_current()")
    seeds = [type(rng)(rng.random()) for _ in range(10)]
    writers = Writers(database, seeds[:5], 4_800)
    consumers = Threads()
    done = []
    got = defaultdict(list)

    def consume(name, rng):
        mine = database.connect()
        while True:
            last = bool(done)
            rows = fetch(mine, name, rng.choice((1, 10, 100, 1000)))
            if rows:
                rows = rows[:rng.randint(1, len(rows))]
                got[name] += rows
                call(mine, "ack", name, rows[-1].position)
            elif last:
                break
            else:
                time.sleep(0.005)
        mine.close()

    def consume_exactly(name, rng, in_fetch):
        mine = begin(database)
        while True:
            last = bool(done)
            try:
                rows = fetch(mine, name, rng.choice((1, 10, 100, 1000)))
                if rows and not in_fetch:
                    mine.commit()   # releases the lock, so that ack() decides
                with mine.cursor() as cursor:
                    for row in rows:
                        cursor.execute("INSERT INTO public.mine VALUES (%s)", [row.id])
                if rows:
                    call(mine, "ack", name, rows[-1].position)
                if rng.random() < 0.1:
                    mine.rollback()
                    continue
                mine.commit()
                got[name] += rows
            except errors.SerializationFailure:
                mine.rollback()
                continue
            if not rows:
                if last:
                    break
                time.sleep(0.005)
        mine.close()

    consumers.start(consume, "plain", seeds[5])
    consumers.start(consume, "some", seeds[6])
    consumers.start(consume_exactly, "exact", seeds[7], True)
    consumers.start(consume_exactly, "exact", seeds[8], True)
    try:
        writers.threads.join()
    finally:
        done.append(True)
        consumers.join()
    everything = Counter({row[0]: 1 for row in database.execute("SELECT id FROM humcli.events")})
    some = {row[0] for row in database.execute("SELECT id FROM humcli.events WHERE status = 'PENDING'")}
    assert len(everything) >= 20_000
    assert writers.promotions > 100 and writers.rollbacks > 10
    assert Counter(ids(got["plain"])) == everything
    assert Counter(ids(got["some"])) == Counter(some)
    assert Counter(row[0] for row in database.execute("SELECT id FROM public.mine")) == everything
    check_order(got["plain"])
    check_order(got["some"])
    # two consumers that fetch outside of the transaction: some twice, none lost
    database.execute("TRUNCATE public.mine")
    racers = Threads()
    for seed in seeds[8:]:
        racers.start(consume_exactly, "raced", seed, False)
    racers.join()
    assert {row[0] for row in database.execute("SELECT id FROM public.mine")} == set(everything)
    other.rollback()
    other.close()


def test_status_of_a_million(database, connection):
    """The count stops at 10,001, and is fast with many waiting and many
    acknowledged events."""
    for name in ("far", "near", "some", "none"):
        call(connection, "subscribe", name, statuses=["B"] if name == "some" else ["Z"] if name == "none" else None)
    rows = 1_000_000
    fill(database, rows, "AB")
    connection.cursor().execute("VACUUM ANALYZE humcli.events")
    call(connection, "seek", "near", "now")
    wanted = record(connection, [Delivery("one", "A"), Delivery("two", "B")])
    call(connection, "replay", "near", ids=[1])
    with connection.cursor() as cursor:
        cursor.execute("SELECT name, pending, oldest, claimed, dead, needs_rebase FROM humcli.subscription_status")
        found = {row[0]: row[1:] for row in cursor.fetchall()}
        cursor.execute("SELECT id, recorded_at FROM humcli.events WHERE id IN (1, %s)", [wanted[0].id])
        moments = dict(cursor.fetchall())
        assert found["near"] == (3, moments[wanted[0].id], 0, 0, False)
        assert found["far"] == (10_001, moments[1], 0, 0, False)
        assert 5000 <= found["some"][0] <= 5001 and found["none"][:2] == (0, None)
        times = []
        for _ in range(5):
            began = time.monotonic()
            cursor.execute("SELECT * FROM humcli.subscription_status WHERE name = 'far'")
            times.append(time.monotonic() - began)
        print(f"status: {1000 * min(times):.1f} ms with {rows} events")
        assert min(times) < 0.2     # 50 ms on a quiet machine; a scan of the table takes longer
        cursor.execute("BEGIN")
        before = reads(connection)
        cursor.execute("SELECT * FROM humcli.subscription_status")
        after = reads(connection)
        cursor.execute("COMMIT")
    assert after[0] == before[0] and after[1] - before[1] <= 3 * 10_100
