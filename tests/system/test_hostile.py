"""Hostile input, and input of broken peers. The responder answers or closes
each time, the same process serves afterwards, and no event is half recorded.
Input that crashes libfcgi is not tried; because of it, the socket is
private."""

import concurrent.futures
import json
import os
import random
import select
import signal
import struct
import threading
import time

import pytest

from harness import fastcgi
from harness.fastcgi import Broken
from harness.responder import (CGI, FastCGI, chown_to_test_user, event, eventually,
                               new_task, sign, task_of, variables)
from harness.webserver import free_port

RECEIVED = b'{"received":true}'
KIB64 = "x" * 65536


@pytest.fixture(scope="module")
def shared(paths, store):
    with FastCGI(paths.responder, store.conninfo) as it:
        it.assert_serving()
        yield it


@pytest.fixture
def responder(shared):
    """A responder. After each test the same process must still serve."""
    pid = shared.pid
    yield shared
    assert shared.pid == pid
    shared.assert_serving()


def signed(body, **changes):
    return list(variables(body=body, changes={
        "HTTP_X_SIGNATURE": sign(body), **changes}).items())


def count(store, *tasks):
    [(rows,)] = store.query("SELECT count(*) FROM humcli.events"
                            " WHERE task_id = ANY(%s)", list(tasks))
    return rows


# Large and odd parameters.

@pytest.mark.parametrize("name, status", [
    ("HTTP_USER_AGENT", 200), ("HTTP_X_TIMESTAMP", 200), ("QUERY_STRING", 200),
    ("REMOTE_ADDR", 200), ("PATH_INFO", 200), ("DOCUMENT_URI", 200),
    ("HTTP_X_SIGNATURE", 401), ("CONTENT_TYPE", 415),
    ("CONTENT_LENGTH", 400), ("REQUEST_METHOD", 405)])
@pytest.mark.parametrize("value", [KIB64, "\u00e9" * 32768, "'\"\\\n" * 16384],
                         ids=["plain", "not ascii", "quotes"])
def test_value_of_64_kib(responder, name, status, value):
    body = event()
    answer = fastcgi.exchange(responder.address, signed(body, **{name: value}),
                              body)
    assert answer.status == status
    if status != 200:
        assert len(answer.body) < 300


@pytest.mark.parametrize("name, status", [
    ("HTTP_USER_AGENT", 200), ("HTTP_X_SIGNATURE", 401),
    ("HTTP_X_TIMESTAMP", 200), ("CONTENT_TYPE", 415), ("CONTENT_LENGTH", 400)])
def test_value_of_64_kib_by_cgi(paths, store, name, status):
    with CGI(paths.responder, store.conninfo) as it:
        assert it.post(event(), changes={name: KIB64}).status == status


@pytest.mark.parametrize("number, size", [(5000, 10), (20000, 100), (100, 30000)])
def test_thousands_of_parameters(responder, number, size):
    body = event()
    more = [(f"HTTP_X_{i}", "v" * size) for i in range(number)]
    answer = fastcgi.exchange(responder.address, more + signed(body), body)
    assert answer.body == RECEIVED


def test_thousands_of_signatures(responder, store):
    body = event()
    more = [("HTTP_X_SIGNATURE", sign(body))] * 5000
    answer = fastcgi.exchange(responder.address, signed(body) + more, body)
    assert answer.status == 401 and count(store, task_of(body)) == 0


@pytest.mark.parametrize("more", [
    [("", "")], [("", "x")], [("=", "=")], [("A=B", "C=D")], [("A", "")],
    [("HTTP_X_SIGNATURE=x", "y")], [(b"\xff\xfe", b"\xff")],
    [("x" * 70000, "y")], [(b"A\0B", b"C\0D")], [("LD_PRELOAD", "/x.so")],
    [("PATH_INFO", "/health")] * 3, [("HTTP_PROXY", "http://evil/")]],
    ids=lambda more: repr(more)[:40])
def test_odd_parameters(responder, more):
    body = event()
    answer = fastcgi.exchange(responder.address, signed(body) + more, body)
    assert answer.status in (200, 401)  # 401 if the parameter is a second signature
    assert answer.status == 200 or "SIGNATURE" in str(more)


def test_a_nul_ends_no_check(responder, store):
    """Text after a NUL in a parameter does not make an invalid request
    valid."""
    body = event()
    for value in (b"\0" + sign(body).encode(), b"0" * 64 + b"\0"):
        answer = fastcgi.exchange(responder.address,
                                  signed(body, HTTP_X_SIGNATURE=value), body)
        assert answer.status == 401
    assert count(store, task_of(body)) == 0


