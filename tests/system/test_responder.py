"""The resident responder: batches, notifications, its connection, changes of
secrets, and its end."""

import concurrent.futures
import contextlib
import json
import os
import select
import signal
import socket
import stat
import subprocess
import tempfile
import threading
import time

import psycopg2
import pytest

from harness import fastcgi
from harness.postgres_proxy import PostgresProxy
from harness.responder import (CGI, SECRET, FastCGI, chown_to_test_user, event,
                               eventually, new_task, sign, task_of, variables)
from harness.responder_database import LOCAL_WRITER, WRITER
from harness.spool import Spool
from harness.webserver import free_port

RECEIVED = b'{"received":true}'
DUPLICATE = b'{"received":true,"duplicate":true}'
SPOOLED = b'{"received":true,"spooled":true}'


@pytest.fixture(scope="module")
def running(paths, store):
    """A responder shared by the tests that do not change its state."""
    with FastCGI(paths.responder, store.conninfo) as it:
        it.assert_serving()
        yield it


class Listener:
    """A psycopg2 connection that LISTENs."""

    def __init__(self, store):
        self.connection = store.connect()
        with self.connection.cursor() as cursor:
            cursor.execute("LISTEN humcli_events")
        self.got = []

    def wait(self, condition, within=2):
        """Waits for a payload that fits; returns it, or None after the time."""
        end = time.monotonic() + within
        while True:
            self.connection.poll()
            while self.connection.notifies:
                note = self.connection.notifies.pop(0)
                assert note.channel == "humcli_events"
                self.got.append(note.payload)
            for payload in self.got:
                if condition(payload):
                    return payload
            left = end - time.monotonic()
            if left <= 0:
                return None
            select.select([self.connection], [], [], left)

    def of_task(self, task, within=2):
        return self.wait(lambda p: f'"{task}"' in p, within)


@pytest.fixture
def listener(store):
    it = Listener(store)
    yield it
    it.connection.close()


def settle(responder, listener):
    """Waits until the responder serves, is connected and has no notification to
    send."""
    body = event()
    assert responder.post(body).body == RECEIVED
    assert listener.of_task(task_of(body))
    assert listener.wait(lambda p: p == "{}")


def post_all(responder, bodies, workers=64):
    with concurrent.futures.ThreadPoolExecutor(workers) as pool:
        return list(pool.map(responder.post, bodies))


def connections(store, extra=""):
    return store.query("SELECT pid FROM pg_stat_activity WHERE"
                       " application_name = 'humcli-webhook'"
                       " AND datname = current_database()" + extra)


@contextlib.contextmanager
def task_locked(store, *tasks):
    """Holds the locks of tasks on another connection."""
    connection = store.connect()
    connection.autocommit = False
    try:
        with connection.cursor() as cursor:
            for task in tasks:
                cursor.execute("SELECT pg_advisory_xact_lock(%s, hashtext(%s))",
                               (store.lock_class, task))
        yield connection
    finally:
        connection.close()


def sockets(it):
    """Returns the number of sockets that the responder has open."""
    count = 0
    for fd in os.scandir(f"/proc/{it.pid}/fd"):
        with contextlib.suppress(FileNotFoundError):
            count += os.readlink(fd.path).startswith("socket:")
    return count


def waiting_for_lock(store):
    return store.query("SELECT 1 FROM pg_locks l JOIN pg_stat_activity a"
                       " USING (pid) WHERE locktype = 'advisory'"
                       " AND NOT granted AND a.datname = current_database()")


# Notifications.

def test_notification(running, listener):
    body = event(status="SUBMITTED", previous_status="IN_PROGRESS")
    assert running.post(body).body == RECEIVED
    task = task_of(body)
    payload = listener.of_task(task)
    number = json.loads(payload)["id"]
    assert number.isdigit()
    assert payload == (
        f'{{"id":"{number}","task_id":"{task}","status":"SUBMITTED",'
        '"previous_status":"IN_PROGRESS","first":true,"secret":"main"}')


def test_notification_names_the_row(running, store, listener):
    body = event(previous_status=None, status='a"\\\u00fc\x1f\u2028')
    assert running.post(body).body == RECEIVED
    payload = json.loads(listener.of_task(task_of(body)))
    [(number,)] = store.query("SELECT id::text FROM humcli.events"
                              " WHERE task_id = %s", task_of(body))
    assert payload == {"id": number, "task_id": task_of(body),
                       "status": 'a"\\\u00fc\x1f\u2028',
                       "previous_status": None, "first": True, "secret": "main"}


def test_notification_of_a_status_that_came_before(running, listener):
    task = new_task()
    for minute, first in ((0, True), (30, False)):
        body = event(task_id=task, timestamp=f"2026-03-01T12:{minute:02}:00Z")
        assert running.post(body).body == RECEIVED
        assert listener.wait(lambda p: task in p
                             and json.loads(p)["first"] is first)


def test_notification_too_long_shrinks_to_the_id(running, store, listener):
    """A payload over 1,000 bytes shrinks to the id."""
    task = "t" + "\x01" * 199   # 6 bytes each, escaped
    body = event(task_id=task, timestamp=now_stamp())
    assert running.post(body).body == RECEIVED
    [(number,)] = store.query("SELECT max(id)::text FROM humcli.events"
                              " WHERE task_id = %s", task)
    assert listener.wait(lambda p: json.loads(p) == {"id": number})


def now_stamp():
    """Returns a time that no earlier run or test has used."""
    seconds, us = divmod(time.time_ns() // 1000, 1_000_000)
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds)) \
        + f".{us:06}Z"


def test_no_notification_of_a_duplicate(running, listener):
    body, mark = event(), event()
    assert running.post(body).body == RECEIVED
    assert running.post(body).body == DUPLICATE
    assert running.post(mark).body == RECEIVED
    assert listener.of_task(task_of(mark))
    assert len([p for p in listener.got if task_of(body) in p]) == 1


