"""A log that can't be written: lines are dropped and counted. Requests, /health
and the end at SIGTERM do not wait for the log."""

import contextlib
import fcntl
import json
import os
import re
import resource
import signal
import subprocess
import threading

import pytest

from harness import fastcgi
from harness.postgres import as_test_user
from harness.record_calls import Delivery, record
from harness.responder import (CGI, FastCGI, chown_to_test_user, event, eventually,
                               sign, task_of)
from harness.spool import Spool

LOST = re.compile(r"\b(\d+) log lines? lost")
# More lines than the pipe and the responder's memory hold.
MANY = 3000
F_SETPIPE_SZ = 1031


def small_pipe():
    reader, writer = os.pipe()
    fcntl.fcntl(writer, F_SETPIPE_SZ, 4096)
    return reader, writer


class Collector:
    """Reads a pipe in a thread, to its end."""

    def __init__(self, reader):
        self.text = b""
        self.reader = reader
        self.thread = threading.Thread(target=self.run)
        self.thread.start()

    def run(self):
        while data := os.read(self.reader, 65536):
            self.text += data

    def lines(self):
        return self.text.decode().splitlines()

    def lost(self):
        return sum(int(n) for n in LOST.findall(self.text.decode()))


class StuckStderr(FastCGI):
    """stderr is a pipe that nobody reads."""

    def __init__(self, *arguments, **others):
        self.reader, self.writer = small_pipe()
        super().__init__(*arguments, LOG="stderr", **others)

    def spawn(self, *arguments, env=None, **streams):
        with os.fdopen(self.writer, "wb") as stderr:
            return subprocess.Popen([self.program, *arguments], cwd="/", stderr=stderr,
                                    env=self.environment(), **streams, **as_test_user())

    def take_reader(self):
        return self.reader


class StuckFifo(FastCGI):
    """LOG is a FIFO that nobody reads."""

    def start(self, where=None, listener=None):
        self.settings["LOG"] = path = os.path.join(self.folder, "fifo")
        os.mkfifo(path)
        chown_to_test_user(path)
        self.reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
        os.set_blocking(self.reader, True)
        fcntl.fcntl(self.reader, F_SETPIPE_SZ, 4096)
        super().start(where, listener)

    def take_reader(self):
        return self.reader


class StuckSyslog(FastCGI):
    """LOG is syslog, and nobody reads it."""

    def start(self, where=None, listener=None):
        self.reader = os.open("/dev/null", os.O_RDONLY)
        self.settings["LOG"] = "syslog"
        library = os.path.join(self.folder, "stuck_syslog.so")
        source = os.path.join(os.path.dirname(fastcgi.__file__), "stuck_syslog.c")
        subprocess.run(["cc", "-shared", "-fPIC", "-o", library, source], check=True)
        self.more_environment["LD_PRELOAD"] = library
        super().start(where, listener)

    def take_reader(self):
        return self.reader


class Limited(FastCGI):
    """LOG is a file that can't grow any more."""

    def spawn(self, *arguments, **streams):
        def limit():
            resource.setrlimit(resource.RLIMIT_FSIZE, (8192, resource.RLIM_INFINITY))
        return super().spawn(*arguments, preexec_fn=limit, **streams)


def sanitized(program):
    """Returns true if the program has a sanitizer."""
    with open(program, "rb") as file:
        text = file.read()
    return b"__asan_init" in text or b"__tsan_init" in text


def forge(responder, count):
    """Sends requests that are refused, with a line of the log each."""
    for _ in range(count):
        answer = responder.post(b"{}", signature="0" * 64)
        assert answer.status == 401
        assert answer.seconds < 2, answer.seconds