# Smuggled requests.

@pytest.mark.parametrize("changes, status", [
    ({"CONTENT_LENGTH": "999999"}, 413), ({"REQUEST_METHOD": "PUT"}, 405),
    ({"REQUEST_METHOD": "GET", "PATH_INFO": "/health"}, 200),
    ({"HTTP_X_SIGNATURE": "0" * 64}, 401)])
def test_forged_request_in_a_body_on_a_kept_connection(responder, store,
                                                       changes, status):
    """Unread bytes of a body must not become the next request. The forged
    requests begin at each offset at which libfcgi's buffer of 8 KiB can end."""
    block = 8192
    inner = [event() for _ in range(7)]

    def filled(params, build):
        """Returns build(params), with a parameter that fills it to one
        block."""
        short = len(build(params + [("PAD", "x" * 200)])) - 200
        return build(params + [("PAD", "x" * (block - short))])

    forged = [filled(signed(b, REMOTE_ADDR="6.6.6.6"),
                     lambda p, b=b: fastcgi.whole(p, b, keep=True))
              for b in inner]
    body = b"".join(forged)
    changes = {"CONTENT_LENGTH": str(len(body)), **changes}
    start = filled(
        signed(body, **changes), lambda p: fastcgi.head(p, keep=True)
        + fastcgi.record(fastcgi.STDIN, body)[:8])
    assert len(start) == block and len(body) == 7 * block
    with responder.connect() as connection:
        connection.send(start + body + fastcgi.record(fastcgi.STDIN))
        assert connection.answer().status == status
        with pytest.raises(Broken):
            connection.answer()
        assert connection.closed(2)
    responder.assert_serving()
    assert count(store, *map(task_of, inner)) == 0
    assert "6.6.6.6" not in responder.log()


def test_second_request_behind_the_first(responder, store):
    """Only one request of a connection is answered, even if the peer keeps
    it."""
    first, second = event(), event()
    with responder.connect() as connection:
        connection.send(fastcgi.whole(signed(first), first, keep=True)
                        + fastcgi.whole(signed(second), second, keep=True))
        assert connection.answer().body == RECEIVED
        with pytest.raises(Broken):
            connection.answer()
    responder.assert_serving()
    assert count(store, task_of(first)) == 1
    assert count(store, task_of(second)) == 0


# Peers that leave.

def stages(body):
    params = fastcgi.pairs(signed(body))
    begin = fastcgi.begin()
    head = fastcgi.head(signed(body))
    half = fastcgi.record(fastcgi.STDIN, body[:30])
    return {
        "nothing": b"",
        "half a header": begin[:4],
        "header alone": begin[:8],
        "begin": begin,
        "half a params header": begin + fastcgi.record(
            fastcgi.PARAMS, params)[:6],
        "half the params": begin + fastcgi.record(fastcgi.PARAMS, params)[:99],
        "params without their end": begin + fastcgi.record(
            fastcgi.PARAMS, params),
        "no body": head,
        "half a stdin header": head + half[:5],
        "half a stdin record": head + half[:20],
        "half the body": head + half,
        "body without its end": head + fastcgi.record(fastcgi.STDIN, body),
        "abort before the params": begin + fastcgi.abort(),
        "abort alone": fastcgi.abort(),
        "abort in the params": begin + fastcgi.record(
            fastcgi.PARAMS, params[:99]) + fastcgi.abort(),
        "abort before the end of the params": begin + fastcgi.record(
            fastcgi.PARAMS, params) + fastcgi.abort(),
        "abort in the body, twice": head + half + fastcgi.abort() * 2,
        "abort before the end of the body": head + fastcgi.record(
            fastcgi.STDIN, body) + fastcgi.abort(),
        "abort before the body": head + fastcgi.abort(),
        "abort in the body": head + half + fastcgi.abort(),
        "begin again in the body": head + half + begin,
        "params again in the body": head + half + fastcgi.record(
            fastcgi.PARAMS, params),
        "garbage in the body": head + half + b"\xff" * 64,
    }


