"""The connections, threads and memory of the responder on a shared host."""

import concurrent.futures
import contextlib
import os
import re
import subprocess
import tempfile

import pytest

from harness import fastcgi
from harness.postgres_proxy import PostgresProxy
from harness.responder import CGI, FastCGI, event, eventually, sign, task_of, variables
from harness.spool import Spool

RECEIVED = b'{"received":true}'
SPOOLED = b'{"received":true,"spooled":true}'
MB = 1 << 20


@pytest.fixture(name="spool")
def _spool():
    with Spool() as it:
        yield it


def connections(store):
    return [pid for pid, in store.query(
        "SELECT pid FROM pg_stat_activity WHERE application_name = 'humcli-webhook'"
        " AND datname = current_database()")]


def proc(it, name, key):
    """Returns a number of /proc/PID/NAME, in bytes."""
    with open(f"/proc/{it.pid}/{name}", encoding="ascii") as file:
        return int(re.search(rf"^{key}:\s+(\d+) kB$", file.read(), re.MULTILINE)[1]) * 1024


def private_dirty(it):
    return proc(it, "smaps_rollup", "Private_Dirty")


def address_space(it):
    return proc(it, "status", "VmSize")


def threads(it):
    return len(os.listdir(f"/proc/{it.pid}/task"))


def sanitized(program):
    """Returns true if the program has a sanitizer, which uses memory itself."""
    with open(program, "rb") as file:
        text = file.read()
    return b"__asan_init" in text or b"__tsan_init" in text


def sized(size):
    """Returns an event of that many bytes."""
    head = event()[:-1] + b',"note":"'
    return head + b"x" * (size - len(head) - 2) + b'"}'


@contextlib.contextmanager
def in_flight(it, count, size=None):
    """Sends that many requests without their last 20 bytes. Yields the bodies
    and a function that sends the rest and returns the answers."""
    bodies = [event() if size is None else sized(size) for _ in range(count)]
    with contextlib.ExitStack() as stack:
        them = []
        for body in bodies:
            connection = stack.enter_context(it.connect())
            whole = fastcgi.whole(variables(body=body, changes={
                "HTTP_X_SIGNATURE": sign(body)}).items(), body)
            connection.send(whole[:-20])
            them.append((connection, whole[-20:]))

        def finish():
            for connection, rest in them:
                connection.send(rest)
            return [connection.answer().body for connection, _ in them]

        # Each request is read by a thread.
        assert eventually(lambda: threads(it) >= min(count, int(
            it.settings.get("THREADS", 64))))
        yield bodies, finish


# Connections.

def test_idle_disconnect(paths, store, spool):
    """The connection to the database is closed after IDLE_DISCONNECT, and
    opened again for the next event."""
    with FastCGI(paths.responder, store.conninfo, SPOOL=spool.path, IDLE_DISCONNECT="1s") as it:
        # those of the test before may still be ending
        assert eventually(lambda: not connections(store))
        for _ in range(2):
            it.assert_serving()
            first = connections(store)
            assert len(first) == 1
            # Traffic keeps the connection open.
            end = []
            assert eventually(lambda: it.post(event()).body == RECEIVED
                              and (end.append(1) or len(end) > 60), 10)
            assert connections(store) == first
            assert eventually(lambda: not connections(store), 3)


def test_connects_at_the_start(paths, store, spool):
    """The first event waits neither for a connection nor for plans."""
    with PostgresProxy(store.socket) as proxy:
        with FastCGI(paths.responder, proxy.conninfo(store.login), SPOOL=spool.path) as it:
            assert eventually(lambda: proxy.accepted == 1)
            assert eventually(lambda: connections(store))
            it.assert_serving()
            assert proxy.accepted == 1
        # CGI connects when there is an event.
        with CGI(paths.responder, proxy.conninfo(store.login), SPOOL=spool.path) as it:
            assert it.get("").status == 405
            assert proxy.accepted == 1


def test_starts_without_the_database(paths, store, spool):
    """The attempt at the start fails, and the first event tries again."""
    with PostgresProxy(store.socket) as proxy:
        proxy.refuse()
        with FastCGI(paths.responder, proxy.conninfo(store.login), SPOOL=spool.path) as it:
            assert eventually(lambda: "can't connect to the database" in it.log())
            proxy.open()
            assert eventually(lambda: it.post(event()).body == RECEIVED, 3)


def test_idle_keeps_it_otherwise(paths, store, spool):
    """The default is 60 s: the connection is still open after 2.5 s."""
    with FastCGI(paths.responder, store.conninfo, SPOOL=spool.path) as it:
        it.assert_serving()
        first = connections(store)
        assert not eventually(lambda: connections(store) != first, 2.5)