def test_notification_of_a_promotion(running, store, listener):
    """A repeat that becomes an event, because its visit is split, is
    notified."""
    task = new_task()
    times = {"A1": "12:00:00", "A2": "12:00:10", "B": "12:00:05"}
    sent = [("A1", "S", RECEIVED), ("A2", "S", DUPLICATE),
            ("B", "OTHER", RECEIVED)]
    for key, status, answer in sent:
        assert running.post(event(
            task_id=task, status=status,
            timestamp=f"2026-03-01T{times[key]}Z")).body == answer
    assert eventually(lambda: listener.wait(lambda p: False, 0.01) or len(
        [p for p in listener.got if task in p]) == 3, 2)
    rows = store.query("SELECT id::text, status FROM humcli.events"
                       " WHERE task_id = %s ORDER BY id", task)
    assert [s for _, s in rows].count("S") == 2
    notes = [json.loads(p) for p in listener.got if task in p]
    assert sorted((n["id"], n["status"]) for n in notes) == sorted(rows)


def test_first_batch_on_a_connection_sends_an_empty_one(paths, store,
                                                        listener):
    with FastCGI(paths.responder, store.conninfo) as it:
        settle(it, listener)


def test_cgi_notifies_too(paths, store, listener):
    """CGI notifies in the recording transaction, without a resync."""
    with CGI(paths.responder, store.conninfo) as it:
        body = event()
        assert it.post(body).body == RECEIVED
        assert json.loads(listener.of_task(task_of(body)))["first"] is True
        assert "{}" not in listener.got


def test_notified_after_the_commit(running, store, listener):
    """A listener that is notified sees the row."""
    for _ in range(20):
        body = event()
        with concurrent.futures.ThreadPoolExecutor(1) as pool:
            answer = pool.submit(running.post, body)
            assert listener.of_task(task_of(body))
            assert store.query("SELECT 1 FROM humcli.events"
                               " WHERE task_id = %s", task_of(body))
            assert answer.result().body == RECEIVED


def test_answer_does_not_wait_for_the_notification(paths, store, listener):
    with PostgresProxy(store.socket) as proxy, FastCGI(
            paths.responder, proxy.conninfo(store.login)) as it:
        settle(it, listener)
        proxy.hold_statement(b"notify")
        body = event()
        answer = it.post(body)
        assert answer.body == RECEIVED and answer.seconds < 1
        assert proxy.held.wait(2)
        assert not listener.of_task(task_of(body), 0.1)
        proxy.open()
        assert listener.of_task(task_of(body))


def test_backend_killed_between_record_and_notify(paths, store, listener):
    """A listener is notified within 2 s, without further traffic."""
    with PostgresProxy(store.socket) as proxy, FastCGI(
            paths.responder, proxy.conninfo(store.login)) as it:
        settle(it, listener)
        proxy.hold_statement(b"notify")
        body = event()
        assert it.post(body).body == RECEIVED
        assert proxy.held.wait(2)
        listener.got.clear()
        store.query("SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                    " WHERE application_name = 'humcli-webhook'"
                    " AND datname = current_database()")
        assert eventually(lambda: not connections(store))
        proxy.open()
        assert listener.wait(lambda p: True, 2), it.log()
        it.assert_serving()


def test_backend_killed_right_after_the_answer(paths, store, listener):
    """The event or a resync is notified if the backend dies right after the
    answer."""
    with FastCGI(paths.responder, store.conninfo) as it:
        for _ in range(4):
            body = event()
            assert eventually(lambda: it.post(body).status == 200)
            store.query("SELECT pg_terminate_backend(pid)"
                        " FROM pg_stat_activity"
                        " WHERE application_name = 'humcli-webhook'"
                        " AND datname = current_database()")
            assert listener.wait(lambda p: p == "{}" or task_of(body) in p, 2)
            listener.got.clear()


def test_notify_lock_held_by_another_application(paths, store, listener):
    """Another application's notifying commit hangs. Answers are not delayed,
    the responder's connection not for long. A resync follows after the lock's
    end."""
    with FastCGI(paths.responder, store.dsn(LOCAL_WRITER)) as it:
        settle(it, listener)
        with store.notify_lock():
            for _ in range(3):
                answer = it.post(event())
                assert answer.body == RECEIVED and answer.seconds < 1
            listener.got.clear()
        assert listener.wait(lambda p: True, 2), it.log()


def test_cgi_while_another_holds_the_notify_lock(paths, store):
    """The event is recorded in time, also without its notification."""
    with CGI(paths.responder, store.dsn(LOCAL_WRITER)) as it, \
            store.notify_lock():
        body = event()
        answer = it.post(body)
        assert answer.body == RECEIVED and answer.seconds < 2
        assert store.query("SELECT count(*) FROM humcli.events"
                           " WHERE task_id = %s", task_of(body)) == [(1,)]


# Many at once.

def test_64_at_once(running, store, listener):
    bodies = [event() for _ in range(64)]
    assert {a.body for a in post_all(running, bodies)} == {RECEIVED}
    tasks = [task_of(body) for body in bodies]
    assert store.query("SELECT count(*) FROM humcli.events"
                       " WHERE task_id = ANY(%s)", tasks) == [(64,)]
    for task in tasks:
        assert listener.of_task(task)


def test_same_delivery_200_times_at_once(running, store, listener):
    body = event()
    answers = [a.body for a in post_all(running, [body] * 200)]
    assert sorted(answers) == sorted([RECEIVED] + [DUPLICATE] * 199)
    assert store.query("SELECT count(*) FROM humcli.events"
                       " WHERE task_id = %s", task_of(body)) == [(1,)]


