"""humcli.record_batch() against a model of its rule, step by step."""

import threading
from datetime import timedelta

from harness.record_calls import (EVENT, Delivery, at, listen, notification,
                                  notifications, outcomes, record, record_all,
                                  record_as_cgi, stored)
from harness.visit_model import Model

WINDOW = timedelta(seconds=60)


def wild_history(rng, task):
    """Returns unlikely deliveries, with times close to each limit of the
    rule."""
    pairs = [(rng.choice("AB\u00e9"), rng.choice((None, "A", "B"))) for _ in range(rng.randint(1, 4))]
    times = [rng.choice((0, 1, 30, 59, 60, 61, 120, 121, 180, 240)) for _ in range(rng.randint(1, 6))]
    events = rng.choice(((EVENT,), (EVENT, "task.other")))
    deliveries = []
    for _ in range(rng.randint(1, 12)):
        status, previous = rng.choice(pairs)
        moment = at(rng.choice(times) + rng.choice((0, 0, 0, 1e-6, -1e-6)))
        deliveries.append(Delivery(task, status, previous, moment, rng.choice(events)))
    return deliveries


def likely_history(rng, task):
    """Returns a usual history with rejected estimates and some re-stamped
    redeliveries."""
    lives = ["PENDING", "ESTIMATE_PENDING"] * rng.randint(1, 3) + ["ACCEPTED", "IN_PROGRESS", "SUBMITTED"]
    deliveries = []
    previous, now = None, 0
    for status in lives[:rng.randint(2, len(lives))]:
        for _ in range(rng.choice((1, 1, 1, 2, 3))):
            deliveries.append(Delivery(task, status, previous, at(now)))
            now += rng.choice((0.001, 1, 20))
        previous = status
        now += rng.choice((0.001, 5, 50, 1000))
    deliveries += rng.sample(deliveries, rng.randint(0, 2))
    rng.shuffle(deliveries)
    return deliveries


def interleaved(rng, histories):
    """Merges histories at random; each history keeps its order."""
    turns = [turn for history in histories for turn in [iter(history)] * len(history)]
    rng.shuffle(turns)
    return [next(turn) for turn in turns]


def check_end(model, events, repeats):
    """Checks the properties that do not depend on the order of the
    deliveries."""
    recorded = {d.key for d in events}
    assert len(recorded) == len(events)
    assert not recorded & {d.key for d in repeats}
    for history in model.histories.values():
        for visit in model.visits(history):
            count = sum(d.key in recorded for d in visit)
            assert count >= 1, visit
            if visit[-1].occurred_at - visit[0].occurred_at <= model.window:
                assert count == 1, visit


def test_random_histories(database, rng):
    """Thousands of shuffled, re-stamped histories in batches of random sizes
    give the rows of the model."""
    connection = database.connect()
    model = Model(WINDOW)
    ids = {}
    number = 0
    for _ in range(100):
        histories = []
        for _ in range(40):
            number += 1
            histories.append(rng.choice((wild_history, likely_history))(rng, f"task_{number}"))
        stream = interleaved(rng, histories)
        while stream:
            size = rng.choice((1, 2, 7, 40, 100, 256))
            batch, stream = stream[:size], stream[size:]
            rows = (record_as_cgi(connection, batch[0], WINDOW) if len(batch) == 1 and rng.random() < .5
                    else record(connection, batch, WINDOW))
            step = iter(rows)
            for place, delivery in enumerate(batch, 1):
                verdict = model.deliver(delivery)
                row = next(step)
                assert (row.place, row.outcome) == (place, verdict.outcome), delivery
                if verdict.outcome == "recorded":
                    ids[row.id] = delivery.key
                assert ids[row.id] in verdict.visit, delivery
                if verdict.promoted:
                    row = next(step)
                    promoted = model.events[verdict.promoted]
                    assert (row.place, row.outcome) == (place, "promoted"), delivery
                    assert (row.task_id, row.status, row.previous_status) == (
                        promoted.task_id, promoted.status, promoted.previous_status)
                    assert row.id not in ids
                    ids[row.id] = verdict.promoted
            assert next(step, None) is None
    events, repeats = stored(connection, "events"), stored(connection, "repeats")
    connection.close()
    assert number >= 4000
    assert {d.key: d for d in events} == model.events
    assert {d.key: d for d in repeats} == model.repeats
    check_end(model, events, repeats)


