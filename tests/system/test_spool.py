"""The spool: each spooled event is recorded once, foreign files are not
recorded, and no file delays the others."""

import concurrent.futures
import contextlib
import json
import os
import re
import shutil
import subprocess
import tempfile
import threading
import time

import pytest

from harness import fastcgi
from harness.postgres_proxy import PostgresProxy
from harness.record_calls import listen, notifications
from harness.responder import (CGI, SANITIZERS, SECRET, FastCGI, as_test_user, chown_to_test_user,
                               event, eventually, new_task, sign, task_of)
from harness.spool import Spool, render

RECEIVED = b'{"received":true}'
SPOOLED = b'{"received":true,"spooled":true}'
OTHER = "whsec_of_another_task"
QUICK = {"DEADLINE": "400ms"}   # so that the first event does not wait long
TRANSPORTS = {"fastcgi": FastCGI, "cgi": CGI}


@pytest.fixture(name="spool")
def _spool():
    with Spool() as it:
        yield it


@pytest.fixture(name="proxy")
def _gate(store):
    with PostgresProxy(store.socket) as it:
        yield it


@pytest.fixture(name="transport", params=TRANSPORTS)
def _transport(request):
    return TRANSPORTS[request.param]


@contextlib.contextmanager
def responder(paths, conninfo, spool, kind=FastCGI, **settings):
    with kind(paths.responder, conninfo, SPOOL=spool.path, **{**QUICK, **settings}) as it:
        try:
            yield it
        except BaseException:
            print(it.log()[-8000:])
            raise


def unavailable(paths, proxy, store, spool, **settings):
    """Returns a responder whose database is unavailable until proxy.open()."""
    proxy.refuse()
    return responder(paths, proxy.conninfo(store.login), spool, **settings)


def post_all(it, bodies, workers=16):
    with concurrent.futures.ThreadPoolExecutor(workers) as pool:
        return list(pool.map(it.post, bodies))


def recorded(store, bodies):
    """Returns the recorded payloads of the bodies' tasks, sorted."""
    return sorted(text.encode() for text, in store.query(
        "SELECT payload::text FROM humcli.events WHERE task_id = ANY(%s)",
        [task_of(body) for body in bodies]))


def quarantined(store, body):
    return store.query("SELECT reason, secret_name, body FROM humcli.quarantine"
                       " WHERE signature = %s", sign(body))


def is_drained(spool):
    return lambda: not spool.waiting


def tasks_locked(store, tasks):
    """Returns a connection that holds the locks of tasks until it is closed."""
    connection = store.connect()
    connection.autocommit = False
    with connection.cursor() as cursor:
        for task in tasks:
            cursor.execute("SELECT pg_advisory_xact_lock(%s, hashtext(%s))",
                           (store.lock_class, task))
    return contextlib.closing(connection)


# Spool and drain.

def test_spooled_and_recorded(transport, paths, proxy, store, spool):
    """The file has the event and its fields, and the recorded row has them,
    too."""
    body = event(status="ACCEPTED")
    with unavailable(paths, proxy, store, spool, kind=transport) as it:
        before = time.time_ns() // 1000
        answer = it.post(body)
        assert (answer.status, answer.body) == (200, SPOOLED)
        received = spool.received(sign(body))
        assert before <= received <= time.time_ns() // 1000
        assert spool.read(sign(body)) == render(body, received=received)
        assert spool.waiting == [sign(body)] and not spool.names("tmp")
        for path, mode in ((spool.path, 0o700), (spool.file("new"), 0o700),
                           (spool.file("new", sign(body)), 0o600)):
            assert os.stat(path).st_mode & 0o777 == mode
        proxy.open()
        if transport is CGI:
            # A process believes the last one's breaker state for 2 s; then a
            # request records and drains.
            assert eventually(lambda: it.post(event()).body == RECEIVED)
        assert eventually(is_drained(spool), 2)
    assert store.query("SELECT payload::text, secret_name, signature,"
                       " (extract(epoch FROM received_at) * 1000000)::bigint"
                       " FROM humcli.events WHERE task_id = %s", task_of(body)) == [
                           (body.decode(), "main", sign(body), received)]
    assert not spool.failed


def test_listeners_are_notified(paths, proxy, store, spool):
    with contextlib.closing(store.connect()) as connection:
        body = event()
        with unavailable(paths, proxy, store, spool) as it:
            assert it.post(body).body == SPOOLED
            listen(connection)
            proxy.open()
            texts = []
            while not any(task_of(body) in text for text in texts):
                texts += notifications(connection, 1)


def test_the_same_while_it_waits(transport, paths, proxy, store, spool):
    body = event()
    with unavailable(paths, proxy, store, spool, kind=transport) as it:
        assert {it.post(body).body for _ in range(3)} == {SPOOLED}
        assert spool.waiting == [sign(body)]


def test_already_recorded(paths, proxy, store, spool):
    """A spooled duplicate of a recorded event is drained as a duplicate."""
    body = event()
    with responder(paths, proxy.conninfo(store.login), spool) as it:
        assert it.post(body).body == RECEIVED
        proxy.refuse()
        assert it.post(body).body == SPOOLED
        proxy.open()
        assert eventually(is_drained(spool), 2)
    assert recorded(store, [body]) == [body]