@pytest.mark.parametrize("stage", stages(event()))
@pytest.mark.parametrize("way", ["close", "half close"])
def test_peer_leaves(responder, store, stage, way):
    body = event()
    data = stages(body)[stage]
    connection = responder.connect()
    with connection:
        connection.send(data)
        if way == "half close":
            connection.end_sending()
            try:
                # libfcgi takes truncated parameters as complete, so that the
                # answer can be 405
                assert 400 <= connection.answer().status < 500
            except Broken:
                pass    # a clean close is also right
            assert connection.closed(3)
    responder.assert_serving()
    assert count(store, task_of(body)) == 0


def test_peer_leaves_before_the_answer(responder, store):
    """A verified event is recorded, also if the peer has left."""
    body = event()
    with responder.connect() as connection:
        connection.send(fastcgi.whole(signed(body), body))
    assert eventually(lambda: count(store, task_of(body)) == 1)


def test_peer_that_does_not_read(responder, store):
    body = event()
    with responder.connect() as connection:
        connection.send(fastcgi.whole(signed(body), body))
        assert eventually(lambda: count(store, task_of(body)) == 1)
        responder.assert_serving()


@pytest.mark.parametrize("aborts", [1, 1000])
def test_abort_behind_the_body(responder, store, aborts):
    """An abort after the body has no effect, because the request was
    complete."""
    body = event()
    with responder.connect() as connection:
        connection.send(fastcgi.whole(signed(body), body)
                        + fastcgi.abort() * aborts)
        assert connection.answer().body == RECEIVED
    assert count(store, task_of(body)) == 1


# Invalid and unusual FastCGI.

def header(kind, length, padding=0):
    """Returns the header of a record with these lengths."""
    return struct.pack("!BBHHBx", 1, kind, 1, length, padding)


def broken_records():
    body = event()
    whole = fastcgi.whole(signed(body), body)
    begin, rest = whole[:16], whole[16:]
    rng = random.Random(20260301)
    return {
        "HTTP": b"POST / HTTP/1.1\r\nHost: x\r\n\r\n" + body,
        "TLS": bytes.fromhex("16030100a5010000a10303") + bytes(150),
        "zeros": bytes(4096), "ones": b"\xff" * 4096,
        "random": rng.randbytes(65536),
        "version 0": fastcgi.record(fastcgi.BEGIN, bytes(8), version=0),
        "version 2": fastcgi.record(fastcgi.BEGIN, bytes(8), version=2),
        "no begin": rest,
        "short begin": fastcgi.record(fastcgi.BEGIN, b"\0\1"),
        "long begin": fastcgi.record(fastcgi.BEGIN, bytes(1000)),
        "authorizer": fastcgi.begin(role=2) + rest,
        "filter": fastcgi.begin(role=3) + rest,
        "role 0": fastcgi.begin(role=0) + rest,
        "role 65535": fastcgi.begin(role=65535) + rest,
        "request 0": fastcgi.begin(request=0) + rest,
        "stdin of another request": fastcgi.head(signed(body))
        + fastcgi.record(fastcgi.STDIN, body, request=7)
        + fastcgi.record(fastcgi.STDIN, request=7),
        "stdin before params": begin + fastcgi.record(fastcgi.STDIN, body)
        + rest,
        "stdout from a server": begin + fastcgi.record(fastcgi.STDOUT, b"x")
        + rest,
        "data": begin + fastcgi.record(fastcgi.DATA, b"x" * 1000) + rest,
        "unknown management record": fastcgi.record(99, b"x", request=0)
        + whole,
        "unknown record": begin + fastcgi.record(99, b"x" * 100) + rest,
        "unknown record in the body": fastcgi.head(signed(body))
        + fastcgi.record(255, b"x") + fastcgi.record(fastcgi.STDIN, body)
        + fastcgi.record(fastcgi.STDIN),
        "abort of nothing": fastcgi.abort() + whole,
        "end of nothing": fastcgi.record(fastcgi.END, bytes(8)) + whole,
        "name longer than its record": begin + fastcgi.record(
            fastcgi.PARAMS, b"\x7f\x01abc") + fastcgi.record(fastcgi.PARAMS),
        "name of 1 MiB announced": begin + fastcgi.record(
            fastcgi.PARAMS, struct.pack("!II", 1 << 31 | 1 << 20,
                                        1 << 31 | 5) + b"abc")
        + fastcgi.record(fastcgi.PARAMS),
        "begin without content": header(fastcgi.BEGIN, 0) + rest,
        "begin longer than sent": header(fastcgi.BEGIN, 65535) + bytes(8),
        "params longer than sent": begin + header(fastcgi.PARAMS, 65535)
        + fastcgi.pairs(signed(body)),
        "params shorter than sent": begin + header(fastcgi.PARAMS, 10)
        + fastcgi.pairs(signed(body)) + fastcgi.record(fastcgi.PARAMS),
        "body longer than sent": fastcgi.head(signed(body))
        + header(fastcgi.STDIN, 65535) + body,
        "body shorter than sent": fastcgi.head(signed(body))
        + header(fastcgi.STDIN, 20) + body + fastcgi.record(fastcgi.STDIN),
        "padding longer than sent": fastcgi.head(signed(body))
        + header(fastcgi.STDIN, len(body), 255) + body,
        "padding alone": begin + header(fastcgi.PARAMS, 0, 255),
        "value longer than its record": begin + fastcgi.record(
            fastcgi.PARAMS, b"\x01\x7fA" + b"b" * 9)
        + fastcgi.record(fastcgi.PARAMS),
        "empty names and values": begin + fastcgi.record(
            fastcgi.PARAMS, bytes(60000)) + rest,
        "half a length": begin + fastcgi.record(fastcgi.PARAMS, b"\x80\0")
        + fastcgi.record(fastcgi.PARAMS),
        "no params": begin + fastcgi.record(fastcgi.PARAMS)
        + fastcgi.record(fastcgi.STDIN),
        "one value asked for": fastcgi.record(
            fastcgi.GET_VALUES, fastcgi.pairs([("FCGI_MAX_CONNS", "")]),
            request=0) + whole,
    }