def test_random_histories_at_once(database, rng):
    """Four writers record the same few tasks. In any order each visit gets its
    event."""
    tasks = [f"task_{i}" for i in range(12)]
    streams = []
    for _ in range(4):
        stream = [d for task in tasks for _ in range(5) for d in wild_history(rng, task)]
        rng.shuffle(stream)
        streams.append([stream[i:i + 20] for i in range(0, len(stream), 20)])
    answers = [[] for _ in streams]
    failures = []

    def write(batches, answer):
        connection = database.connect()
        try:
            for number, batch in enumerate(batches):
                if number % 2:
                    answer += zip(batch, record_all(connection, batch, WINDOW))
                else:
                    answer += [(one, next(iter(record_as_cgi(connection, one, WINDOW)))) for one in batch]
        except Exception as failure:    # pylint: disable=broad-except
            failures.append(failure)
        finally:
            connection.close()

    threads = [threading.Thread(target=write, args=pair) for pair in zip(streams, answers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures

    connection = database.connect()
    events, repeats = stored(connection, "events"), stored(connection, "repeats")
    connection.close()
    model = Model(WINDOW)
    for delivery in events + repeats:
        model.deliver(delivery)     # only the histories count, because the order was another
    check_end(model, events, repeats)
    everything = {d.key for stream in streams for batch in stream for d in batch}
    assert {d.key for d in events} | {d.key for d in repeats} == everything
    kept = [d.key for d, row in sum(answers, []) if row.outcome in ("recorded", "repeat")]
    assert sorted(kept) == sorted(everything)


def alternating(task, times):
    """Returns a task whose estimates are rejected that many times."""
    names = ("PENDING", "ESTIMATE_PENDING")
    return [Delivery(task, names[i % 2], names[(i + 1) % 2], at(i * times)) for i in range(8)]


def test_alternating_in_order(database):
    connection = database.connect()
    for size in (1, 3, 8):
        history = alternating(f"task_{size}", 1)
        rows = [row for i in range(0, 8, size) for row in record(connection, history[i:i + size])]
        assert outcomes(rows) == ["recorded"] * 8
    assert not stored(connection, "repeats")
    connection.close()


def test_alternating_shuffled(database, rng):
    """Some deliveries are repeats at first. In the end each one is an event and
    was notified."""
    connection, listener = database.connect(), database.connect()
    listen(listener)
    promotions = 0
    for number in range(50):
        history = alternating(f"task_{number}", 1)
        rng.shuffle(history)
        told = {}
        for delivery in history:
            told.update((row.id, row) for row in record(connection, [delivery], notify=True)
                        if row.outcome in ("recorded", "promoted"))
        assert len(told) == 8
        promotions += sum(row.outcome == "promoted" for row in told.values())
        with connection.cursor() as cursor:
            cursor.execute("SELECT id, task_id, status, previous_status, occurred_at, first_of_status"
                           " FROM humcli.events WHERE task_id = %s ORDER BY id", [f"task_{number}"])
            rows = cursor.fetchall()
        assert sorted(notifications(listener, 8)) == sorted(
            notification(row[0], Delivery(*row[1:5]), row[5]) for row in rows)
        assert sorted(row[1:5] for row in rows) == sorted(d[:4] for d in history)
        assert sum(row[5] for row in rows) == 2
    assert promotions > 0
    assert not stored(connection, "repeats")
    connection.close()
    listener.close()
