"""The main path under valgrind has no error, no leak and no open descriptor."""

import http.server
import os
import re
import shutil
import subprocess
import threading

import pytest

from harness.responder import (CGI, SECRET, FastCGI, as_test_user, chown_to_test_user,
                               event, eventually, sign)
from harness.spool import Spool

VALGRIND = shutil.which("valgrind")
pytestmark = pytest.mark.skipif(not VALGRIND, reason="needs valgrind")

# Under valgrind everything takes 20 to 50 times as long.
LONG_DEADLINE = {"DEADLINE": "10s"}
NOWHERE = "host=/nonexistent"
RECEIVED = b'{"received":true}'
SUPPRESSIONS = """
{
   libfcgi frees its tables of streams at no time
   Memcheck:Leak
   ...
   obj:*/libfcgi.so*
}
"""


class Valgrind:
    """Runs a program under valgrind, by a script of the same arguments."""

    def __init__(self, folder):
        self.folder = str(folder)
        self.suppressions = os.path.join(self.folder, "suppressions")
        with open(self.suppressions, "w", encoding="ascii") as file:
            file.write(SUPPRESSIONS)
        os.chmod(self.folder, 0o755)
        self.reports = os.path.join(self.folder, "reports")
        os.mkdir(self.reports)
        chown_to_test_user(self.reports)

    def wrap(self, program):
        path = os.path.join(self.folder, os.path.basename(program))
        with open(path, "w", encoding="ascii") as file:
            file.write(f"#!/bin/sh\nexec {VALGRIND} --error-exitcode=99"
                       " --leak-check=full --track-fds=yes"
                       " --errors-for-leak-kinds=definite,indirect"
                       " --show-leak-kinds=definite,indirect"
                       f" --suppressions={self.suppressions}"
                       f" --log-file={self.reports}/%p {program} \"$@\"\n")
        os.chmod(path, 0o755)
        return path

    def check(self, runs, descriptors=True):
        """Checks the reports of that many processes. descriptors: whether to
        check that no descriptor except the log's is open at the end."""
        names = os.listdir(self.reports)
        assert len(names) == runs
        for name in names:
            with open(os.path.join(self.reports, name),
                      encoding="utf-8", errors="replace") as file:
                text = file.read()
            assert "ERROR SUMMARY: 0 errors" in text, text
            if not descriptors:
                continue
            left = re.findall(r"Open (.*)\n.*?   (.*)", text)
            left = [what for what, where in left
                    if "<inherited from parent>" not in where
                    and not re.search("/humcli-responder-[^/]*/log$", what)]
            assert not left, text


@pytest.fixture(name="spool")
def _spool():
    with Spool() as it:
        it.make()
        yield it


@pytest.fixture(name="valgrind")
def _valgrind(spool):
    # Beside the spool, because the responder's user can enter that folder.
    folder = os.path.join(spool.folder, "valgrind")
    os.mkdir(folder)
    return Valgrind(folder)


def main_path(it):
    """Gets each kind of answer that a responder with a database has."""
    bodies = [event() for _ in range(10)]
    for body in bodies:
        assert it.post(body).body == RECEIVED
    assert b"duplicate" in it.post(bodies[0]).body
    assert it.post(bodies[0], signature="0" * 64).status == 401
    assert it.post(bodies[0], signature=None).status == 401
    assert it.post(b"{").status == 400
    assert it.post(event(task_id=7)).status == 422
    # The responder accepts this body; PostgreSQL refuses it.
    assert it.post(event(x=1)[:-2] + b"01}").status == 400
    assert it.post(b"x" * 70000).status == 413
    assert it.post(bodies[0], changes={"CONTENT_TYPE": "x"}).status == 415
    assert it.request("PUT").status == 405
    assert it.get().status == 200


def test_responder(paths, store, valgrind):
    with FastCGI(valgrind.wrap(paths.responder), store.conninfo,
                 **LONG_DEADLINE) as it:
        main_path(it)
        it.add_secret("second", "whsec_second")
        assert eventually(lambda: it.post(event(), "whsec_second").status
                          == 200, 20)
        it.stop(within=30)
        valgrind.check(1)