@pytest.mark.parametrize("name", broken_records())
def test_broken_records(responder, name):
    """The responder answers or closes soon after the peer stops sending."""
    with responder.connect() as connection:
        try:
            connection.send(broken_records()[name])
            connection.end_sending()
        except (BrokenPipeError, ConnectionResetError):
            pass
        assert connection.closed(3)


def test_random_records_for_a_body(responder, store):
    """Random records in the place of the body, the same in each run. They do
    not come before the body, because libfcgi has faults in reading
    parameters."""
    rng = random.Random(42)
    tasks = []
    for _ in range(150):
        body = event()
        tasks.append(task_of(body))
        data = fastcgi.head(signed(body), rng.random() < .5)
        for _ in range(rng.randrange(6)):
            data += fastcgi.record(
                rng.choice([1, 2, 3, 4, 5, 5, 5, 6, 7, 8, 11, 200]),
                rng.randbytes(rng.randrange(400)),
                rng.choice([0, 1, 1, 1, 2, 65535]), rng.randrange(256))
        with responder.connect() as connection:
            try:
                connection.send(data)
                connection.end_sending()
            except (BrokenPipeError, ConnectionResetError):
                pass
            assert connection.closed(3)
    responder.assert_serving()
    assert count(store, *tasks) == 0


def test_padding_is_no_content(responder):
    body = event()
    with responder.connect() as connection:
        connection.send(
            # The begin record and the empty params get no padding, because
            # libfcgi reads it as content.
            fastcgi.begin()
            + fastcgi.record(fastcgi.PARAMS, fastcgi.pairs(signed(body)),
                             padding=7)
            + fastcgi.record(fastcgi.PARAMS)
            + fastcgi.record(fastcgi.STDIN, body[:50], padding=255)
            + fastcgi.record(fastcgi.STDIN, body[50:], padding=1)
            + fastcgi.record(fastcgi.STDIN, padding=8))
        assert connection.answer().body == RECEIVED


# Silent and slow peers.

def test_silent_and_slow_peers(paths, store):
    """Other peers are served in the meantime. Each slow connection is closed
    about 4 s after accept, also if the peer sends single bytes."""
    with FastCGI(paths.responder, store.conninfo) as it:
        it.assert_serving()
        body = event()
        parts = stages(body)
        waiting = [it.connect() for _ in range(24)]
        trickling = [it.connect() for _ in range(2)]
        try:
            start = time.monotonic()
            for number, connection in enumerate(waiting):
                connection.send([parts["nothing"], parts["half a header"],
                                 parts["half the params"],
                                 parts["begin"]][number % 4])
            trickling[0].send(parts["half the params"])
            trickling[1].send(parts["begin"]
                              + b"\1\4\0\1\xff\xff\0\0\x7f\x7f")
            while time.monotonic() - start < 3.4:
                answer = it.post(event())
                assert answer.body == RECEIVED and answer.seconds < 1
                for connection in trickling:
                    connection.send(b"x")
                select.select([], [], [], 0.1)
            for connection in waiting + trickling:
                left = start + 5 - time.monotonic()
                assert connection.closed(max(left, 0.01))
        finally:
            for connection in waiting + trickling:
                connection.close()
        it.assert_serving()
        assert count(store, task_of(body)) == 0