def test_more_clients_than_threads(paths, store):
    with FastCGI(paths.responder, store.conninfo, THREADS="2") as it:
        bodies = [event() for _ in range(40)]
        assert {a.body for a in post_all(it, bodies)} == {RECEIVED}


@contextlib.contextmanager
def held_in_flight(it, store, pool, count):
    """Posts so many events while the database waits for the first one. Yields
    the futures of the answers."""
    first = event()
    with task_locked(store, task_of(first)):
        futures = [pool.submit(it.post, first)]
        assert eventually(lambda: waiting_for_lock(store))
        futures += [pool.submit(it.post, event()) for _ in range(count - 1)]
        yield futures


def test_more_in_flight_than_threads(paths, store):
    """Requests that wait for the database need no thread."""
    with FastCGI(paths.responder, store.conninfo, THREADS="2") as it, \
            concurrent.futures.ThreadPoolExecutor(60) as pool:
        with held_in_flight(it, store, pool, 60) as futures:
            # 2 more are the listening socket and PostgreSQL's.
            assert eventually(lambda: sockets(it) >= 60 + 2, 0.4)
        assert {f.result().body for f in futures} == {RECEIVED}


def test_no_more_in_flight_than_allowed(paths, store):
    with FastCGI(paths.responder, store.conninfo, IN_FLIGHT="10") as it, \
            concurrent.futures.ThreadPoolExecutor(60) as pool:
        with held_in_flight(it, store, pool, 60) as futures:
            assert eventually(lambda: sockets(it) == 10 + 2, 0.4)
            select.select([], [], [], 0.1)
            assert sockets(it) == 10 + 2
        assert {f.result().body for f in futures} == {RECEIVED}


def limited(it, ulimit):
    """Returns a program that starts the responder with a limit."""
    return it.write("limited", f"#!/bin/sh\nulimit {ulimit}\n"
                    f"exec {it.program} \"$@\"\n", 0o700)


def test_soft_limit_of_descriptors_is_raised(paths, store):
    with CGI(paths.responder, store.conninfo) as folder, FastCGI(
            limited(folder, "-S -n 40"), store.conninfo) as it, \
            concurrent.futures.ThreadPoolExecutor(100) as pool:
        with held_in_flight(it, store, pool, 100) as futures:
            assert eventually(lambda: sockets(it) >= 100 + 2, 0.4)
        assert {f.result().body for f in futures} == {RECEIVED}
        assert "limit of open files" not in it.log()


def test_as_many_in_flight_as_descriptors_allow(paths, store):
    """At the limit all events are spooled, which needs three descriptors each,
    and accept() never fails."""
    with CGI(paths.responder, store.conninfo) as folder, Spool() as spool, \
            PostgresProxy(store.socket) as proxy, FastCGI(
                limited(folder, "-n 64"), proxy.conninfo(store.login),
                SPOOL=spool.path, DEADLINE="1s") as it, \
            concurrent.futures.ThreadPoolExecutor(60) as pool:
        assert "limit of open files (64)" in it.log()
        it.assert_serving()
        proxy.freeze()
        answers = list(pool.map(it.post, [event() for _ in range(60)]))
        assert {a.body for a in answers} == {SPOOLED}
        assert "Too many open files" not in it.log()
        proxy.open()


def test_four_processes_at_once(paths, store):
    """Four processes get the same deliveries, and each is recorded once."""
    with contextlib.ExitStack() as stack:
        four = [stack.enter_context(FastCGI(paths.responder, store.conninfo))
                for _ in range(4)]
        bodies = [event() for _ in range(25)]
        with concurrent.futures.ThreadPoolExecutor(64) as pool:
            answers = [[pool.submit(it.post, body) for it in four]
                       for body in bodies]
        for body, futures in zip(bodies, answers):
            assert sorted(f.result().body for f in futures) == sorted(
                [RECEIVED] + [DUPLICATE] * 3)
        assert store.query(
            "SELECT count(*), count(DISTINCT task_id) FROM humcli.events"
            " WHERE task_id = ANY(%s)", [task_of(b) for b in bodies]) \
            == [(25, 25)]
        assert len(connections(store)) <= 4 + 1   # `running` may have one


def test_four_processes_share_a_socket(paths, store):
    """Processes share a socket under lighttpd with max-procs, and during a
    reload."""
    with socket.socket(socket.AF_UNIX) as listener, \
            contextlib.ExitStack() as stack:
        first = stack.enter_context(CGI(paths.responder, store.conninfo))
        listener.bind(first.folder + "/shared")
        listener.listen(1024)
        four = [stack.enter_context(FastCGI(
            paths.responder, store.conninfo, listener=listener))
            for _ in range(4)]
        bodies = [event() for _ in range(60)]
        assert {a.body for a in post_all(four[0], bodies)} == {RECEIVED}
        four[1].stop()
        bodies = [event() for _ in range(20)]
        assert {a.body for a in post_all(four[0], bodies)} == {RECEIVED}


def test_same_delivery_to_16_cgi_processes(paths, store):
    with CGI(paths.responder, store.conninfo) as it:
        body = event()
        answers = [a.body for a in post_all(it, [body] * 16, 16)]
        assert sorted(answers) == sorted([RECEIVED] + [DUPLICATE] * 15)


def test_cgi_with_a_stdout_that_does_not_block(paths, store):
    """The reply waits until there is room for it, and loses no byte."""
    with CGI(paths.responder, store.conninfo) as it:
        body = event()
        ours, theirs = os.pipe()
        os.set_blocking(theirs, False)
        filling = 0
        while True:
            try:
                filling += os.write(theirs, b"x" * 65536)
            except BlockingIOError:
                break
        with tempfile.TemporaryFile() as stdin:
            stdin.write(body)
            stdin.seek(0)
            process = it.start(variables(body=body, changes={
                "HTTP_X_SIGNATURE": sign(body)}), stdin=stdin, stdout=theirs)
        os.close(theirs)
        with open(ours, "rb") as reader:
            assert eventually(lambda: store.query(
                "SELECT 1 FROM humcli.events WHERE task_id = %s", task_of(body)))
            select.select([], [], [], 0.3)
            raw = reader.read()
        assert process.wait(10) == 0
        assert fastcgi.Answer(raw[filling:]).body == RECEIVED