def test_responder_spools_and_drains(paths, store, valgrind, spool):
    program = valgrind.wrap(paths.responder)
    with FastCGI(program, NOWHERE, SPOOL=spool.path, DEADLINE="1s") as it:
        for _ in range(5):
            assert b"spooled" in it.post(event()).body
        it.stop(within=30)
        valgrind.check(1)
    spool.put(event(), text=b"damaged")
    with FastCGI(program, store.conninfo, SPOOL=spool.path, **LONG_DEADLINE) as it:
        assert it.post(event()).body == RECEIVED
        assert eventually(lambda: not spool.waiting, 60)
        assert len(spool.failed) == 1
        it.stop(within=30)
        valgrind.check(2)


def test_cgi(paths, store, valgrind, spool):
    program = valgrind.wrap(paths.responder)
    with CGI(program, store.conninfo, SPOOL=spool.path, **LONG_DEADLINE) as it:
        body = event()
        spool.put(event())
        assert it.post(body).body == RECEIVED
        assert b"duplicate" in it.post(body).body
        assert it.post(body, signature="0" * 64).status == 401
        assert it.get().status == 200
        assert not spool.waiting
        # The process ends by _exit(), with memory still allocated.
        valgrind.check(4, descriptors=False)


# humcli-webhook.

class Receiver(http.server.ThreadingHTTPServer):
    """A receiver that accepts all requests."""

    class RequestHandlerClass(http.server.BaseHTTPRequestHandler):
        def do_POST(self):  # pylint: disable=invalid-name
            self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(200)
            self.end_headers()
            self.wfile.write(RECEIVED)

        def log_message(self, *_):  # pylint: disable=arguments-differ
            pass

    def __init__(self):
        super().__init__(("127.0.0.1", 0), self.RequestHandlerClass)
        self.url = f"http://127.0.0.1:{self.server_port}/hook"
        self.thread = threading.Thread(target=self.serve_forever)
        self.thread.start()

    def __exit__(self, *_):
        self.shutdown()
        self.thread.join()
        self.server_close()


@pytest.fixture(name="cli")
def _cli(paths, valgrind, spool):
    """Returns a function that runs a verb and returns its output."""
    program = valgrind.wrap(paths.stage / "bin/humcli-webhook")
    empty = os.path.join(spool.folder, "empty.conf")
    with open(empty, "w", encoding="ascii"):
        os.chmod(empty, 0o600)
        chown_to_test_user(empty)
    runs = []

    def run(*arguments, status=0, stdin=b"", **settings):
        environment = {"HUMCLI_WEBHOOK_CONFIG": empty,
                       "HUMCLI_WEBHOOK_SECRET": SECRET}
        environment.update((f"HUMCLI_WEBHOOK_{k}", v)
                           for k, v in settings.items())
        done = subprocess.run([program, *arguments], input=stdin, timeout=120,
                              capture_output=True, env=environment,
                              check=False, **as_test_user())
        runs.append(arguments)
        assert done.returncode == status, done.stderr
        valgrind.check(len(runs))
        return done.stdout.decode()

    return run


def test_command_line(cli):
    body = event()
    assert "usage:" in cli("--help")
    assert cli("sign", stdin=body).strip() == sign(body)
    cli("verify", "--signature", sign(body), stdin=body)
    cli("verify", "--signature", "0" * 64, stdin=body, status=1)
    cli("sign", status=78, THREADS="many")
    cli("no-such-verb", status=64)


def test_command_line_sends(cli):
    with Receiver() as receiver:
        cli("send", "--lifecycle", "main", "--duplicate", "--shuffle",
            "--seed", "7", receiver.url)
        closed = receiver.url
    cli("send", closed, status=69)


def test_command_line_listens(cli, store):
    assert cli("listen", "--timeout", "100ms", DATABASE=store.conninfo) == ""


def test_command_line_drains(cli, store, spool):
    spool.put(event())
    spool.put(event(), text=b"damaged")
    settings = {"SPOOL": spool.path, "DATABASE": store.conninfo, **LONG_DEADLINE}
    assert "SUBMITTED" in cli("spool", "list", **settings)
    cli("spool", "drain", **settings)
    assert not spool.waiting and len(spool.failed) == 1
    cli("spool", "retry-failed", **settings)
    assert len(spool.waiting) == 1