def test_one_connection(paths, store, spool):
    """Requests in flight, the drainer and /health share one connection."""
    spool.make()
    for _ in range(300):
        spool.put(event())
    with PostgresProxy(store.socket) as proxy, FastCGI(
            paths.responder, proxy.conninfo(store.login), SPOOL=spool.path) as it:
        with in_flight(it, 64) as (bodies, finish):
            assert set(finish()) == {RECEIVED}
        assert it.get().status == 200
        assert eventually(lambda: not spool.waiting, 10)
        assert proxy.accepted == 1
        assert len(connections(store)) == 1


# Threads.

def test_one_thread(paths, store, spool):
    """With THREADS=1, events are recorded or spooled one at a time."""
    with PostgresProxy(store.socket) as proxy, FastCGI(
            paths.responder, proxy.conninfo(store.login), SPOOL=spool.path, THREADS="1",
            DEADLINE="1s") as it:
        # main, log, writer, drainer and one worker
        assert threads(it) == 5
        with contextlib.ExitStack() as stack:
            bodies = [event() for _ in range(20)]
            them = [stack.enter_context(it.connect()) for _ in bodies]
            for connection, body in zip(them, bodies):
                connection.send(fastcgi.whole(variables(body=body, changes={
                    "HTTP_X_SIGNATURE": sign(body)}).items(), body))
            assert {connection.answer().body for connection in them} == {RECEIVED}
        proxy.refuse()
        spooled = [event() for _ in range(5)]
        answers = [it.post(body) for body in spooled]
        assert {a.status for a in answers} == {200} and max(a.seconds for a in answers) < 1.2
        proxy.open()
        assert eventually(lambda: it.post(event()).body == RECEIVED, 2)
        assert eventually(lambda: not spool.waiting, 3)
        assert threads(it) == 5
        everything = bodies + spooled
        assert store.query("SELECT count(*) FROM humcli.events WHERE task_id = ANY(%s)",
                           [task_of(body) for body in everything]) == [(len(everything),)]


def test_threads_as_needed(paths, store):
    with FastCGI(paths.responder, store.conninfo) as it:
        for _ in range(20):
            it.assert_serving()
        # A connection may still be closing when the next one arrives.
        few = threads(it)
        assert few < 10
        with in_flight(it, 64) as (_, finish):
            # main, log and writer; without a spool there is no drainer
            assert eventually(lambda: threads(it) == 64 + 3)
            assert set(finish()) == {RECEIVED}
        assert threads(it) == 64 + 3


class Short(FastCGI):
    """A responder that can start at most that many threads."""

    def __init__(self, library, count, *arguments, **others):
        self.preload = {"LD_PRELOAD": library, "THREAD_LIMIT": str(count)}
        super().__init__(*arguments, **others)

    def environment(self):
        return {**super().environment(), **self.preload}


class ShortCGI(CGI):
    """The same for CGI."""

    def __init__(self, library, count, *arguments, **others):
        self.preload = {"LD_PRELOAD": library, "THREAD_LIMIT": str(count)}
        super().__init__(*arguments, **others)

    def environment(self):
        return {**super().environment(), **self.preload}


@pytest.fixture(name="limit_threads", scope="session")
def _limit_threads():
    source = os.path.join(os.path.dirname(fastcgi.__file__), "limit_threads.c")
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        library = os.path.join(folder, "limit_threads.so")
        subprocess.run(["cc", "-shared", "-fPIC", "-o", library, source], check=True)
        os.chmod(folder, 0o755)
        yield library


@pytest.mark.parametrize("with_spool", [True, False])
def test_cgi_without_threads(paths, store, spool, limit_threads, with_spool):
    """If no thread can be started, the main thread spools the event, or the
    process answers 503 itself."""
    if sanitized(paths.responder):
        pytest.skip("a sanitizer wants to be loaded first")
    with ShortCGI(limit_threads, 0, paths.responder, store.conninfo,
                  SPOOL=spool.path if with_spool else "") as it:
        answer = it.post(event())
        assert answer.seconds < 2
        if with_spool:
            assert answer.body == SPOOLED and len(spool.waiting) == 1
            assert it.get("/health").body == b'{"status":"degraded"}'
        else:
            assert answer.status == 503 and answer.header("retry-after") == "30"
            assert it.get("/health").status == 503
        assert it.post(event(), signature="0" * 64).status == 401
        assert "can't start the writer's thread" in it.log()