def test_poison_fails_alone(paths, store, listener):
    """One body that only PostgreSQL refuses does not fail the 100 valid events
    of its batch."""
    with FastCGI(paths.responder, store.conninfo, THREADS="128") as it:
        first = event()
        good = [event() for _ in range(100)]
        bad = event()[:-1] + b',"x":01}'
        with concurrent.futures.ThreadPoolExecutor(128) as pool:
            with task_locked(store, task_of(first)):
                # A batch in flight waits, and the others queue behind it.
                pending = pool.submit(it.post, first)
                assert eventually(lambda: waiting_for_lock(store))
                futures = [pool.submit(it.post, b) for b in good[:50]]
                poison = pool.submit(it.post, bad)
                futures += [pool.submit(it.post, b) for b in good[50:]]
                # All are accepted; 2 more are the listening socket and
                # PostgreSQL's.
                assert eventually(lambda: sockets(it) >= 102 + 2, 0.4)
            assert {f.result().body for f in futures} == {RECEIVED}
            assert poison.result().status == 400
            assert pending.result().body == RECEIVED
        [(body, seen)] = store.query("SELECT body, seen FROM"
                                     " humcli.quarantine WHERE signature = %s",
                                     sign(bad))
        assert bytes(body) == bad and seen == 1
        assert store.query("SELECT count(*) FROM humcli.events"
                           " WHERE task_id = ANY(%s)",
                           [task_of(b) for b in good]) == [(100,)]
        for body in good:
            assert listener.of_task(task_of(body))


def test_all_poison(paths, store):
    with FastCGI(paths.responder, store.conninfo) as it:
        bad = [event()[:-1] + b',"x":01}' for _ in range(40)]
        assert {a.status for a in post_all(it, bad)} == {400}
        assert store.query("SELECT count(*) FROM humcli.quarantine WHERE"
                           " signature = ANY(%s) AND seen = 1",
                           [sign(b) for b in bad]) == [(40,)]
        it.assert_serving()


def test_task_lock_held_elsewhere(paths, store):
    """Only the event of the locked task waits and gets 503; others are
    recorded."""
    with FastCGI(paths.responder, store.conninfo, DEADLINE="2s") as it:
        it.assert_serving()
        held = event()
        with task_locked(store, task_of(held)), \
                concurrent.futures.ThreadPoolExecutor(32) as pool:
            pending = pool.submit(it.post, held)
            assert eventually(lambda: waiting_for_lock(store))
            others = list(pool.map(it.post, [event() for _ in range(20)]))
            for answer in others:
                assert answer.body == RECEIVED and answer.seconds < 1.3
            answer = pending.result()
            assert answer.status == 503
            assert answer.header("retry-after") == "30"
            assert answer.seconds < 2.2
        assert store.query("SELECT count(*) FROM humcli.events"
                           " WHERE task_id = %s", task_of(held)) == [(0,)]
        assert it.post(held).body == RECEIVED


def test_task_lock_released_in_time(running, store):
    held = event()
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        with task_locked(store, task_of(held)):
            pending = pool.submit(running.post, held)
            assert eventually(lambda: waiting_for_lock(store))
        assert pending.result().body == RECEIVED


def test_backend_killed_again_and_again_under_load(paths, store):
    """Each event that was answered 200 is recorded once. Other answers are
    503."""
    with FastCGI(paths.responder, store.conninfo) as it:
        over = threading.Event()
        answers = []

        def load():
            while not over.is_set():
                body = event()
                answers.append((task_of(body), it.post(body)))

        with concurrent.futures.ThreadPoolExecutor(8) as pool:
            futures = [pool.submit(load) for _ in range(8)]
            try:
                for _ in range(8):
                    assert eventually(lambda: store.query(
                        "SELECT pg_terminate_backend(pid) FROM"
                        " pg_stat_activity WHERE application_name ="
                        " 'humcli-webhook' AND datname = current_database()"
                        " AND usename = %s", WRITER))
                    reached = len(answers) + 20
                    assert eventually(lambda: len(answers) > reached)
            finally:
                over.set()
            for future in futures:
                future.result()
        taken = [task for task, answer in answers if answer.status == 200]
        assert {answer.status for _, answer in answers} <= {200, 503}
        assert store.query(
            "SELECT count(*), count(DISTINCT task_id) FROM humcli.events"
            " WHERE task_id = ANY(%s)", taken) == [(len(taken), len(taken))]
        assert len(taken) >= 160


def test_set_up_wrongly(paths, store):
    """With a part of the schema or a right missing, the answer is 503 at once,
    and an error in the log names it."""
    store.query("DROP ROLE IF EXISTS test_stranger")
    store.query("CREATE ROLE test_stranger LOGIN")
    faults = {store.cluster.dsn("postgres"): "humcli",
              store.dsn("test_stranger"): "humcli",
              store.cluster.dsn("nosuchdatabase"): "nosuchdatabase",
              store.dsn("nosuchrole"): "nosuchrole"}

    def serve(dsn):
        with FastCGI(paths.responder, dsn, DEADLINE="1s") as it:
            answer = it.post(event())
            assert eventually(lambda: any(
                "level=error" in line and faults[dsn] in line
                for line in it.log().splitlines())), it.log()
            return answer

    with concurrent.futures.ThreadPoolExecutor() as pool:
        for answer in pool.map(serve, faults):
            assert answer.status == 503 and answer.seconds < 1.2
            assert answer.header("retry-after") == "30"
    store.query("DROP ROLE test_stranger")