@pytest.mark.parametrize("kind", [StuckStderr, StuckFifo, StuckSyslog])
def test_stuck(paths, store, kind):
    """Events are recorded, /health is answered, and SIGTERM ends the process."""
    if kind is StuckSyslog and sanitized(paths.responder):
        pytest.skip("a sanitizer wants to be loaded first")
    with kind(paths.responder, store.conninfo) as responder:
        forge(responder, MANY)
        responder.assert_serving()
        answer = responder.get()
        assert (answer.status, answer.body) == (200, b'{"status":"ok"}')
        assert responder.stop() < 5
        os.close(responder.take_reader())


@pytest.mark.parametrize("kind", [StuckStderr, StuckFifo])
def test_read_again(paths, store, kind):
    """Once the log is read, it says how many lines are lost, and all are whole."""
    with kind(paths.responder, store.conninfo) as responder:
        forge(responder, MANY)
        collector = Collector(responder.take_reader())
        assert eventually(lambda: collector.lost())
        forge(responder, 10)
        responder.stop()
        collector.thread.join()
        lines = collector.lines()
        assert all(line.startswith("time=") for line in lines)
        kept = sum("http=401" in line for line in lines)
        assert kept + collector.lost() >= MANY + 10
        assert kept > 200


def test_full(paths, store):
    """A file that can't grow (SIGXFSZ, as a full disk) does the same."""
    with Limited(paths.responder, store.conninfo) as responder:
        forge(responder, 100)
        responder.assert_serving()
        assert os.path.getsize(responder.log_file) <= 8192
        kept = responder.log().count("\n")
        os.truncate(responder.log_file, 0)
        forge(responder, 1)
        assert eventually(lambda: LOST.search(responder.log())), responder.log()
        responder.stop()
        # The start of the line that was cut is gone with the rest.
        lines = responder.log().splitlines()[1:]
        assert all(line.startswith("time=") for line in lines)
        lost = sum(int(n) for n in LOST.findall(responder.log()))
        assert kept + lost + sum("http=401" in line for line in lines) >= 101


class StuckCGI(CGI):
    def spawn(self, *arguments, env=None, **streams):
        return subprocess.Popen([self.program, *arguments], cwd="/", stderr=self.stuck,
                                env=self.environment() if env is None else env,
                                **streams, **as_test_user())


def test_cgi(paths, store):
    """CGI answers, and its process ends soon after that."""
    reader, writer = small_pipe()
    with StuckCGI(paths.responder, store.conninfo, LOG="stderr") as responder:
        responder.stuck = writer
        os.set_blocking(writer, False)
        try:
            while True:
                os.write(writer, b"x")
        except BlockingIOError:
            os.set_blocking(writer, True)
        answer = responder.post(event())
        assert answer.body == b'{"received":true}'
        assert answer.seconds < 3
    os.close(reader)
    os.close(writer)


def test_cgi_last_lines(paths, store):
    """CGI writes its last lines before it ends."""
    with CGI(paths.responder, store.conninfo) as responder:
        for _ in range(20):
            responder.post(event())
        assert responder.log().count("outcome=recorded") == 20
        assert responder.post(b"{}", signature="0" * 64).status == 401
        assert "outcome=" in responder.log().splitlines()[-1]


def test_last_lines(paths, store):
    """SIGTERM: the last lines are written."""
    with FastCGI(paths.responder, store.conninfo) as responder:
        forge(responder, 100)
        responder.stop(signal.SIGTERM)
        assert responder.log().count("http=401") == 100


@pytest.mark.parametrize("kind", [FastCGI, CGI])
def test_json(paths, store, kind):
    """LOG_FORMAT=json: one object a line, with the same fields."""
    with kind(paths.responder, store.conninfo, LOG_FORMAT="json") as responder:
        body = event(status='a "b" \u4e16')
        assert responder.post(body).status == 200
        assert responder.post(b"{}", signature="0" * 64).status == 401
        if kind is FastCGI:
            responder.stop()
        lines = [json.loads(line) for line in responder.log().splitlines()]
        for line in lines:
            assert {"time", "level", "pid"} <= set(line)
        recorded = [line for line in lines if line.get("outcome") == "recorded"]
        assert [line["status"] for line in recorded] == ['a "b" \u4e16']
        assert recorded[0]["task_id"] == task_of(body)
        assert any(line.get("http") == "401" for line in lines)