def test_cgi_with_one_thread(paths, store, limit_threads):
    """The one thread is the writer's; the log does without."""
    if sanitized(paths.responder):
        pytest.skip("a sanitizer wants to be loaded first")
    with ShortCGI(limit_threads, 1, paths.responder, store.conninfo) as it:
        body = event()
        assert it.post(body).body == RECEIVED
        assert task_of(body) in it.log()


def test_fastcgi_without_threads(paths, store, limit_threads):
    """Without a writer or a worker it does not start, and says why."""
    if sanitized(paths.responder):
        pytest.skip("a sanitizer wants to be loaded first")
    for count in range(3):
        with ShortCGI(limit_threads, count, paths.responder, store.conninfo) as it:
            process = it.spawn("--listen", it.folder + "/socket", stdin=subprocess.DEVNULL,
                               stdout=subprocess.DEVNULL)
            assert process.wait(10) == 71
            assert "can't start" in it.log()


@pytest.mark.parametrize("workers", [1, 2])
def test_slow_senders_when_threads_are_short(paths, store, spool, limit_threads, workers):
    """With few threads, one of them still answers overdue requests."""
    if sanitized(paths.responder):
        pytest.skip("a sanitizer wants to be loaded first")
    with PostgresProxy(store.socket) as proxy, Short(
            limit_threads, 3 + workers, paths.responder, proxy.conninfo(store.login),
            SPOOL=spool.path) as it, contextlib.ExitStack() as stack, \
            concurrent.futures.ThreadPoolExecutor(1) as pool:
        it.assert_serving()
        proxy.freeze()
        waiting = pool.submit(it.post, event())
        # wait until shortly before its deadline, then send as many as there are
        # threads
        assert not concurrent.futures.wait([waiting], 2.2).done
        for _ in range(workers):
            connection = stack.enter_context(it.connect())
            connection.send(fastcgi.head(variables(body=event()).items()))
        answer = waiting.result()
        assert answer.body == SPOOLED and answer.seconds < 3
        assert threads(it) == 4 + workers
        assert f"can't start more than {workers} of" in it.log()
        proxy.open()


# Memory.

@pytest.fixture(name="measured")
def _measured(paths, store, spool):
    with FastCGI(paths.responder, store.dsn("test_writer", tcp=True), SPOOL=spool.path) as it:
        if sanitized(it.program):
            pytest.skip("a sanitizer's own memory")
        yield it


def test_memory_idle(measured):
    measured.assert_serving()
    used = private_dirty(measured)
    print(f"Private_Dirty {used / MB:.1f} MB, VmSize {address_space(measured) / MB:.0f} MB")
    assert used < 4 * MB


@pytest.mark.parametrize("size, peak", [(None, 16), (64 * 1024, 32)],
                         ids=["usual", "largest"])
def test_memory_at_work(measured, size, peak):
    """
    The memory with 64 requests in flight, and after they are recorded at once.
    The allocator does not return all of it, so the peak shows afterwards. The
    largest events have 4 MiB together. For a moment each of them exists as a
    request, as a delivery, as a parameter and in libpq's buffer.
    """
    with in_flight(measured, 64, size) as (bodies, finish):
        used_in_flight = private_dirty(measured)
        # Under pressure, events that are slow to record are spooled.
        assert set(finish()) <= {RECEIVED, SPOOLED}
    after = private_dirty(measured)
    space = address_space(measured)
    print(f"Private_Dirty {used_in_flight / MB:.1f} MB with 64 in flight,"
          f" {after / MB:.1f} MB after; VmSize {space / MB:.0f} MB")
    assert used_in_flight < 16 * MB and after < peak * MB
    assert space < 200 * MB


def test_memory_does_not_grow(measured):
    """Memory grows neither with traffic nor with refused requests."""
    def rounds(count):
        for _ in range(count):
            with in_flight(measured, 64) as (_, finish):
                assert set(finish()) == {RECEIVED}
            for _ in range(10):
                assert measured.post(event(), signature="0" * 64).status == 401
                assert measured.post(event()[:-1]).status == 400
        return private_dirty(measured)

    before = rounds(5)
    after = rounds(15)
    print(f"{before / MB:.2f} MB, then {after / MB:.2f} MB")
    assert after < before + MB


def test_connection_of_a_silent_client(measured):
    """A silent connection is closed after 4 s, and its thread is free again."""
    with contextlib.ExitStack() as stack:
        silent = [stack.enter_context(measured.connect()) for _ in range(64)]
        assert eventually(lambda: threads(measured) >= 64)
        for one in silent:
            assert one.closed(8)
        measured.assert_serving()