# Deadlines.

def test_deadlines_at_their_default(paths, store):
    """The deadline is 3 s after the end of the body, and at most 4.5 s after
    accept, so that a slow body leaves less time."""
    with PostgresProxy(store.socket) as proxy, FastCGI(
            paths.responder, proxy.conninfo(store.login)) as it, \
            concurrent.futures.ThreadPoolExecutor(1) as pool:
        proxy.freeze()
        prompt = pool.submit(it.post, event())
        body = event()
        params = variables(body=body,
                           changes={"HTTP_X_SIGNATURE": sign(body)})
        with it.connect() as connection:
            start = time.monotonic()
            connection.send(fastcgi.head(params.items())
                            + fastcgi.record(fastcgi.STDIN, body[:30]))
            for i in range(30, 60):     # 3 s, without a second of silence
                assert not select.select([connection.socket], [], [], 0.1)[0]
                connection.send(fastcgi.record(fastcgi.STDIN, body[i:i + 1]))
            connection.send(fastcgi.record(fastcgi.STDIN, body[60:])
                            + fastcgi.record(fastcgi.STDIN))
            answer = connection.answer()
            assert answer.status == 503
            assert time.monotonic() - start < 4.6
        answer = prompt.result()
        assert answer.status == 503 and 2 < answer.seconds < 3.2
        proxy.open()


def test_health_does_not_queue_behind_a_batch(paths, store):
    with FastCGI(paths.responder, store.conninfo) as it:
        it.assert_serving()
        held = event()
        with concurrent.futures.ThreadPoolExecutor(1) as pool:
            with task_locked(store, task_of(held)):
                pending = pool.submit(it.post, held)
                assert eventually(lambda: waiting_for_lock(store))
                answer = it.get("/health")
                assert answer.body == b'{"status":"ok"}'
                assert answer.seconds < 0.2
            assert pending.result().body == RECEIVED


# Settings.

def test_redelivery_window(paths, store):
    with FastCGI(paths.responder, store.conninfo,
                 REDELIVERY_WINDOW="2s") as it:
        task = new_task()
        for second, answer in ((0, RECEIVED), (2, DUPLICATE), (5, RECEIVED)):
            assert it.post(event(
                task_id=task, timestamp=f"2026-03-01T12:00:0{second}Z"
                )).body == answer


def test_redelivery_window_at_its_default(running):
    task = new_task()
    for minute, answer in ((0, RECEIVED), (10, DUPLICATE), (21, RECEIVED)):
        assert running.post(event(
            task_id=task, timestamp=f"2026-03-01T12:{minute:02}:00Z"
            )).body == answer


def test_max_body(paths, store):
    with FastCGI(paths.responder, store.conninfo, MAX_BODY="1KiB") as it:
        assert it.post(event(x="x" * 700)).status == 200
        assert it.post(event(x="x" * 1024)).status == 413


def test_idle_disconnect(paths, store):
    """The responder closes an idle connection and opens one for the next
    event."""
    with FastCGI(paths.responder, store.conninfo,
                 IDLE_DISCONNECT="1s", DATABASE=store.conninfo
                 + " application_name=idle-test") as it:
        it.assert_serving()
        assert eventually(lambda: not store.query(
            "SELECT 1 FROM pg_stat_activity WHERE application_name ="
            " 'idle-test'"), 3)
        it.assert_serving()


def test_refused_requests_open_no_connection(paths, store):
    """CGI connects when there is an event, and not for a forged one."""
    with PostgresProxy(store.socket) as proxy, CGI(
            paths.responder, proxy.conninfo(store.login)) as it:
        assert it.post(event(), "whsec_wrong").status == 401
        assert it.post(b"x" * 70000).status == 413
        assert proxy.accepted == 0
        it.assert_serving()
        assert proxy.accepted == 1


def test_one_connection_a_process(paths, store):
    with PostgresProxy(store.socket) as proxy, FastCGI(
            paths.responder, proxy.conninfo(store.login)) as it:
        bodies = [event() for _ in range(300)]
        assert {a.body for a in post_all(it, bodies)} == {RECEIVED}
        assert proxy.accepted == 1


def test_logs_in_as_a_writer_alone(running, store):
    """The role of these tests has no right except those of a writer."""
    with contextlib.closing(psycopg2.connect(store.conninfo)) as connection:
        for statement in ("SELECT * FROM humcli.events",
                          "INSERT INTO humcli.quarantine DEFAULT VALUES",
                          "DELETE FROM humcli.repeats"):
            with connection.cursor() as cursor, \
                    pytest.raises(psycopg2.errors.InsufficientPrivilege):
                cursor.execute(statement)
            connection.rollback()


# Changes of secrets.

def test_secret_added_and_removed(paths, store):
    with FastCGI(paths.responder, store.conninfo) as it:
        assert it.post(event(), "whsec_new").status == 401
        it.add_secret("new", "whsec_new")
        assert eventually(lambda: it.post(event(), "whsec_new").status == 200,
                          1)
        assert it.post(event()).status == 200
        it.remove_secret("main")
        assert eventually(lambda: it.post(event()).status == 401, 1)
        assert it.post(event(), "whsec_new").status == 200
        it.add_secret("new", "whsec_changed")
        assert eventually(
            lambda: it.post(event(), "whsec_new").status == 401, 1)
        assert it.post(event(), "whsec_changed").status == 200
        it.remove_secret("new")
        assert eventually(
            lambda: it.post(event(), "whsec_changed").status == 401, 1)
        it.add_secret("main", SECRET)
        assert eventually(lambda: it.post(event()).status == 200, 1)