@pytest.mark.parametrize("kind", [FastCGI, CGI])
@pytest.mark.parametrize("place", ["a folder", "missing/log", "not-ours"])
def test_a_log_that_cannot_be_opened(place, kind, paths, store):
    """As after a rotation that gives the file to another user: events are
    recorded all the same, and stderr has the log."""
    class Responder(kind):
        def start(self, *arguments, **streams):
            self.settings["LOG"] = path = os.path.join(self.folder, place)
            if place == "a folder":
                os.makedirs(path, exist_ok=True)
            elif place == "not-ours":
                self.write(place, "", 0o400)
            return super().start(*arguments, **streams)

    with Responder(paths.responder, store.conninfo) as it:
        body = event()
        assert it.post(body).body == b'{"received":true}', it.read(it.stderr_file)
        assert eventually(lambda: task_of(body) in it.read(it.stderr_file))
        assert re.search("level=error .*logging to stderr", it.read(it.stderr_file))


@pytest.mark.parametrize("rotate", [lambda path: os.rename(path, path + ".1"), os.unlink])
def test_rotated(rotate, paths, store):
    with FastCGI(paths.responder, store.conninfo) as responder:
        first, second = event(), event()
        assert responder.post(first).status == 200
        assert eventually(lambda: task_of(first) in responder.log())
        rotate(responder.log_file)
        assert responder.post(second).status == 200
        assert eventually(lambda: task_of(second) in responder.log())
        assert task_of(first) not in responder.log()
        assert os.stat(responder.log_file).st_mode & 0o777 == 0o600


@contextlib.contextmanager
def closed(kind, *numbers):
    """A kind of responder that is started with descriptors closed."""
    def spawn(self, *arguments, env=None, **streams):
        # pylint: disable-next=consider-using-with
        return subprocess.Popen([self.program, *arguments], cwd="/", preexec_fn=close,
                                env=self.environment() if env is None else env,
                                **streams, **as_test_user())

    def close():
        for number in numbers:
            os.close(number)

    yield type("Closed", (kind,), {"spawn": spawn})


def test_started_with_its_socket_alone(paths, store):
    """FastCGI promises no other descriptor than 0. Lines for stderr must not
    be written into what is opened next."""
    with closed(FastCGI, 1, 2) as kind, \
            kind(paths.responder, store.conninfo, LOG="stderr") as responder:
        responder.assert_serving()
        for number in (1, 2):
            file = f"/proc/{responder.pid}/fd/{number}"
            assert os.readlink(file) == "/", "not a file of the program's"


def test_cgi_without_stderr(paths, store):
    with closed(CGI, 2) as kind, Spool() as spool:
        with kind(paths.responder, store.conninfo, LOG="stderr") as responder:
            responder.assert_serving()
        with kind(paths.responder, "host=/nowhere", LOG="stderr", LOG_LEVEL="debug",
                  SPOOL=spool.path) as responder:
            bodies = [event() for _ in range(5)]
            for body in bodies:
                assert responder.post(body).body == b'{"received":true,"spooled":true}'
            for body in bodies:
                assert spool.read(sign(body)).endswith(b"\n\n" + body)


@pytest.mark.parametrize("number, code", [(0, 0), (1, 74), (2, 0)])
def test_verb_with_a_descriptor_closed(number, code, cli, database, connection):
    """A table for a closed stdout must not be sent to PostgreSQL."""
    record(connection, [Delivery("task_1", "A")])
    done = subprocess.run(["sh", "-c", f'exec {number}>&-; exec "$@"', "sh", cli.program, "events"],
                          capture_output=True, check=False, timeout=30,
                          env=cli.environment(DATABASE=database.dsn()))
    assert done.returncode == code, done.stderr