@pytest.mark.parametrize("changes", [
    {"REQUEST_METHOD": "GET"}, {"CONTENT_LENGTH": "99999999"},
    {"CONTENT_LENGTH": None}], ids=["GET", "too large", "no end"])
def test_peers_that_go_on_sending_after_the_answer(paths, store, changes):
    """Peers that send bytes after their refusal, as many as there are workers,
    hold up other peers for at most a few seconds."""
    with FastCGI(paths.responder, store.conninfo, THREADS="2") as it:
        it.assert_serving()
        head = fastcgi.head(variables(changes=changes).items())
        stop = threading.Event()

        def send_on():
            with it.connect() as connection:
                connection.send(head)
                while not stop.wait(0.02):
                    try:
                        connection.send(fastcgi.record(fastcgi.STDIN, b"x" * 1000))
                    except OSError:
                        return

        with concurrent.futures.ThreadPoolExecutor() as pool:
            them = [pool.submit(send_on) for _ in range(2)]
            try:
                select.select([], [], [], 0.3)
                assert it.post(event()).body == RECEIVED
                # The responder has closed the connections.
                for sender in them:
                    sender.result(6)
            finally:
                stop.set()


@pytest.mark.parametrize("where", ["unix", "tcp"])
def test_a_peer_that_reads_nothing(paths, store, where):
    """A peer that does not read its answers, so that its socket is full, delays
    no other peer, also if its whole request is there at once."""
    with FastCGI(paths.responder, store.conninfo,
                 where=f":{free_port()}" if where == "tcp" else None) as it:
        it.assert_serving()
        question = fastcgi.record(fastcgi.GET_VALUES,
                                  fastcgi.pairs([("FCGI_MPXS_CONNS", "")]), 0)
        for questions in (200, 270, 274, 276, 278, 280, 300):
            body = event()
            os.kill(it.pid, signal.SIGSTOP)
            with it.connect() as connection:
                connection.send(fastcgi.head(signed(body)) + question * questions
                                + fastcgi.stream(fastcgi.STDIN, body)
                                + fastcgi.record(fastcgi.STDIN))
                os.kill(it.pid, signal.SIGCONT)
                assert eventually(lambda body=body: count(store, task_of(body)) == 1
                                  or questions > 270, 3)
                answer = it.post(event())
                assert answer.body == RECEIVED and answer.seconds < 1


def test_200_idle_connections(responder):
    """There are more idle connections than threads. After their end the
    responder serves as before."""
    idle = [responder.connect() for _ in range(200)]
    for connection in idle:
        connection.close()
    start = time.monotonic()
    responder.assert_serving()
    assert time.monotonic() - start < 3


def cpu_seconds(pid):
    with open(f"/proc/{pid}/stat", encoding="ascii") as file:
        fields = file.read().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def test_few_descriptors(paths, store):
    """With a limit of 20 descriptors the responder accepts one connection at a
    time. It neither ends nor uses all of a processor."""
    with CGI(paths.responder, store.conninfo) as folder:
        limited = folder.write("limited", f"#!/bin/sh\nulimit -n 20\n"
                               f"exec {paths.responder} \"$@\"\n", 0o700)
        idle_with_few_descriptors(limited, store)


def idle_with_few_descriptors(program, store):
    with FastCGI(program, store.conninfo) as it:
        it.assert_serving()
        idle = [it.connect() for _ in range(40)]
        try:
            for connection in idle:
                connection.send(fastcgi.begin())
            before = cpu_seconds(it.pid)
            select.select([], [], [], 1)
            assert cpu_seconds(it.pid) - before < 0.3
        finally:
            for connection in idle:
                connection.close()
        assert eventually(lambda: it.post(event()).body == RECEIVED)
        assert "can't accept" not in it.log()