def test_secret_written_in_place(paths, store):
    """A secret is written twice within a second with the same length."""
    with FastCGI(paths.responder, store.conninfo) as it:
        path = os.path.join(it.secret_dir, "main")
        for secret in ("whsec_1111111111111111", "whsec_2222222222222222",
                       "whsec_3333333333333333"):
            with open(path, "r+", encoding="ascii") as file:
                file.write(secret)
            assert eventually(lambda: it.post(event(), secret).status == 200,
                              1)
            assert it.post(event()).status == 401


def test_secret_that_others_can_read_appears(paths, store):
    """Only this secret is ignored. The log has it once, with the chmod that
    fixes it."""
    with FastCGI(paths.responder, store.conninfo) as it:
        it.add_secret("open", "whsec_open", mode=0o644)
        assert eventually(lambda: it.post(event()).status == 200
                          and "chmod" in it.log(), 1)
        assert it.post(event(), "whsec_open").status == 401
        assert it.post(event()).status == 200
        os.chmod(os.path.join(it.secret_dir, "open"), 0o600)
        assert eventually(lambda: it.post(event(), "whsec_open").status
                          == 200, 1)


def test_kubernetes_secret_volume(paths, store):
    """..data is a symlink to a folder and is replaced by rename. The files are
    symlinks through ..data. Names with a leading dot are no secrets."""
    with FastCGI(paths.responder, store.conninfo) as it:
        def generation(name, secret):
            folder = os.path.join(it.secret_dir, name)
            os.mkdir(folder, 0o700)
            chown_to_test_user(folder)
            os.rename(it.write("secret", secret),
                      os.path.join(folder, "hook"))
            link = os.path.join(it.secret_dir, "..data_tmp")
            os.symlink(name, link)
            os.rename(link, os.path.join(it.secret_dir, "..data"))

        generation("..2026_01", "whsec_first")
        os.symlink("..data/hook", os.path.join(it.secret_dir, "hook"))
        assert eventually(
            lambda: it.post(event(), "whsec_first").status == 200, 1)
        generation("..2026_02", "whsec_second")
        assert eventually(
            lambda: it.post(event(), "whsec_second").status == 200, 1)
        assert it.post(event(), "whsec_first").status == 401


# --listen.

@pytest.fixture
def folder():
    with tempfile.TemporaryDirectory(prefix="humcli-", dir="/tmp") as path:
        chown_to_test_user(path)
        yield path


def test_listen_on_a_path(paths, store, folder):
    path = folder + "/sock"
    with FastCGI(paths.responder, store.conninfo, where=path) as it:
        assert stat.S_IMODE(os.stat(path).st_mode) == 0o660
        it.assert_serving()
    assert not os.path.exists(path)


def test_listen_replaces_a_dead_socket(paths, store, folder):
    path = folder + "/sock"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(path)
        chown_to_test_user(path)
    with FastCGI(paths.responder, store.conninfo, where=path) as it:
        it.assert_serving()


def refuses_to_listen(paths, store, where):
    with CGI(paths.responder, store.conninfo) as it:
        process = it.spawn("--listen", where, stdin=subprocess.DEVNULL,
                           stdout=subprocess.DEVNULL)
        try:
            assert process.wait(5) != 0
        finally:
            process.kill()
        return it.log() + it.read(it.stderr_file)


def test_listen_does_not_steal_a_live_socket(paths, store, folder):
    path = folder + "/sock"
    with FastCGI(paths.responder, store.conninfo, where=path) as it:
        assert path in refuses_to_listen(paths, store, path)
        it.assert_serving()


def test_listen_leaves_the_socket_of_another(paths, store, folder):
    """The path was removed, and the next process has it: the end of the first
    one must not take it away."""
    path = folder + "/sock"
    with FastCGI(paths.responder, store.conninfo, where=path) as first:
        os.unlink(path)
        with FastCGI(paths.responder, store.conninfo, where=path) as second:
            first.stop()
            second.assert_serving()
    assert not os.path.exists(path)


def test_listen_does_not_replace_a_file(paths, store, folder):
    path = folder + "/precious"
    with open(path, "w", encoding="ascii") as file:
        file.write("data")
    chown_to_test_user(path)
    assert path in refuses_to_listen(paths, store, path)
    with open(path, encoding="ascii") as file:
        assert file.read() == "data"


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def test_listen_on_a_port_is_loopback(paths, store):
    port = free_port()
    with FastCGI(paths.responder, store.conninfo, where=f":{port}") as it:
        it.assert_serving()
        with open("/proc/net/tcp", encoding="ascii") as file:
            bound = [line.split()[1] for line in file
                     if line.split()[3] == "0A"]
        assert f"0100007F:{port:04X}" in bound
        assert f"00000000:{port:04X}" not in bound
        assert {a.body for a in post_all(it, [event() for _ in range(30)])} \
            == {RECEIVED}


@pytest.mark.parametrize("where", [
    ":0", ":65536", ":-1", ":x", ":", "", "relative/no/such/folder/sock",
    "/no/such/folder/sock", "/" + "x" * 200])
def test_listen_where_it_can_not(paths, store, where):
    assert refuses_to_listen(paths, store, where)


@pytest.mark.parametrize("where, advice", [
    ("8080", ":8080"), ("9", ":9"),
    ("localhost:8080", "127.0.0.1:8080"), (":70000", "1 to 65535"),
    ("0.0.0.0.0:9000", "0.0.0.0:9000"),
    ("/no/such/folder/sock", "mkdir -p /no/such/folder"),
    ("/proc/sock", "/proc")])
def test_listen_says_what_to_do(paths, store, where, advice):
    said = refuses_to_listen(paths, store, where)
    assert advice in said, said
    assert not os.path.exists("/8080")