def test_breaker(paths, proxy, store, spool):
    """After the first timeout no event waits for the database. As soon as the
    database is available, events are recorded."""
    bodies = [event() for _ in range(600)]
    with unavailable(paths, proxy, store, spool, DEADLINE="3s") as it:
        first = it.post(event())
        assert first.body == SPOOLED and first.seconds < 3
        start = time.monotonic()
        answers = post_all(it, bodies, 4)
        seconds = time.monotonic() - start
        assert {a.body for a in answers} == {SPOOLED}
        assert sorted(a.seconds for a in answers)[len(answers) // 2] < 0.3
        assert seconds < 20     # 450 if each of them waited
        proxy.open()
        assert eventually(lambda: it.post(event()).body == RECEIVED, 2)
        assert eventually(is_drained(spool), 20)
    assert recorded(store, bodies) == sorted(bodies)


# Bodies that are no events.

def test_quarantined_later(transport, paths, proxy, store, spool):
    """An invalid body gets 400 or 422 at once. A body that only PostgreSQL can
    refuse is answered as spooled, and delays no other event."""
    malformed, invalid = event()[:-1], event(status=5)
    poison = event()[:-1] + b',"x":' + b"[" * 30000 + b"]" * 30000 + b"}"
    good = event()
    with unavailable(paths, proxy, store, spool, kind=transport) as it:
        assert [it.post(body).status for body in (malformed, invalid)] == [400, 422]
        assert [it.post(body).body for body in (poison, good)] == [SPOOLED] * 2
        assert spool.waiting == sorted(map(sign, (malformed, invalid, poison, good)))
        proxy.open()
        if transport is CGI:
            assert eventually(lambda: it.post(event()).body == RECEIVED)
        assert eventually(is_drained(spool), 2)
    for body in malformed, invalid, poison:
        [(reason, secret_name, kept)] = quarantined(store, body)
        assert reason and secret_name == "main" and bytes(kept) == body
    assert recorded(store, [good]) == [good]
    assert not spool.failed


# Foreign and damaged files.

def make_fifo(path):
    os.mkfifo(path, 0o600)


def make_link(path):
    os.symlink("/etc/passwd", path)


def make_directory(path):
    os.mkdir(path)
    chown_to_test_user(path)


def make_large(path):
    with open(path, "wb") as file:
        file.truncate(40 << 20)


def make_unreadable(path):
    with open(path, "wb") as file:
        os.fchmod(file.fileno(), 0)


BODY = event(task_id="task_not_to_be_recorded")
BAD = {
    "empty": b"",
    "half": render(BODY)[:-20],
    "longer": render(BODY) + b" ",
    "no header": BODY,
    "binary": bytes(range(256)) * 20,
    "another version": render(BODY, magic=b"humcli-spool 2\n"),
    "no version": render(BODY, magic=b"humcli-spool\n"),
    "another secret": render(BODY, signature=sign(BODY, OTHER)),
    "another body": render(BODY.replace(b"SUBMITTED", b"COMPLETED"), signature=sign(BODY)),
    "another name": render(event()),
    "bad secret name": render(BODY, secret_name=b"m\xff\xfe"),
    "no secret name": render(BODY, secret_name=b""),
    "bad length": render(BODY, length=-1),
    "huge length": render(BODY, length=1 << 70),
    "bad time": render(BODY, received="yesterday"),
    "negative time": render(BODY, received=-1),
    "NUL": render(BODY).replace(b"main", b"ma\0n"),
    "carriage returns": render(BODY).replace(b"\n", b"\r\n"),
    "FIFO": make_fifo,
    "link": make_link,
    "directory": make_directory,
    "too large": make_large,
    "unreadable": make_unreadable,
}


def put_bad(spool, number, what):
    name = {"another name": "f" * 64, "another secret": sign(BODY, OTHER)}.get(
        what, f"{number:064x}")
    if callable(BAD[what]):
        BAD[what](spool.file("new", name))
    else:
        # The file is a valid event except for one fault.
        text = BAD[what]
        if b"signature: " + sign(BODY).encode() in text:
            name = sign(BODY)
        # A file that no secret fits waits an hour for a process that has it.
        spool.put(BODY, name, text, age=4000)
    return name


@pytest.mark.parametrize("what", BAD)
def test_not_an_event_of_ours(what, paths, store, spool):
    spool.make()
    good = [event() for _ in range(3)]
    spool.put(good[0], age=5000)
    name = put_bad(spool, 7, what)
    spool.put(good[1])
    with responder(paths, store.conninfo, spool) as it:
        assert eventually(is_drained(spool), 3), spool.waiting
        assert it.post(good[2]).body == RECEIVED
        lines = [line for line in it.log().splitlines() if f"file={name}" in line]
    assert len(lines) == 1 and "level=error" in lines[0], lines
    assert spool.failed == [name]
    assert recorded(store, good) == sorted(good)
    assert not store.query("SELECT FROM humcli.events WHERE task_id = %s", task_of(BODY))
    assert not quarantined(store, BODY)


def test_hidden_files_are_left_alone(paths, store, spool):
    spool.make()
    spool.put(event(), ".nfs0001")
    good = event()
    spool.put(good)
    with responder(paths, store.conninfo, spool):
        assert eventually(is_drained(spool), 3)
        assert recorded(store, [good]) == [good]
    assert os.listdir(spool.file("new")) == [".nfs0001"] and not spool.failed


def spooled_with_another_secret(paths, proxy, store, spool):
    """Returns an event in the spool that is signed with OTHER, and its time of
    receipt."""
    body = event()
    with unavailable(paths, proxy, store, spool, secrets={"second": OTHER}) as it:
        assert it.post(body, OTHER).body == SPOOLED
    proxy.open()
    return body, spool.received(sign(body, OTHER))


def assert_recorded_as(store, body, secret_name, received):
    assert store.query("SELECT secret_name, (extract(epoch FROM received_at) * 1000000)::bigint"
                       " FROM humcli.events WHERE task_id = %s",
                       task_of(body)) == [(secret_name, received)]


def test_a_file_waits_for_its_secret(transport, paths, proxy, store, spool):
    """Processes with other secrets leave it where it is, and record the files
    behind it."""
    body, received = spooled_with_another_secret(paths, proxy, store, spool)
    spool.put(event())
    with responder(paths, store.conninfo, spool, kind=transport) as it:
        assert it.post(event()).body == RECEIVED
        assert eventually(lambda: spool.waiting == [sign(body, OTHER)])
        assert it.get().body == b'{"status":"degraded"}'
        if transport is FastCGI:
            lines = [line for line in it.log().splitlines() if "no active secret" in line]
            assert len(lines) == 1 and "level=warning" in lines[0]
        assert not spool.failed
        with responder(paths, store.conninfo, spool, secrets={"second": OTHER}):
            assert eventually(is_drained(spool), 7)
    assert_recorded_as(store, body, "second", received)


def test_the_secret_comes_while_a_file_waits(paths, proxy, store, spool):
    body, received = spooled_with_another_secret(paths, proxy, store, spool)
    with responder(paths, store.conninfo, spool) as it:
        assert eventually(lambda: "no active secret" in it.log())
        it.add_secret("second", OTHER)
        assert eventually(is_drained(spool), 7)
    assert_recorded_as(store, body, "second", received)


def test_the_secret_comes_too_late(paths, proxy, store, spool):
    """After an hour the file is in failed/, with an error in the log. The
    active secrets are tried on it when they change."""
    body, received = spooled_with_another_secret(paths, proxy, store, spool)
    name = sign(body, OTHER)
    os.utime(spool.file("new", name), times=(time.time() - 3700,) * 2)
    with open(spool.file("failed", "c" * 64), "wb") as file:
        file.write(b"damaged")
    with responder(paths, store.conninfo, spool) as it:
        assert eventually(is_drained(spool))
        assert spool.failed == sorted([name, "c" * 64])
        assert any("level=error" in line and name in line and "no active secret" in line
                   for line in it.log().splitlines())
        it.add_secret("third", "whsec_that_does_not_fit")
        assert it.post(event()).body == RECEIVED
        it.add_secret("second", OTHER)
        assert eventually(lambda: spool.failed == ["c" * 64] and not spool.waiting, 7)
    assert_recorded_as(store, body, "second", received)


@pytest.mark.parametrize("how", ["spool drain", "start", "cgi"])
def test_the_secret_comes_while_nothing_runs(how, paths, proxy, store, spool):
    """Each start, each spool drain and each CGI request tries the files of
    failed/."""
    body, received = spooled_with_another_secret(paths, proxy, store, spool)
    name = sign(body, OTHER)
    os.rename(spool.file("new", name), spool.file("failed", name))
    secrets = {"main": SECRET, "second": OTHER}
    if how == "spool drain":
        with CGI(paths.responder, store.conninfo, SPOOL=spool.path, secrets=secrets) as it:
            assert cli(paths, it, "drain").stdout.startswith("1 recorded, 0 ")
    elif how == "cgi":
        with CGI(paths.responder, store.conninfo, SPOOL=spool.path, secrets=secrets) as it:
            assert it.post(event()).body == RECEIVED
            assert eventually(lambda: not spool.failed and not spool.waiting)
    else:
        with responder(paths, store.conninfo, spool, secrets=secrets):
            assert eventually(lambda: not spool.failed and not spool.waiting)
    assert_recorded_as(store, body, "second", received)


# Limits.

def test_spool_max(paths, proxy, store, spool):
    """The spool has room for 16 files of 4 KiB. Then the answer is 503 with an
    error in the log, and no event with a 200 is lost."""
    bodies = [event() for _ in range(40)]
    with unavailable(paths, proxy, store, spool, SPOOL_MAX="64KiB") as it:
        it.post(bodies[0])
        answers = [it.post(body) for body in bodies[1:]]
        assert [a.body for a in answers[:15]] == [SPOOLED] * 15
        for answer in answers[15:]:
            assert answer.status == 503 and answer.header("retry-after") == "30"
            assert answer.seconds < 0.3
        assert len(spool.waiting) == 16 and not spool.names("tmp")
        assert any("level=error" in line and "SPOOL_MAX" in line
                   for line in it.log().splitlines())
        # An event that is there already needs no room.
        assert it.post(bodies[7]).body == SPOOLED
        assert eventually(lambda: it.get().body == b'{"status":"unavailable"}', 3)
        proxy.open()
        assert eventually(is_drained(spool), 2)
        assert recorded(store, bodies) == sorted(bodies[:16])
        proxy.refuse()
        # The spool has room again.
        assert eventually(lambda: it.post(bodies[20]).body == SPOOLED, 2)


def test_spool_max_of_several(paths, proxy, store, spool):
    """A process notices within a second that another one filled the spool."""
    proxy.refuse()
    with contextlib.ExitStack() as stack:
        two = [stack.enter_context(responder(paths, proxy.conninfo(store.login), spool,
                                             SPOOL_MAX="64KiB")) for _ in range(2)]
        for body in [event() for _ in range(16)]:
            assert two[0].post(body).body == SPOOLED
        assert two[1].post(event()).status == 503
        assert len(spool.waiting) == 16


def filled(it, spool):
    """Posts events until one is refused; returns the bodies before it."""
    kept = []
    for _ in range(1000):
        body = event()
        answer = it.post(body)
        if answer.status == 503:
            assert answer.header("retry-after") == "30"
            return kept
        assert answer.body == SPOOLED
        kept.append(body)
    raise AssertionError("never full")


class OnSmallDisk(FastCGI):
    """A responder whose spool is on its own small file system."""
    script = 'mount -t tmpfs -o "$1" none "$2" && shift 2 && exec "$@"'
    options = "size=128k"

    def spawn(self, *arguments, env=None, **streams):
        user, group = str(as_test_user()["user"]), str(as_test_user()["group"])
        self.disk = os.path.dirname(self.settings["SPOOL"])
        with open(self.stderr_file, "ab") as stderr:
            return subprocess.Popen(
                ["unshare", "--mount", "sh", "-c", self.script, "sh",
                 f"{self.options},mode=700,uid={user},gid={group}", self.disk,
                 "setpriv", "--reuid", user, "--regid", group, "--clear-groups",
                 self.program], cwd="/", stderr=stderr,
                env={**self.environment(), "PATH": os.environ["PATH"]}, **streams)

    def remount(self, options):
        """Remounts the file system as soon as no file is open for writing."""
        command = ["nsenter", "--mount", "--target", str(self.pid), "mount",
                   "-o", f"remount,{options}", self.disk]
        assert eventually(lambda: subprocess.run(command, check=False).returncode == 0, 10)


@pytest.fixture(name="inside")
def _inside():
    """A function that returns the Spool of an OnSmallDisk by /proc/PID/root."""
    def look(it, spool):
        seen = Spool.__new__(Spool)
        seen.path = f"/proc/{it.pid}/root{spool.path}"
        return seen
    if os.geteuid() != 0:
        pytest.skip("mounting a small disk needs root")
    return look


def test_full_disk(paths, proxy, store, spool, inside):
    with unavailable(paths, proxy, store, spool, kind=OnSmallDisk) as it:
        kept = filled(it, spool)
        seen = inside(it, spool)
        assert len(kept) > 5
        assert seen.waiting == sorted(map(sign, kept)) and not seen.names("tmp")
        assert "No space left on device" in it.log()
        assert eventually(lambda: it.get().status == 503, 3)
        it.remount("size=1m")
        more = event()
        assert it.post(more).body == SPOOLED
        proxy.open()
        assert eventually(is_drained(seen), 3)
        assert not seen.failed
    assert recorded(store, kept + [more]) == sorted(kept + [more])


def test_disk_becomes_read_only(paths, store, spool, inside):
    """The file system becomes read-only, as after an I/O error. Waiting files
    are recorded as soon as they can be removed."""
    body = event()
    with responder(paths, store.conninfo, spool, kind=OnSmallDisk, DEADLINE="3s") as it:
        with tasks_locked(store, [task_of(body)]):
            assert it.post(body).body == SPOOLED
            it.remount("ro")
            assert it.post(event(task_id=task_of(body), status="NEXT")).status == 503
            assert "Read-only file system" in it.log()
            assert it.post(event()).body == RECEIVED
        it.remount("rw")
        assert eventually(is_drained(inside(it, spool)), 7)
    assert recorded(store, [body]) == [body]


@pytest.mark.parametrize("folder", ["tmp", "new"])
def test_not_writable(folder, transport, paths, proxy, store, spool):
    with unavailable(paths, proxy, store, spool, kind=transport) as it:
        assert it.post(event()).body == SPOOLED
        os.chmod(spool.file(folder), 0o500)
        for _ in range(3):
            assert it.post(event()).status == 503
        assert "Permission denied" in it.log()
        assert eventually(lambda: it.get().body == b'{"status":"unavailable"}', 3)
        assert it.get().status == 503
        assert len(spool.waiting) == 1
        os.chmod(spool.file(folder), 0o700)
        assert it.post(event()).body == SPOOLED
        assert eventually(lambda: it.get().body == b'{"status":"degraded"}', 3)
        assert it.get().status == 200 and not spool.names("tmp")


@pytest.mark.parametrize("folder", ["", "tmp", "new"])
def test_folder_removed(folder, transport, paths, proxy, store, spool):
    """A folder that is removed while the responder runs is made again."""
    first, others = event(), [event() for _ in range(3)]
    with unavailable(paths, proxy, store, spool, kind=transport) as it:
        assert it.post(first).body == SPOOLED
        away = spool.file(folder).rstrip("/") + ".away"
        os.rename(spool.file(folder), away)
        assert {it.post(body).body for body in others} == {SPOOLED}
        assert it.get().body == b'{"status":"degraded"}'
        assert os.stat(spool.file(folder)).st_mode & 0o777 == 0o700
        kept = [first, *others] if folder == "tmp" else others
        assert spool.waiting == sorted(map(sign, kept))
        proxy.open()
        if transport is CGI:
            assert eventually(lambda: it.post(event()).body == RECEIVED)
        assert eventually(is_drained(spool), 3)
    assert recorded(store, kept) == sorted(kept)


def test_parents_removed(transport, paths, proxy, store, spool):
    """The folders above the spool are removed, too, and made again."""
    home = os.path.join(spool.folder, "account")
    spool.path = os.path.join(home, "humcli", "spool")
    with unavailable(paths, proxy, store, spool, kind=transport) as it:
        for body in [event() for _ in range(2)]:
            assert it.post(body).body == SPOOLED
            assert spool.waiting == [sign(body)]
            assert os.stat(home).st_mode & 0o777 == 0o700
            shutil.rmtree(home)
        assert it.post(event()).body == SPOOLED
        assert it.get().body == b'{"status":"degraded"}'


@pytest.mark.parametrize("owner", ["ours", "others"])
def test_a_link_to_another_disk(owner, paths, proxy, store, spool):
    """It is followed, unless another user could have made it."""
    elsewhere = os.path.join(spool.folder, "elsewhere")
    os.mkdir(elsewhere, 0o700)
    chown_to_test_user(elsewhere)
    os.symlink(elsewhere, spool.path)
    if owner == "others" and os.geteuid() == 0:
        os.chown(spool.path, 12345, 12345, follow_symlinks=False)
    elif owner == "others":
        pytest.skip("needs root to give a link away")
    body = event()
    with unavailable(paths, proxy, store, spool) as it:
        assert it.post(body).status == (200 if owner == "ours" else 503)
        if owner == "ours":
            assert spool.waiting == [sign(body)]
            proxy.open()
            assert eventually(is_drained(spool), 3)


def test_emptied(paths, proxy, store, spool):
    """Somebody runs rm -r on all that is in the spool, while it is empty and
    while it is not."""
    with unavailable(paths, proxy, store, spool) as it:
        for body in [event() for _ in range(2)]:
            for name in os.listdir(spool.path):
                path = spool.file(name)
                (shutil.rmtree if os.path.isdir(path) else os.unlink)(path)
            assert it.post(body).body == SPOOLED
            assert spool.waiting == [sign(body)]
        proxy.open()
        assert eventually(is_drained(spool), 3)
    assert recorded(store, [body]) == [body]


def test_folder_can_not_be_made(transport, paths, proxy, store, spool):
    """A responder that can't make its spool logs this, and answers 503 until
    it can."""
    os.chmod(spool.folder, 0o500)
    with unavailable(paths, proxy, store, spool, kind=transport) as it:
        assert it.post(event()).status == 503
        assert any("level=warning" in line and spool.path in line
                   for line in it.log().splitlines())
        health = it.get()
        assert (health.status, health.body) == (503, b'{"status":"unavailable"}')
        os.chmod(spool.folder, 0o700)
        assert it.post(event()).body == SPOOLED
        assert eventually(lambda: it.get().body == b'{"status":"degraded"}', 3)


# File systems that lack something.

ODD = {
    "no links": "linkat=1",                     # EPERM: SMB, vboxsf, FAT
    "links are not supported": "linkat=95",
    "links are not known": "linkat=38",
    "too many links": "linkat=31",
    "no links, no flags": "linkat=1 renameat2=22",
    "folders have no sync": "fsync=22",
    "folders have no such sync": "fsync=95",
    "no locks": "flock=37",                     # ENOLCK: NFS without lockd
    "locks are not known": "flock=38",
    "locks are not supported": "flock=95",
    "all of it": "linkat=95 renameat2=38 fsync=22 flock=37",
}


@pytest.fixture(name="odd_file_system", scope="module")
def _odd_file_system():
    source = os.path.join(os.path.dirname(fastcgi.__file__), "odd_file_system.c")
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        library = os.path.join(folder, "odd_file_system.so")
        subprocess.run(["cc", "-shared", "-fPIC", "-o", library, source], check=True)
        os.chmod(folder, 0o755)
        yield library


@pytest.mark.parametrize("lacks", ODD)
def test_odd_file_system(lacks, transport, paths, proxy, store, spool, odd_file_system):
    """Events are spooled and drained. A warning says once what may be lost."""
    if any(name in os.environ for name in SANITIZERS):
        pytest.skip("a sanitizer wants to be loaded first")
    bodies = [event() for _ in range(5)]
    preload = {"LD_PRELOAD": odd_file_system, "ODD_FILE_SYSTEM": ODD[lacks]}
    with unavailable(paths, proxy, store, spool, kind=transport, more_environment=preload) as it:
        assert {it.post(body).body for body in bodies + bodies[:1]} == {SPOOLED}
        assert spool.waiting == sorted(map(sign, bodies)) and not spool.names("tmp")
        assert it.get().body == b'{"status":"degraded"}'
        proxy.open()
        if transport is CGI:
            assert eventually(lambda: it.post(event()).body == RECEIVED)
        assert eventually(is_drained(spool), 7)
        if transport is FastCGI:
            log = it.log()
            assert log.count("can't sync folders of spool") == ("fsync" in ODD[lacks])
            assert log.count("can't lock spool") == ("flock" in ODD[lacks])
    assert recorded(store, bodies) == sorted(bodies)


class OnMounts(OnSmallDisk):
    """A responder whose new/ and failed/ are file systems of their own."""
    script = ('for folder in new failed; do mkdir -p "$2/spool/$folder";'
              ' mount -t tmpfs -o "$1" none "$2/spool/$folder"; done;'
              ' chown -R "$(stat -c %u:%g "$2")" "$2/spool"; chmod 700 "$2/spool";'
              ' shift 2 && exec "$@"')


def test_mounts_in_the_spool(paths, proxy, store, spool, inside):
    bodies = [event() for _ in range(3)]
    with unavailable(paths, proxy, store, spool, kind=OnMounts) as it:
        seen = inside(it, spool)
        with open(seen.file("new", "d" * 64), "wb") as file:
            file.write(b"damaged")
        chown_to_test_user(seen.file("new", "d" * 64))
        assert {it.post(body).body for body in bodies + bodies[:1]} == {SPOOLED}
        assert eventually(lambda: seen.failed == ["d" * 64], 7)
        assert seen.waiting == sorted(map(sign, bodies))
        assert it.get().body == b'{"status":"degraded"}'
        proxy.open()
        assert eventually(is_drained(seen), 7)
    assert recorded(store, bodies) == sorted(bodies)


class WithFewInodes(OnSmallDisk):
    options = "size=1m,nr_inodes=10"


def test_no_inodes_left(paths, proxy, store, spool, inside):
    """The files that wait are drained, and their inodes are used again."""
    with unavailable(paths, proxy, store, spool, kind=WithFewInodes) as it:
        kept = filled(it, spool)
        seen = inside(it, spool)
        assert kept and seen.waiting == sorted(map(sign, kept))
        assert eventually(lambda: it.get().status == 503, 3)
        it.post(kept[0])
        proxy.open()
        assert eventually(is_drained(seen), 5)
        proxy.refuse()
        assert it.post(event()).body == SPOOLED
    assert recorded(store, kept) == sorted(kept)


def test_open_to_others(paths, proxy, store, spool):
    """A spool that others can write to is not used, because they could remove
    events."""
    spool.make()
    os.chmod(spool.path, 0o770)
    with unavailable(paths, proxy, store, spool) as it:
        assert it.post(event()).status == 503
        assert f"chmod 700 {spool.path}" in it.log()
        os.chmod(spool.path, 0o700)
        assert it.post(event()).body == SPOOLED


# /health, and the time of draining.

def test_health(transport, paths, proxy, store, spool):
    """The status is degraded while a file waits, also with the database
    available."""
    stuck = event()
    with unavailable(paths, proxy, store, spool, kind=transport) as it:
        assert it.post(stuck).body == SPOOLED
        assert it.get().body == b'{"status":"degraded"}'
        with tasks_locked(store, [task_of(stuck)]):
            proxy.open()
            assert eventually(lambda: it.post(event()).body == RECEIVED, 4)
            health = it.get()
            assert (health.status, health.body) == (200, b'{"status":"degraded"}')
        if transport is CGI:
            assert eventually(lambda: it.post(event()).body == RECEIVED)
        assert eventually(lambda: it.get().body == b'{"status":"ok"}', 3)
        assert not spool.waiting


def test_events_of_a_killed_process(paths, proxy, store, spool):
    """The next process drains the files without any traffic."""
    bodies = [event() for _ in range(20)]
    with unavailable(paths, proxy, store, spool) as it:
        assert {a.body for a in post_all(it, bodies)} == {SPOOLED}
        it.process.kill()
        it.process.wait()
        it.process.returncode = 0   # as expected
    with responder(paths, store.conninfo, spool):
        assert eventually(is_drained(spool), 2)
    assert recorded(store, bodies) == sorted(bodies)


def test_events_of_another_process(paths, proxy, store, spool):
    """A running process reads the spool every 5 s, and drains the events that
    CGI or a killed process left."""
    body = event()
    proxy.refuse()
    with responder(paths, store.conninfo, spool), \
            responder(paths, proxy.conninfo(store.login), spool, kind=CGI) as it:
        assert it.post(body).body == SPOOLED
        assert eventually(is_drained(spool), 6)
    assert recorded(store, [body]) == [body]


def test_several_share_it(paths, proxy, store, spool):
    """Three processes and CGI share a spool, and get some of the events all."""
    shared = [event() for _ in range(5)]
    proxy.refuse()
    with contextlib.ExitStack() as stack:
        four = [stack.enter_context(responder(paths, proxy.conninfo(store.login), spool,
                                              kind=kind))
                for kind in (FastCGI, FastCGI, FastCGI, CGI)]
        own = [[event() for _ in range(15)] for _ in four]
        with concurrent.futures.ThreadPoolExecutor(16) as pool:
            answers = [pool.submit(it.post, body) for it, bodies in zip(four, own)
                       for body in bodies + shared]
            assert {a.result().body for a in answers} == {SPOOLED}
        everything = shared + sum(own, [])
        assert spool.waiting == sorted(map(sign, everything))
        proxy.open()
        assert eventually(is_drained(spool), 5)
    assert recorded(store, everything) == sorted(everything)
    assert not spool.failed and not spool.names("tmp")


def test_a_locked_task_holds_up_no_other(paths, store, spool):
    """The locked task has more files than are read at once, older than the
    rest."""
    spool.make()
    task = new_task()
    held = [event(task_id=task, timestamp=f"2026-03-01T{n // 60:02}:{n % 60:02}:00Z",
                  status=f"S{n}") for n in range(150)]
    others = [event() for _ in range(150)]
    for n, body in enumerate(held + others):
        spool.put(body, age=1000 - n)
    with tasks_locked(store, [task]):
        with responder(paths, store.conninfo, spool, DEADLINE="3s") as it:
            start = time.monotonic()
            answers = []
            while not answers or len(recorded(store, others)) < len(others):
                answers.append(it.post(event()))
                assert time.monotonic() < start + 30
            # The drainer waits for the lock once for all files read together.
            assert {a.body for a in answers} == {RECEIVED}
            assert max(a.seconds for a in answers) < 2.5
            assert spool.waiting == sorted(map(sign, held))
    with responder(paths, store.conninfo, spool):
        assert eventually(is_drained(spool), 10)
    assert recorded(store, held[:1]) == sorted(held)


@pytest.mark.alone
def test_live_ones_go_first(paths, store, spool):
    """While 5,000 files drain, events are answered as quickly as without
    them."""
    spool.make()
    waiting = [event() for _ in range(5000)]
    for body in waiting:
        spool.put(body)
    seconds = []
    with responder(paths, store.conninfo, spool, DEADLINE="3s") as it:
        while spool.waiting:
            answer = it.post(event())
            assert answer.body == RECEIVED
            seconds.append(answer.seconds)
            assert sum(seconds) < 60, len(spool.waiting)
    print(f"{len(seconds)} while it drained, median {sorted(seconds)[len(seconds) // 2]:.3f} s,"
          f" slowest {max(seconds):.3f} s")
    assert len(seconds) > 10
    assert sorted(seconds)[len(seconds) * 9 // 10] < 0.25 and max(seconds) < 1
    assert store.query("SELECT count(*) FROM humcli.events WHERE task_id = ANY(%s)",
                       [task_of(body) for body in waiting]) == [(5000,)]


@pytest.mark.alone
def test_constant_load_does_not_starve_it(paths, store, spool):
    """The spool is drained also if new events wait at all times."""
    over = threading.Event()
    answers = []

    def load(it):
        while not over.is_set():
            answers.append(it.post(event()).body)

    # Inserts are so slow that other events arrive during each transaction.
    store.query("CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS"
                " $$ BEGIN PERFORM pg_sleep(0.05); RETURN NULL; END $$")
    store.query("CREATE TRIGGER slow AFTER INSERT ON humcli.events EXECUTE FUNCTION slow()")
    try:
        with responder(paths, store.conninfo, spool, DEADLINE="3s") as it:
            threads = [threading.Thread(target=load, args=(it,)) for _ in range(8)]
            for thread in threads:
                thread.start()
            try:
                assert eventually(lambda: len(answers) > 50, 30)
                for body in [event() for _ in range(200)]:
                    spool.put(body)
                assert eventually(is_drained(spool), 40), len(spool.waiting)
            finally:
                over.set()
                for thread in threads:
                    thread.join()
    finally:
        store.query("DROP TRIGGER slow ON humcli.events")
        store.query("DROP FUNCTION slow()")
    assert set(answers) == {RECEIVED}


# Kills.

def test_killed_at_random(paths, proxy, store, spool, rng):
    """The responder is killed by SIGKILL while it spools and while it
    drains."""
    acknowledged = []
    over = threading.Event()

    def load(it):
        while not over.is_set():
            body = event()
            try:
                if it.post(body).status == 200:
                    acknowledged.append(body)
            except (OSError, fastcgi.Broken):
                return

    spool.make()
    for n in range(20):
        (proxy.refuse if n % 2 else proxy.open)()
        with responder(paths, proxy.conninfo(store.login), spool, DEADLINE="200ms") as it:
            over.clear()
            threads = [threading.Thread(target=load, args=(it,)) for _ in range(4)]
            for thread in threads:
                thread.start()
            over.wait(rng.uniform(0.1, 0.5))
            it.process.kill()
            it.process.wait()
            it.process.returncode = 0   # as expected
            over.set()
            for thread in threads:
                thread.join()
    proxy.open()
    with responder(paths, proxy.conninfo(store.login), spool):
        assert eventually(is_drained(spool), 10)
    assert len(acknowledged) > 500
    assert recorded(store, acknowledged) == sorted(acknowledged)
    assert not spool.failed
    assert store.query("SELECT count(*) FROM humcli.repeats WHERE task_id = ANY(%s)",
                       [task_of(body) for body in acknowledged]) == [(0,)]


# humcli-webhook spool.

def cli(paths, it, *arguments, check_user=True, **settings):
    """Runs humcli-webhook spool with the settings of a responder."""
    done = subprocess.run(
        [paths.stage / "bin" / "humcli-webhook", "spool", *arguments], cwd="/",
        env={**it.environment(), "PATH": os.environ["PATH"],
             **{f"HUMCLI_WEBHOOK_{k}": v for k, v in settings.items()}},
        stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60, check=False,
        **(as_test_user() if check_user else {}))
    assert SECRET not in done.stdout + done.stderr
    return done


@pytest.fixture(name="settings")
def _settings(paths, store, spool):
    """A responder that is not started, for its settings."""
    with CGI(paths.responder, store.conninfo, SPOOL=spool.path) as it:
        yield it


def test_cli_list(paths, spool, settings):
    spool.make()
    first, second = event(status="ACCEPTED", task_id="task_\u00fc"), event()
    spool.put(first, text=render(first, received=1770287400123456), age=10)
    spool.put(second, text=render(second, received=1770287460000000), age=5)
    broken = "b" * 64
    spool.put(b"", broken, b"what is this?", age=7)
    os.rename(spool.file("new", broken), spool.file("failed", broken))
    odd = "evil\x1b[31m\n"
    spool.put(b"", odd, b"", age=1)
    settings.remove_secret("main")      # none is needed
    done = cli(paths, settings, "list", "--json")
    assert (done.returncode, done.stderr) == (0, "")
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert rows[0] == {"name": sign(first), "folder": "new",
                       "received": "2026-02-05T10:30:00.123Z", "task_id": "task_\u00fc",
                       "status": "ACCEPTED", "secret": "main",
                       "size": len(spool.read(sign(first)))}
    assert rows[1]["name"] == sign(second) and rows[1]["received"] == "2026-02-05T10:31:00.000Z"
    assert rows[2]["name"] == odd
    assert {**rows[3], "received": None} == {
        "name": broken, "folder": "failed", "received": None, "task_id": None, "status": None,
        "secret": None, "size": 13}
    table = cli(paths, settings, "list").stdout
    assert "\x1b" not in table
    lines = table.splitlines()
    assert len(lines) == 5 and lines[0].split() == [
        "RECEIVED", "FOLDER", "SIZE", "SECRET", "STATUS", "TASK", "NAME"]
    assert lines[1].split() == ["2026-02-05T10:30:00.123Z", "new", str(rows[0]["size"]),
                                "main", "ACCEPTED", r"task_\xc3\xbc", sign(first)]
    starts = {line.index(row["name"]) for line, row in zip(lines[2:], rows[1:])
              if row["name"] != odd}
    assert len(starts) == 1 and lines[0].index("NAME") in starts
    assert lines[4].split()[1:] == ["failed", "13", "-", "-", "-", broken]


def test_cli_nothing_there(paths, spool, settings):
    """The command makes no spool, because root's would have the wrong owner."""
    for verb in "list", "drain", "retry-failed":
        done = cli(paths, settings, verb)
        assert done.returncode == 0 and "does not exist yet" in done.stderr
    assert not os.path.exists(spool.path)
    done = cli(paths, settings, "list", SPOOL="")
    assert done.returncode == 78 and "HUMCLI_WEBHOOK_SPOOL" in done.stderr


def test_cli_wrong_use(paths, spool, settings):
    spool.make()
    for arguments in ((), ("frobnicate",), ("list", "x"), ("drain", "x"), ("drain", "--json"),
                      ("list", "--what")):
        done = cli(paths, settings, *arguments)
        assert done.returncode == 64 and "usage:" in done.stderr, arguments


def test_cli_as_its_owner(paths, store, spool, settings):
    """Root becomes the owner of the spool, because a file of root's would be
    unusable for the responder. Another user is told what helps."""
    if os.geteuid() != 0:
        pytest.skip("being another user needs root")
    spool.make()
    body = event()
    spool.put(body)
    done = cli(paths, settings, "list", "--json", check_user=False)
    assert done.returncode == 0 and len(done.stdout.splitlines()) == 1, done.stderr
    done = cli(paths, settings, "drain", check_user=False)
    assert (done.returncode, done.stdout) == (0, "1 recorded, 0 moved to failed/, 0 left\n")
    assert recorded(store, [body]) == [body]
    owners = {os.stat(os.path.join(folder, name)).st_uid
              for folder, folders, files in os.walk(spool.path) for name in [*folders, *files]}
    assert owners == {os.stat(spool.path).st_uid}
    os.chown(spool.path, 1, 1)
    done = cli(paths, settings, "list")
    assert done.returncode == 77
    assert re.search(r"belongs to daemon; run: sudo \S+ spool", done.stderr), done.stderr


def test_cli_drain(paths, store, spool, settings):
    spool.make()
    good = [event() for _ in range(150)]
    for body in good:
        spool.put(body)
    poison = event()[:-1] + b',"x":01}'
    spool.put(poison)
    spool.put(b"", "c" * 64, b"damaged")
    with contextlib.closing(store.connect()) as connection:
        listen(connection)
        done = cli(paths, settings, "drain")
        assert done.stdout == "151 recorded, 1 moved to failed/, 0 left\n"
        assert done.returncode == 0
        texts = notifications(connection, 150)
        assert sum(task_of(body) in text for body in good[:1] for text in texts) == 1
    assert recorded(store, good) == sorted(good) and quarantined(store, poison)
    assert spool.failed == ["c" * 64] and not spool.waiting
    done = cli(paths, settings, "drain")
    assert (done.returncode, done.stdout, done.stderr) == (
        0, "0 recorded, 0 moved to failed/, 0 left\n", "")


def test_cli_drain_without_a_database(paths, spool, settings):
    spool.make()
    spool.put(event())
    done = cli(paths, settings, "drain", DATABASE="host=/nowhere")
    assert done.returncode == 69 and done.stdout.endswith(" 1 left\n")
    assert len(spool.waiting) == 1


def test_cli_drain_leaves_what_is_locked(paths, store, spool, settings):
    spool.make()
    held, other = event(), event()
    spool.put(held, age=10)
    spool.put(other)
    with tasks_locked(store, [task_of(held)]):
        done = cli(paths, settings, "drain")
    assert (done.returncode, done.stdout) == (
        75, "1 recorded, 0 moved to failed/, 1 left\n")
    assert recorded(store, [held, other]) == [other] and spool.waiting == [sign(held)]


def test_cli_drain_needs_secrets(paths, spool, settings):
    spool.make()
    spool.put(event())
    settings.remove_secret("main")
    assert cli(paths, settings, "drain").returncode == 78
    assert len(spool.waiting) == 1


def test_cli_drain_beside_an_invalid_secret(paths, store, spool, settings):
    """It leaves only the events of that secret, as the receiver does."""
    spool.make()
    body, other = event(), event()
    spool.put(body)
    signature = sign(other, OTHER)
    spool.put(other, signature, render(other, signature, b"open"))
    settings.add_secret("open", OTHER, 0o644)
    done = cli(paths, settings, "drain")
    assert (done.returncode, done.stdout) == (75, "1 recorded, 0 moved to failed/, 1 left\n")
    assert "chmod" in done.stderr
    assert recorded(store, [body]) == [body] and spool.waiting == [signature]


def test_cli_drain_beside_a_responder(paths, store, spool):
    """The command and the responder's drainer take turns, and record each event
    once."""
    spool.make()
    good = [event() for _ in range(1000)]
    for body in good:
        spool.put(body)
    with responder(paths, store.conninfo, spool) as it:
        done = cli(paths, it, "drain")
        assert done.returncode == 0, done
        assert not spool.waiting
    assert recorded(store, good) == sorted(good)


def test_cli_retry_failed(paths, store, spool, settings):
    spool.make()
    bodies = [event() for _ in range(4)]
    for n, body in enumerate(bodies):
        spool.put(body)
        os.rename(spool.file("new", sign(body)), spool.file("failed", sign(body)))
    done = cli(paths, settings, "retry-failed", sign(bodies[2]))
    assert (done.returncode, done.stdout) == (0, "1 moved back, to be recorded\n")
    assert spool.waiting == [sign(bodies[2])] and len(spool.failed) == 3
    done = cli(paths, settings, "retry-failed", "f" * 64, sign(bodies[0]), "../new/x")
    assert done.returncode == 1 and done.stdout.startswith("1 moved")
    assert "No such file" in done.stderr
    # A complete waiting file is not replaced by a failed one.
    spool.put(bodies[1])
    with open(spool.file("failed", sign(bodies[1])), "wb"):
        pass
    done = cli(paths, settings, "retry-failed")
    assert done.returncode == 1 and done.stdout.startswith("1 moved")
    assert "already" in done.stderr
    assert spool.failed == [sign(bodies[1])]
    assert spool.read(sign(bodies[1])).endswith(bodies[1])
    assert cli(paths, settings, "drain").returncode == 0
    assert recorded(store, bodies) == sorted(bodies)