@pytest.mark.alone
def test_flood_of_costly_signatures(paths, store):
    """With 5,000 secrets a forged body of 60 kB costs as much processor time as
    a thousand events. While 100 clients send nothing else, true events of any
    secret are recorded within the deadline."""
    secrets = {f"task-{n:04}": f"whsec_{n:032}" for n in range(5000)}
    forged = event()[:-1] + b',"note":"' + b"x" * 60_000 + b'"}'
    with FastCGI(paths.responder, store.conninfo, secrets=secrets) as it:
        stop = threading.Event()

        def forge():
            refused = 0
            while not stop.is_set():
                answer = it.post(forged, signature="0" * 64)
                assert answer.status in (401, 503), answer
                refused += 1
            return refused

        def true_event(number):
            body = event()
            answer = it.post(body, f"whsec_{number:032}")
            assert answer.body == RECEIVED, (answer, it.log()[-2000:])
            return answer.seconds

        with concurrent.futures.ThreadPoolExecutor(101) as pool:
            forgers = [pool.submit(forge) for _ in range(100)]
            try:
                # All forgers have sent something.
                assert eventually(lambda: "refused" in it.log(), 10)
                select.select([], [], [], 1)
                times = [true_event(number) for number in range(0, 5000, 250)]
            finally:
                stop.set()
            print(f"true events took up to {max(times):.2f} s")
            assert max(times) < 3
            assert sum(f.result() for f in forgers) > 0


def test_idle_costs_no_cpu(responder):
    before = cpu_seconds(responder.pid)
    select.select([], [], [], 0.5)
    assert cpu_seconds(responder.pid) - before < 0.1


def test_many_peers_at_once_that_leave(responder, store):
    """Many peers leave at different stages at the same time."""
    faults = []

    def leave(seed):
        rng = random.Random(seed)
        try:
            for _ in range(10):
                body = event()
                data = fastcgi.whole(signed(body), body)
                with responder.connect() as connection:
                    connection.send(data[:rng.randrange(len(data) - 8)])
                    if rng.random() < .5:
                        connection.end_sending()
                if count_later(body):
                    faults.append(body)
        except OSError as error:
            faults.append(error)

    def count_later(body):
        tasks.append(task_of(body))

    tasks = []
    threads = [threading.Thread(target=leave, args=(n,)) for n in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not faults
    responder.assert_serving()
    assert count(store, *tasks) == 0


# Foreign files in the spool.

def test_ends_in_time_with_a_spool_full_of_damage(paths):
    """The responder ends in time, though moving 20,000 files to failed/ takes
    longer."""
    with CGI(paths.responder, "host=/nonexistent") as folder:
        spool = os.path.join(folder.folder, "spool")
        for path in (spool, f"{spool}/new"):
            os.mkdir(path, 0o700)
            chown_to_test_user(path)
        for number in range(20000):
            with open(f"{spool}/new/{number:064x}", "wb") as file:
                file.write(b"humcli-spool 0\n")
        with FastCGI(paths.responder, "host=/nonexistent", SPOOL=spool,
                     LOG_LEVEL="error") as it:
            assert eventually(lambda: os.listdir(f"{spool}/failed"))
            assert it.stop() < 5
        left, failed = os.listdir(f"{spool}/new"), os.listdir(f"{spool}/failed")
        assert len(left) + len(failed) == 20000


# The log.

FORGED_LINE = "\nlevel=error msg=forged\r\x1b[31m\u2028\x00\x7f"


def test_nothing_from_outside_makes_a_log_line(responder):
    """Each request is one line of the log, with control characters escaped."""
    forged = FORGED_LINE.replace("\x00", "")
    for name in ("REMOTE_ADDR", "HTTP_X_TIMESTAMP", "HTTP_X_SIGNATURE",
                 "CONTENT_TYPE", "REQUEST_METHOD", "PATH_INFO"):
        body = event()
        fastcgi.exchange(responder.address, signed(body, **{name: forged}),
                         body)
    for field in ("task_id", "status", "event", "previous_status"):
        responder.post(event(**{field: new_task() + forged}))
        responder.post(event(timestamp=forged))
    assert eventually(lambda: responder.log().count("forged") >= 4)
    log = responder.log()
    for line in log.splitlines():
        assert line.startswith("time="), line
    assert "\x1b" not in log and "\r" not in log and "\x7f" not in log
    assert not [line for line in log.split("\n") if "msg=forged" in
                line.split('"')[::2][0]]


def test_no_body_in_the_log(responder):
    marker = "a-very-private-note"
    body = event(note=marker)
    responder.post(body)
    responder.post(body, signature="0" * 64)
    responder.post(event(task_id=7, note=marker))
    responder.post(json.dumps([marker]).encode())
    responder.assert_serving()
    assert marker not in responder.log()