def test_listen_in_a_folder_of_others(paths, store, folder):
    os.chmod(folder, 0o555)
    if os.getuid() == 0:
        os.chown(folder, 0, 0)
    said = refuses_to_listen(paths, store, folder + "/sock")
    assert "Permission denied" in said and f"write to {folder}" in said


@pytest.mark.parametrize("where, warned", [("127.0.0.1:{}", False), (":{}", False),
                                           ("0.0.0.0:{}", True)])
def test_listen_where_others_reach_it(paths, store, where, warned):
    """Others could forge headers, though not a signature."""
    where = where.format(free_port())
    with CGI(paths.responder, store.conninfo) as it:
        process = it.spawn("--listen", where, stdin=subprocess.DEVNULL,
                           stdout=subprocess.DEVNULL)
        try:
            assert eventually(lambda: "serves FastCGI" in it.log())
            assert ("others can reach" in it.log()) == warned
        finally:
            process.terminate()
        assert process.wait(5) == 0


@pytest.mark.skipif(os.getuid() != 0, reason="needs root")
def test_warns_when_started_as_root(paths, store, folder):
    with CGI(paths.responder, store.conninfo) as it, \
            subprocess.Popen([paths.responder, "--listen", folder + "/sock"],
                             env=it.environment(), stdin=subprocess.DEVNULL,
                             stderr=subprocess.DEVNULL) as process:
        assert eventually(lambda: "serves FastCGI" in it.log())
        assert "running as root" in it.log()
        process.terminate()
        assert process.wait(5) == 0
    with FastCGI(paths.responder, store.conninfo) as it:
        assert "running as root" not in it.log()


def test_says_when_it_has_ended(paths, store):
    with FastCGI(paths.responder, store.conninfo) as it:
        it.assert_serving()
        it.stop()
        assert 'msg="ended' in it.log().splitlines()[-1]


# The end.

@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT,
                                    signal.SIGUSR1])
def test_one_signal_ends_all_threads(paths, store, number):
    with FastCGI(paths.responder, store.conninfo) as it:
        post_all(it, [event() for _ in range(64)])
        assert it.stop(number) < 1


def test_ends_before_the_first_request(paths, store):
    with FastCGI(paths.responder, store.conninfo) as it:
        assert it.stop() < 1


def test_other_signals_do_not_end_it(running):
    for number in (signal.SIGPIPE, signal.SIGWINCH):
        running.process.send_signal(number)
        running.assert_serving()


def test_ends_with_silent_connections(paths, store):
    """Silent connections do not delay the end. libfcgi's own accept loop would
    use all of a processor here."""
    with FastCGI(paths.responder, store.conninfo) as it:
        it.assert_serving()
        with it.connect(), it.connect() as half, it.connect() as params:
            half.send(fastcgi.begin()[:5])
            params.send(fastcgi.begin()
                        + fastcgi.record(fastcgi.PARAMS, b"\x05")[:9])
            it.assert_serving()
            assert it.stop() < 5


def test_ends_with_a_body_half_read(paths, store):
    """A request whose body ends after the signal is answered."""
    with FastCGI(paths.responder, store.conninfo) as it, \
            it.connect() as connection:
        body = event()
        connection.send(fastcgi.head(variables(body=body, changes={
            "HTTP_X_SIGNATURE": sign(body)}).items())
            + fastcgi.record(fastcgi.STDIN, body[:20]))
        it.assert_serving()
        start = time.monotonic()
        it.process.send_signal(signal.SIGTERM)
        assert not select.select([connection.socket], [], [], 0.2)[0]
        connection.send(fastcgi.record(fastcgi.STDIN, body[20:])
                        + fastcgi.record(fastcgi.STDIN))
        assert connection.answer().body == RECEIVED
        assert it.wait_end(start) < 5


def test_answers_what_is_in_flight_and_in_the_backlog(paths, store):
    """2 requests in flight and 3 in the backlog are answered."""
    with FastCGI(paths.responder, store.conninfo, THREADS="2") as it, \
            contextlib.ExitStack() as stack:
        it.assert_serving()
        bodies = [event() for _ in range(5)]
        whole = [fastcgi.whole(variables(body=b, changes={
            "HTTP_X_SIGNATURE": sign(b)}).items(), b) for b in bodies]
        five = [stack.enter_context(it.connect()) for _ in bodies]
        for connection, data in zip(five[:2], whole):
            connection.send(data[:-50])
        for connection, data in zip(five[2:], whole[2:]):
            connection.send(data)
        # Both threads are busy, so the others stay in the backlog.
        assert not select.select([c.socket for c in five], [], [], 0.2)[0]
        start = time.monotonic()
        it.process.send_signal(signal.SIGTERM)
        for connection, data in zip(five[:2], whole):
            connection.send(data[-50:])
        for connection in five:
            assert connection.answer().body == RECEIVED
        assert it.wait_end(start) < 5
        assert store.query("SELECT count(*) FROM humcli.events"
                           " WHERE task_id = ANY(%s)",
                           [task_of(b) for b in bodies]) == [(5,)]


class Hanging(FastCGI):
    """A responder for which paths with "hang" in them do not answer."""

    def __init__(self, folder, *arguments, **others):
        self.preload = {"LD_PRELOAD": self.build(folder)}
        super().__init__(*arguments, **others)

    @staticmethod
    def build(folder):
        library = os.path.join(folder, "library.so")
        source = os.path.join(os.path.dirname(fastcgi.__file__), "hang.c")
        subprocess.run(["cc", "-shared", "-fPIC", "-o", library, source], check=True)
        os.chmod(folder, 0o755)
        return library

    def environment(self):
        return {**super().environment(), **self.preload}


def sanitized(program):
    with open(program, "rb") as file:
        text = file.read()
    return b"__asan_init" in text or b"__tsan_init" in text


def sleeps(process):
    """Returns true if the process has a handler for SIGTERM and sleeps."""
    with open(f"/proc/{process.pid}/wchan", encoding="ascii") as file:
        return "nanosleep" in file.read()


def test_ends_although_the_folder_of_the_socket_is_dead(paths, store):
    """The removal of the socket does not return. What is in flight is answered,
    and the process ends in order."""
    if sanitized(paths.responder):
        pytest.skip("a sanitizer wants to be loaded first")
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        os.mkdir(folder + "/hang")
        chown_to_test_user(folder + "/hang")
        with Hanging(folder, paths.responder, store.conninfo,
                     where=folder + "/hang/socket") as it:
            it.assert_serving()
            assert it.stop() < 5
            assert "ended; all requests were answered" in it.log()


def test_ends_although_the_start_is_stuck(paths, store):
    """The file of a secret has gone away: opening it does not return."""
    if sanitized(paths.responder):
        pytest.skip("a sanitizer wants to be loaded first")
    with tempfile.TemporaryDirectory(dir="/tmp") as folder, \
            CGI(paths.responder, store.conninfo) as it:
        it.settings["SECRET_FILE"] = folder + "/hang"
        with open(folder + "/hang", "w", encoding="ascii") as file:
            file.write(SECRET)
        os.chmod(folder + "/hang", 0o600)
        chown_to_test_user(folder + "/hang")
        library = Hanging.build(folder)
        process = it.spawn("--listen", it.folder + "/socket",
                           env={**it.environment(), "LD_PRELOAD": library},
                           stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
        assert eventually(lambda: sleeps(process))
        process.send_signal(signal.SIGTERM)
        assert process.wait(5) == 0


def test_answers_what_waits_for_the_database(paths, store):
    """A batch in flight at the signal is committed and answered."""
    with FastCGI(paths.responder, store.conninfo) as it:
        it.assert_serving()
        held = event()
        with concurrent.futures.ThreadPoolExecutor(1) as pool:
            with task_locked(store, task_of(held)):
                pending = pool.submit(it.post, held)
                assert eventually(lambda: waiting_for_lock(store))
                start = time.monotonic()
                it.process.send_signal(signal.SIGTERM)
            assert pending.result().body == RECEIVED
        assert it.wait_end(start) < 5


@pytest.mark.parametrize("where", ["inherited", "port"])
def test_new_connections_while_it_ends(paths, store, where):
    """New connections are accepted at the end while a request waits for the
    database."""
    with PostgresProxy(store.socket) as proxy, Spool() as spool, FastCGI(
            paths.responder, proxy.conninfo(store.login), SPOOL=spool.path,
            where=f":{free_port()}" if where == "port" else None) as it, \
            concurrent.futures.ThreadPoolExecutor(2) as pool:
        it.assert_serving()
        proxy.freeze()
        first = pool.submit(it.post, event())
        assert eventually(lambda: has_request(it))
        start = time.monotonic()
        it.process.send_signal(signal.SIGTERM)
        # The responder has polled the socket and found no connection.
        assert eventually(lambda: "finishing requests in flight" in it.log())
        assert not concurrent.futures.wait([first], 0.1).done
        second = pool.submit(it.post, event())
        assert first.result().body == second.result().body == SPOOLED
        assert it.wait_end(start) < 5


def test_ends_under_constant_load(paths, store):
    """The backlog is served for a limited time."""
    with FastCGI(paths.responder, store.conninfo) as it:
        it.assert_serving()
        over = threading.Event()
        faults = []

        def load():
            while not over.is_set():
                try:
                    answer = it.post(event())
                    if answer.body != RECEIVED:
                        faults.append(answer)
                except (OSError, fastcgi.Broken):
                    return

        threads = [threading.Thread(target=load) for _ in range(8)]
        for thread in threads:
            thread.start()
        try:
            assert it.stop() < 5
        finally:
            over.set()
            for thread in threads:
                thread.join()
        assert not faults


def test_ends_with_postgresql_frozen(paths, store, listener):
    """The responder ends in time with PostgreSQL frozen: while it is idle,
    while a request waits, and while it connects."""
    with contextlib.ExitStack() as stack:
        proxy = stack.enter_context(PostgresProxy(store.socket))
        pool = stack.enter_context(concurrent.futures.ThreadPoolExecutor())
        idle, busy = [stack.enter_context(FastCGI(
            paths.responder, f"{store.conninfo} application_name={name}",
            DEADLINE="10s")) for name in ("frozen-idle", "frozen-busy")]
        connecting = stack.enter_context(FastCGI(
            paths.responder, proxy.conninfo(store.login), DEADLINE="10s"))
        for it in (idle, busy):
            settle(it, listener)
            listener.got.clear()
        proxy.freeze()
        frozen = [pid for pid, in store.query(
            "SELECT pid FROM pg_stat_activity"
            " WHERE application_name IN ('frozen-idle', 'frozen-busy')")]
        assert len(frozen) == 2
        for pid in frozen:
            os.kill(pid, signal.SIGSTOP)
            stack.callback(os.kill, pid, signal.SIGCONT)
        pending = [pool.submit(it.post, event()) for it in (busy, connecting)]
        assert eventually(lambda: has_request(busy) and proxy.accepted)
        ends = [pool.submit(it.stop) for it in (idle, busy, connecting)]
        for end in ends:
            assert end.result() < 5
        for answer in pending:
            assert answer.result().status == 503
    assert eventually(lambda: not store.query(
        "SELECT 1 FROM pg_stat_activity WHERE application_name"
        " IN ('frozen-idle', 'frozen-busy')"))


def has_request(it):
    """Returns true if a client is connected. The other two sockets are the
    listening one and the connection to the database."""
    return sockets(it) >= 3
