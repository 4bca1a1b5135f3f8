"""reconcile: HumCLI's API, by a stub of it, tells what was missed."""

import fcntl
import json
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import threading
import time
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest

from harness.humcli_api import TERMINAL, HumcliApi
from harness.postgres import Database
from harness.record_calls import Delivery, at, record

OK, NEGATIVE, USAGE, UNAVAILABLE, LATER, NOPERM, CONFIG = 0, 1, 64, 69, 75, 77, 78
LIFE = ("PENDING", "ESTIMATE_PENDING", "ACCEPTED", "IN_PROGRESS", "SUBMITTED", "VERIFIED", "COMPLETED")


@pytest.fixture(name="shared", scope="module")
def fixture_shared(cluster, template):
    """One database for all tests, because to make one takes longer than most."""
    name = cluster.create_database(template=template)
    cluster.execute("CREATE ROLE rec LOGIN IN ROLE humcli_reconciler;"
                    "CREATE ROLE only_reads LOGIN IN ROLE humcli_reader")
    yield Database(cluster, name)
    cluster.drop_database(name)
    cluster.execute("DROP ROLE rec; DROP ROLE only_reads")


@pytest.fixture(name="database")
def fixture_database(shared):
    """The database without rows."""
    shared.execute("DELETE FROM humcli.events; DELETE FROM humcli.readings; DELETE FROM humcli.reconcile_runs;"
                   "UPDATE humcli.statuses SET timestamp_field = NULL WHERE timestamp_field LIKE '%.%'")
    return shared


@pytest.fixture(name="api")
def fixture_api():
    it = HumcliApi()
    yield it
    it.close()


@pytest.fixture(name="keys")
def fixture_keys(tmp_path):
    folder = tmp_path / "keys"
    folder.mkdir(mode=0o700)
    put_key(folder, "main", "hk_main")
    return folder


def put_key(folder, name, key, mode=0o600):
    path = folder / name
    path.write_text(key + "\n")
    path.chmod(mode)


@pytest.fixture(name="reconcile")
def fixture_reconcile(cli, database, keys, api):
    """Runs reconcile by a role of its own."""
    def run(*arguments, **settings):
        done = cli("reconcile", "--wait", "0s", *arguments, **{
            "DATABASE": database.dsn("rec"), "SPOOL": "", "KEY_DIR": keys, "API": api.url, **settings})
        assert "hk_" not in done.out + done.err
        return done
    return run


@pytest.fixture(name="connection")
def fixture_connection(database):
    it = database.connect()
    yield it
    it.close()


@pytest.fixture(name="put")
def fixture_put(connection):
    """Records a task's webhooks: (status, previous_status) one second apart."""
    def put(task, *statuses, start=0):
        rows = [Delivery(task, status, previous, at(start + i), secret_name="main")
                for i, (previous, status) in enumerate(zip(statuses, statuses[1:]))]
        return record(connection, rows)
    return put


def tasks(database):
    return dict(database.execute("SELECT task_id, status FROM humcli.tasks"))


def events(database, task):
    return database.execute("SELECT event, status, previous_status, secret_name FROM humcli.timeline"
                            f" WHERE task_id = '{task}' ORDER BY place")


def fill(database, names, status):
    """Records one event for each task, faster than by record()."""
    database.execute("INSERT INTO humcli.events (event, task_id, status, occurred_at, received_at,"
                     " first_of_status, secret_name, signature, payload)"
                     f" SELECT 'task.status_changed', n, '{status}', now(), now(), true, 'main', '', '{{}}'"
                     f" FROM unnest('{{{','.join(names)}}}'::text[]) n")


def last_run(database):
    rows = database.execute("SELECT requests, tasks, repaired, denied, fault FROM humcli.reconcile_runs"
                            " ORDER BY id DESC LIMIT 1")
    return rows[0] if rows else None


def test_nothing_missing(reconcile, api, database, put):
    put("task_1", *LIFE[:4])
    api.put("task_1", "IN_PROGRESS")
    api.put("task_new", "PENDING")      # its first webhook is ESTIMATE_PENDING
    done = reconcile()
    assert (done.returncode, done.out, done.err) == (OK, "", "")
    assert last_run(database) == (8, 1, 0, 0, None)     # a request a status
    assert tasks(database) == {"task_1": "IN_PROGRESS"}
    assert all("status=" in path and "limit=100" in path and key == "hk_main" for path, key in api.requests)


def test_a_lost_last_event(reconcile, api, database, put):
    """It makes no gap by itself. The answer is kept as it came."""
    put("task_1", *LIFE[:6])
    api.put("task_1", "COMPLETED")
    done = reconcile("--dry-run")
    assert (done.returncode, done.err) == (NEGATIVE, "")
    assert done.out == ("task_1: VERIFIED -> COMPLETED; missing; nothing was recorded\n"
                        "1 task compared by 9 requests; 1 event was missing, none was recorded\n")
    assert last_run(database) is None and database.execute("SELECT 1 FROM humcli.readings") == []
    done = reconcile()
    assert (done.returncode, done.err) == (OK, "") and "recorded as event" in done.out
    assert events(database, "task_1")[-1] == ("api.status_read", "COMPLETED", "VERIFIED", None)
    payload, = database.execute("SELECT payload::text FROM humcli.events WHERE event = 'api.status_read'")[0]
    assert json.loads(payload) == {**api.item("task_1"), "sandbox": True}
    assert database.execute("SELECT task_id, http_status, body::text, key_name FROM humcli.readings") == [
        ("task_1", 200, payload, "main")]
    assert last_run(database)[2:] == (1, 0, None)
    assert database.execute("SELECT kind FROM humcli.gaps") == [("read",)]
    # again: all is well
    done = reconcile()
    assert (done.returncode, done.out) == (OK, "") and last_run(database)[2] == 0


def test_the_apis_time(reconcile, api, database, put):
    """accepted_at is documented; another name is an UPDATE; without one it is
    the time of reading."""
    later = "2026-03-01T12:00:30.250Z"
    put("task_1", *LIFE[:2])
    api.put("task_1", "ACCEPTED", accepted_at=later)
    put("task_2", *LIFE[:4])
    api.put("task_2", "SUBMITTED", timestamps={"submitted_at": later})
    put("task_3", *LIFE[:5])
    api.put("task_3", "VERIFIED")
    database.execute("UPDATE humcli.statuses SET timestamp_field = 'timestamps.submitted_at'"
                     " WHERE status = 'SUBMITTED'")
    before = datetime.now(timezone.utc)
    assert reconcile().returncode == OK
    times = dict(database.execute("SELECT task_id, occurred_at FROM humcli.tasks"))
    assert times["task_1"] == times["task_2"] == datetime(2026, 3, 1, 12, 0, 30, 250000, timezone.utc)
    assert before - timedelta(seconds=1) < times["task_3"] < datetime.now(timezone.utc)


@pytest.mark.parametrize("skew", (-7200, 7200))
def test_clocks_differ(reconcile, api, database, put, skew):
    """The time of reading is that of HumCLI's clock, which stamps the
    webhooks."""
    api.skew = skew
    put("task_1", *LIFE[:5])
    api.put("task_1", "VERIFIED")
    assert reconcile().returncode == OK
    (time_read,), = database.execute("SELECT occurred_at FROM humcli.tasks")
    off = time_read - datetime.now(timezone.utc) - timedelta(seconds=skew)
    assert abs(off) < timedelta(seconds=30)


def test_unheard_of(reconcile, api, database):
    """A task that the API has, and of which nothing was recorded."""
    api.put("task_1", "SUBMITTED")
    done = reconcile()
    assert done.returncode == OK and "task_1: nothing recorded -> SUBMITTED; recorded" in done.out
    assert events(database, "task_1") == [("api.status_read", "SUBMITTED", None, None)]


def test_two_agents(reconcile, api, database, put, keys):
    """404 by one key, 200 by another. The key of the task's agent is asked
    first."""
    put_key(keys, "other", "hk_other")
    put_key(keys, "a_first", "hk_first")
    put("task_1", *LIFE[:3])        # by the secret main
    api.put("task_1", "COMPLETED", "hk_other")
    put("task_2", *LIFE[:3])
    api.put("task_2", "COMPLETED", "hk_main")
    done = reconcile()
    assert (done.returncode, done.err) == (OK, "")
    assert tasks(database) == {"task_1": "COMPLETED", "task_2": "COMPLETED"}
    asked = [(path.rpartition("/")[2], key) for path, key in api.requests if "status=" not in path]
    assert asked == [("task_1", "hk_main"), ("task_1", "hk_first"), ("task_1", "hk_other"),
                     ("task_2", "hk_main")]
    assert dict(database.execute("SELECT task_id, key_name FROM humcli.events WHERE key_name IS NOT NULL")) == {
        "task_1": "other", "task_2": "main"}


def test_denied(reconcile, api, database, put, keys):
    """A task that no key may read: said once a day."""
    put_key(keys, "other", "hk_other")
    put("task_1", *LIFE[:3])
    done = reconcile()
    assert done.returncode == OK and done.out == ""
    assert "task task_1: no key may read it" in done.err and "404 Task not found" in done.err
    assert last_run(database)[2:] == (0, 1, None)
    done = reconcile()
    assert (done.returncode, done.err) == (OK, "")
    assert not any("/task_1" in path for path, _ in api.requests[-16:])
    done = reconcile("--task", "task_1")
    assert done.returncode == NEGATIVE and "no key may read it" in done.err
    assert tasks(database) == {"task_1": "ACCEPTED"}


def test_one_task(reconcile, api, database, put):
    put("task_1", *LIFE[:3])
    put("task_2", *LIFE[:3])
    api.put("task_1", "CANCELLED")
    api.put("task_2", "CANCELLED")
    assert reconcile("--task", "task_1").returncode == OK
    assert tasks(database) == {"task_1": "CANCELLED", "task_2": "ACCEPTED"}
    assert len(api.requests) == 2


def test_odd_ids(reconcile, api, database, put):
    for name in ("..", "a/b?c#d", 'q"\\{},é'):
        put(name, *LIFE[:3])
        api.put(name, "CANCELLED")
    assert reconcile().returncode == OK
    assert set(tasks(database).values()) == {"CANCELLED"} and len(tasks(database)) == 3


def test_tests_are_left_out(reconcile, api, put):
    put("task_test_1", *LIFE[:3])
    assert reconcile().returncode == OK
    assert not any("task_test_1" in path for path, _ in api.requests)


@pytest.mark.parametrize("status, code, text", [
    (401, NOPERM, "replace the file"), (403, NOPERM, "the key may not do this"),
    (410, NOPERM, "deadline has passed"), (404, NOPERM, "does not exist"), (400, UNAVAILABLE, "400")])
def test_refused(reconcile, api, database, put, status, code, text):
    """A refused key: its tasks are not judged, and no request is repeated."""
    put("task_1", *LIFE[:3])
    api.fault = lambda request: (status, {"error": "So \x1b[31m says HumCLI"})
    done = reconcile()
    assert (done.returncode, done.out) == (code, "") and text in done.err
    assert "key main: " in done.err and "\x1b" not in done.err and str(status) in done.err
    assert len(api.requests) == 1
    assert last_run(database)[4].startswith("key main: ") and tasks(database) == {"task_1": "ACCEPTED"}


@pytest.mark.parametrize("fault", [
    lambda request: (401, {"error": "Unknown key hk_main."}),
    lambda request: (302, b"", {"Location": "https://other.example/?key=hk_main"}),
    lambda request: (404, {"error": "hk_main does not own it"}) if request.path.endswith("/task_1") else None,
    lambda request: (200, {"task_id": "task_1", "status": "CANCELLED", "key": "hk_main"})
    if request.path.endswith("/task_1") else None])
def test_an_answer_that_repeats_the_key(reconcile, api, database, put, fault):
    """reconcile() looks that the key is in no message."""
    put("task_1", *LIFE[:3])
    api.fault = fault
    done = reconcile()
    assert api.requests and (done.err or done.out)
    assert database.execute(
        "SELECT string_agg(concat(r.body, u.fault, e.payload), '') FROM humcli.events e"
        " LEFT JOIN humcli.readings r ON true LEFT JOIN humcli.reconcile_runs u ON true"
        " HAVING string_agg(concat(r.body, u.fault, e.payload), '') LIKE '%hk\\_%'") == []


def test_one_key_of_two(reconcile, api, database, put, keys):
    """A fault of one agent's key does not touch the other agent."""
    put_key(keys, "other", "bad")
    put("task_1", *LIFE[:3])
    api.put("task_1", "CANCELLED")
    assert "401" in reconcile().err
    assert tasks(database) == {"task_1": "CANCELLED"}


@pytest.mark.parametrize("status, headers", [(429, {}), (429, {"Retry-After": "1"}), (500, {}), (503, {})])
def test_backs_off(reconcile, api, database, put, status, headers):
    """It waits and goes on; as long as Retry-After says."""
    put("task_1", *LIFE[:3])
    api.put("task_1", "CANCELLED")
    times = []

    def fault(request):
        times.append(time.monotonic())
        return (status, {"error": "later"}, headers) if len(times) == 1 else None

    api.fault = fault
    assert reconcile().returncode == OK
    assert times[1] - times[0] >= (1 if headers else 0.5) and len(times) == 10
    assert tasks(database) == {"task_1": "CANCELLED"}


def test_gives_up(reconcile, api, database, put):
    """Within its time, and the task keeps its status."""
    put("task_1", *LIFE[:3])
    api.fault = lambda request: (429, {"error": "Too many requests"}, {"Retry-After": "600"})
    start = time.monotonic()
    done = reconcile("--timeout", "20s")
    assert done.returncode == UNAVAILABLE and "429 Too many requests" in done.err and "less often" in done.err
    assert time.monotonic() - start < 15
    assert last_run(database)[2] == 0 and "429" in last_run(database)[4]
    api.fault = lambda request: (500, b"<html>")
    done = reconcile("--timeout", "1s")
    assert done.returncode == UNAVAILABLE and "500; HumCLI has a fault" in done.err


def test_one_task_of_many_fails(reconcile, api, database, put):
    """The others are compared, and in the next run it is asked for last. After
    three failures in a row the run ends."""
    for name in "abcdef":
        put(name, *LIFE[:3])
        api.put(name, "CANCELLED")
    api.fault = lambda request: (400, {"error": "Bad"}) if request.path.endswith("/b") else None
    done = reconcile()
    assert done.returncode == UNAVAILABLE and "task b: key main: 400 Bad" in done.err
    assert {name for name, status in tasks(database).items() if status == "ACCEPTED"} == {"b"}
    put("z", *LIFE[:3])
    reconcile()
    assert [path[-2:] for path, _ in api.requests[-2:]] == ["/z", "/b"]
    for name in "uvwxy":
        put(name, *LIFE[:3])
    api.fault = lambda request: (400, {"error": "Bad"}) if "status=" not in request.path else None
    done = reconcile()
    assert done.err.count("400 Bad") == 3 and "left for the next run" in done.err


@pytest.mark.parametrize("body, text", [
    (b'{"data": [', "not JSON"), (b"[]", "not a JSON object"), (b"\xff{}", "not JSON"), (b"", "not JSON"),
    (b"{}", 'no list "data"'), (b'{"data": []}', "pagination.total"),
    (b'{"data": [{"task_id": 5}], "pagination": {"total": 1}}', 'no "task_id"'),
    (b'{"data": "' + b"x" * (10 << 20) + b'"}', "longer than 4194304 bytes")])
def test_broken_list(reconcile, api, database, put, body, text):
    put("task_1", *LIFE[:3])
    api.fault = lambda request: (200, body) if "status=ACCEPTED" in request.path else None
    done = reconcile()
    assert done.returncode == UNAVAILABLE and text in done.err, done.err
    assert tasks(database) == {"task_1": "ACCEPTED"}


@pytest.mark.parametrize("body, text", [
    (b"{", "not JSON"), (b'{"task_id": "task_2", "status": "X"}', "another task"),
    (b'{"task_id": "task_1"}', 'no "status"'), (b'{"task_id": "task_1", "status": "\\u0000"}', 'no "status"'),
    (b"x" * (10 << 20), "longer than")])
def test_broken_task(reconcile, api, database, put, body, text):
    put("task_1", *LIFE[:3])
    api.fault = lambda request: (200, body) if "/tasks/" in request.path else None
    done = reconcile()
    assert done.returncode == UNAVAILABLE and text in done.err
    assert tasks(database) == {"task_1": "ACCEPTED"}


def test_enveloped(reconcile, api, database, put):
    """The task may be in "data"."""
    put("task_1", *LIFE[:3])
    api.fault = lambda request: (200, {"data": {"task_id": "task_1", "status": "CANCELLED"}}) \
        if "/tasks/" in request.path else None
    assert reconcile().returncode == OK and tasks(database) == {"task_1": "CANCELLED"}


def test_redirect(reconcile, api, database, put):
    """It is never followed, so no other host sees the key."""
    put("task_1", *LIFE[:3])
    other = HumcliApi()
    try:
        for status in (301, 302, 307, 308):
            api.fault = lambda request, status=status: (status, b"", {"Location": other.url + "/tasks"})
            done = reconcile()
            assert done.returncode == UNAVAILABLE and f"{status}, a redirect to {other.url}/tasks" in done.err
        assert other.requests == []
    finally:
        other.close()


@pytest.mark.parametrize("url, text", [
    ("http://198.51.100.1/api", "without https"), ("ftp://127.0.0.1/", "scheme"), ("api", "not a URL"),
    ("http://127.0.0.1.example/", "without https"), ("http://localhost@198.51.100.1/", "without https")])
def test_key_over_plain_http(reconcile, api, url, text):
    done = reconcile("--api", url)
    assert done.returncode == USAGE and text in done.err and api.requests == []
    assert reconcile(API=url).returncode == CONFIG


def make_certificate(folder):
    certificate, key = str(folder / "certificate.pem"), str(folder / "key.pem")
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
                    "-days", "1", "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost",
                    "-keyout", key, "-out", certificate], check=True, capture_output=True)
    return certificate, key


def test_tls(reconcile, tmp_path, database, put):
    """A wrong certificate ends it at once, and the key is not sent."""
    certificate, key = make_certificate(tmp_path)
    put("task_1", *LIFE[:3])
    secure = HumcliApi(certificate, key)
    secure.put("task_1", "CANCELLED")
    try:
        for url in (secure.url, secure.url.replace("localhost", "127.0.0.1")):
            arguments = ["--cacert", certificate] if "127" in url else []
            done = reconcile("--api", url, *arguments)
            assert done.returncode == UNAVAILABLE and "no answer of HumCLI: SSL" in done.err, done.err
        assert secure.requests == []
        assert reconcile("--api", secure.url, "--cacert", certificate).returncode == OK
        assert tasks(database) == {"task_1": "CANCELLED"}
    finally:
        secure.close()


def test_nobody_answers(reconcile, put):
    put("task_1", *LIFE[:3])
    done = reconcile("--api", "http://127.0.0.1:1/", "--timeout", "1s")
    assert done.returncode == UNAVAILABLE and "no answer of HumCLI" in done.err


def test_pages(reconcile, api, database):
    """All pages, each task once."""
    for number in range(350):
        api.put(f"task_{number}", "SUBMITTED")
    fill(database, [f"task_{number}" for number in range(350) if number % 50], "SUBMITTED")
    fill(database, [f"task_{number}" for number in range(0, 350, 50)], "ACCEPTED")
    done = reconcile()
    assert done.returncode == OK and done.out.count("ACCEPTED -> SUBMITTED") == 7
    assert sum("status=SUBMITTED" in path for path, _ in api.requests) == 4
    assert last_run(database)[:3] == (18, 350, 7)


def test_pages_shift(reconcile, api, database):
    """Tasks leave the list while it is read: none of those that stay is
    overlooked, so only those that left are asked for by their ids."""
    names = [f"task_{number:03}" for number in range(250)]
    for name in names:
        api.put(name, "SUBMITTED")
    fill(database, names, "SUBMITTED")
    gone = iter(names[::10])
    pages = []

    def shift(query):
        if query["status"] == ["SUBMITTED"]:
            pages.append(query)
            for task in (next(gone), next(gone)) if len(pages) < 4 else ():
                api.put(task, "COMPLETED")

    api.after_page = shift
    done = reconcile()
    assert (done.returncode, done.err) == (OK, "") and len(pages) > 3
    asked = {path.rpartition("/")[2] for path, _ in api.requests if "status=" not in path}
    assert asked <= {task for task, (_, status) in api.tasks.items() if status == "COMPLETED"}
    assert len(asked) <= 6


def test_pages_never_rest(reconcile, api, put):
    """A list that always changes: no open task of it is judged."""
    put("task_1", *LIFE[:3])
    for number in range(150):
        api.put(f"task_x{number:03}", "PENDING")
    number = iter(range(1000))
    api.after_page = lambda query: api.put(f"task_y{next(number)}", "PENDING")
    done = reconcile()
    assert done.returncode == UNAVAILABLE and "changes while it is read" in done.err
    assert not any("/task_1" in path for path, _ in api.requests)


def test_a_webhook_on_its_way(reconcile, api, database, put):
    """It arrives before the second look: nothing was missed."""
    put("task_1", *LIFE[:3])
    api.put("task_1", "IN_PROGRESS")
    api.before_task = lambda task: put("task_1", *LIFE[2:4], start=5)
    done = reconcile()
    assert (done.returncode, done.out) == (OK, "")
    assert events(database, "task_1")[-1][0] == "task.status_changed" and last_run(database)[2] == 0


def test_webhooks_at_random_moments(reconcile, api, database, connection, rng):
    """A webhook of each of 50 tasks, at a random moment of the run: one event
    of it, and no second reading."""
    names = [f"task_{number}" for number in range(50)]
    record(connection, [Delivery(name, "SUBMITTED", None, at(0)) for name in names])
    for name in names:
        api.put(name, "COMPLETED")
    threads = []
    other = database.connect()
    lock = threading.Lock()

    def deliver(name, pause):
        time.sleep(pause)
        with lock:
            record(other, [Delivery(name, "COMPLETED", "SUBMITTED", at(9))])

    def start(name):
        threads.append(threading.Thread(target=deliver, args=(name, rng.random() * 0.012)))
        threads[-1].start()

    api.before_task = start
    assert reconcile().returncode == OK
    for thread in threads:
        thread.join()
    other.close()
    assert reconcile().out == ""
    rows = database.execute("SELECT task_id, array_agg(event ORDER BY id) FROM humcli.events"
                            " WHERE status = 'COMPLETED' GROUP BY task_id")
    assert len(rows) == 50 and len(threads) == 50
    assert {tuple(found) for _, found in rows} <= {
        ("task.status_changed",), ("api.status_read", "task.status_changed")}
    assert database.execute("SELECT 1 FROM humcli.gaps") == []


def test_one_run_at_a_time(reconcile, keys, api):
    folder = os.open(keys, os.O_RDONLY)
    try:
        fcntl.flock(folder, fcntl.LOCK_EX)
        done = reconcile()
        assert done.returncode == LATER and "another run is active" in done.err and api.requests == []
    finally:
        os.close(folder)
    assert reconcile().returncode == OK


def test_bad_keys(reconcile, keys, api):
    """The rules for secrets hold for keys, and a key fits into a header."""
    for key, mode, text in (("hk_main", 0o644, "others can read it; fix: chmod"),
                            ("hk_main", 0o660, "its group can write it"), ("", 0o600, "empty"),
                            ("two words", 0o600, "is not a key"), ("a\nb", 0o600, "is not a key")):
        put_key(keys, "main", key, mode)
        done = reconcile()
        assert done.returncode == CONFIG and text in done.err and api.requests == []


def test_no_key(reconcile, keys, api):
    (keys / "main").unlink()
    done = reconcile()
    assert done.returncode == CONFIG and "holds no key" in done.err
    done = reconcile(KEY_DIR="")
    assert done.returncode == CONFIG and "HUMCLI_WEBHOOK_KEY_DIR is not set" in done.err
    done = reconcile(KEY_DIR="/nowhere/keys")
    assert done.returncode == CONFIG and "/nowhere/keys" in done.err and api.requests == []


def test_the_role(reconcile, database, put, api):
    """Without humcli_reconciler it says what helps."""
    put("task_1", *LIFE[:3])
    api.put("task_1", "CANCELLED")
    done = reconcile(DATABASE=database.dsn("only_reads"))
    assert done.returncode == NOPERM and "humcli_reconciler" in done.err, done.err


@pytest.fixture(name="ask")
def fixture_ask(cli, database):
    def run(*arguments, **settings):
        return cli(*arguments, **{"DATABASE": database.dsn(), "SPOOL": "", **settings})
    return run


def test_verbs_show_it(reconcile, ask, api, put):
    put("task_1", *LIFE[:3])
    api.put("task_1", "SUBMITTED")
    assert reconcile().returncode == OK
    put("task_1", *LIFE[4:6], start=10 ** 8)
    done = ask("task", "task_1")
    line, = [line for line in done.out.splitlines() if "SUBMITTED" in line]
    assert line.endswith("Proof submitted; read from HumCLI by reconcile, not received")
    steps = [json.loads(line) for line in ask("task", "--json", "task_1").out.splitlines()]
    assert [(step["kind"], step["status"]) for step in steps] == [
        ("event", "ESTIMATE_PENDING"), ("event", "ACCEPTED"), ("read", "SUBMITTED"), ("event", "VERIFIED")]
    gap, = [json.loads(line) for line in ask("gaps", "--json").out.splitlines()]
    assert (gap["kind"], gap["missing"], gap["status"]) == ("read", "SUBMITTED", "SUBMITTED")
    event, = [json.loads(line) for line in ask("events", "--json", "--status", "SUBMITTED",
                                               "--secret", "main").out.splitlines()]
    assert (event["event"], event["secret_name"]) == ("api.status_read", None)
    assert "api.status_read" in ask("events", "--wide").out
    assert "read from HumCLI by reconcile, not received" in ask("report").out


def test_a_consumer_gets_it(reconcile, ask, api, put):
    put("task_1", *LIFE[:3])
    api.put("task_1", "CANCELLED")
    assert reconcile().returncode == OK
    done = ask("listen", "--subscription", "agent", "--from", "beginning", "--status", "cancelled",
               "--secret", "main", "--count", "1", "--timeout", "10s")
    event = json.loads(done.out)
    assert (event["event"], event["secret"], event["payload"]["sandbox"]) == ("api.status_read", None, True)
    assert ask("unsubscribe", "agent").returncode == OK


def finding(done, topic):
    """Returns the lines of a topic."""
    return [line for line in done.out.splitlines() if line.split()[1:2] == [topic]]


def test_doctor_and_metrics(reconcile, ask, api, put, database):
    line, = finding(ask("doctor", SECRET="whsec_0123456789abcdef"), "reconcile")
    assert line.startswith("ok") and "never ran" in line
    assert "humcli_reconcile_last" not in ask("metrics").out
    put("task_1", *LIFE[:3])
    api.put("task_1", "ACCEPTED")
    assert reconcile().returncode == OK
    line, = finding(ask("doctor", SECRET="whsec_0123456789abcdef"), "reconcile")
    assert line.startswith("ok") and "recorded 0 missed events in 7 days" in line
    api.put("task_1", "CANCELLED")
    assert reconcile().returncode == OK
    line, = finding(ask("doctor", SECRET="whsec_0123456789abcdef"), "reconcile")
    assert line.startswith("warn") and "recorded 1 missed event in 7 days" in line
    out = ask("metrics").out
    assert "\nhumcli_reconcile_repaired_events 1\n" in out
    assert "\nhumcli_reconcile_last_run_timestamp_seconds 1" in out
    database.execute("UPDATE humcli.reconcile_runs SET repaired = 0, ended_at = now() - interval '2 d'")
    line, = finding(ask("doctor", SECRET="whsec_0123456789abcdef"), "reconcile")
    assert line.startswith("warn")
    api.fault = lambda request: (401, {"error": "Invalid API key"})
    assert reconcile().returncode == NOPERM
    line, = finding(ask("doctor", SECRET="whsec_0123456789abcdef"), "reconcile")
    assert line.startswith("warn") and "not whole: key main: 401 Invalid API key" in line


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_doctor_tries_the_keys(ask):
    """As the receiver's user and the web server's: nobody but the owner can
    read the keys."""
    folder = tempfile.mkdtemp(dir="/tmp")
    path = os.path.join(folder, "main")
    owner = pwd.getpwnam("daemon")

    def look(*arguments):
        done = ask("doctor", *arguments, SECRET="whsec_0123456789abcdef", KEY_DIR=folder)
        return finding(done, "keys")
    try:
        with open(path, "w", encoding="ascii") as file:
            file.write("hk_main")
        os.chmod(path, 0o600)
        line, = look()
        assert line.startswith("warn") and "belongs to root" in line
        os.chown(folder, owner.pw_uid, owner.pw_gid)
        os.chown(path, owner.pw_uid, owner.pw_gid)
        line, = look()
        assert line.startswith("ok") and "1 key of daemon; neither" in line
        assert "the user daemon can read 1 key in" in look("--user", "daemon")[0]
        os.chmod(folder, 0o711)
        os.chown(path, owner.pw_uid, pwd.getpwnam("nobody").pw_gid)
        os.chmod(path, 0o640)
        assert "the user nobody can read 1 key in" in look()[0]
        os.chmod(path, 0o604)
        assert any("others can read it; fix: chmod" in line for line in look())
        missing = ask("doctor", SECRET="whsec_0123456789abcdef", KEY_DIR=folder + "/none")
        assert "/none: No such file or directory" in finding(missing, "keys")[0]
    finally:
        shutil.rmtree(folder)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_root_becomes_the_owner(reconcile, keys, api, database, cluster):
    """Then the folder need not be readable for the receiver."""
    assert api
    folder = tempfile.mkdtemp(dir="/tmp")
    try:
        put_key(Path(folder), "main", "hk_main")
        owner = pwd.getpwnam("daemon")
        for path in (folder, os.path.join(folder, "main")):
            os.chown(path, owner.pw_uid, owner.pw_gid)
        cluster.execute("CREATE ROLE daemon LOGIN IN ROLE humcli_reconciler")
        done = reconcile(KEY_DIR=folder, DATABASE=f"host={cluster.folder} port={cluster.port} dbname={database.name}")
        assert (done.returncode, done.err) == (OK, "")
    finally:
        shutil.rmtree(folder)
        cluster.execute("DROP ROLE IF EXISTS daemon")
    assert keys


def observe(paths, api, keys, *arguments, answer="yes\n"):
    return subprocess.run([paths.source / "scripts/observe-humcli", "--key-file", keys / "main", "--api", api.url,
                           "--minutes", "0", *arguments], input=answer, capture_output=True, text=True,
                          check=False, timeout=60)


def test_observe(paths, api, keys, tmp_path):
    """It asks first, creates one free task, and shows no value."""
    done = observe(paths, api, keys, answer="no\n")
    assert done.returncode == 1 and "Nothing was sent" in done.stdout and api.requests == []
    secret = tmp_path / "secret"
    secret.write_text("whsec_of_observe")
    api.put("task_1", "PENDING", accepted_at="2026-03-01T12:00:00.000Z")
    done = observe(paths, api, keys, "--callback", "https://agent.example/humcli", "--secret-file", secret)
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    assert [(task["reward_usd"], task["callback_secret"]) for task in api.created] == [(0, "whsec_of_observe")]
    for line in ("data[].task_id: string (6 bytes)", "pagination.total: integer", "sandbox: boolean",
                 "created_at: string (time 9999-99-99T99:99:99.999Z)", "status: string (CAPITALS)",
                 "  status 404", "  status 401", "error: string"):
        assert line in done.stdout, line
    for value in ("hk_main", "whsec", "Photograph", "op_1"):
        assert value not in done.stdout
    deliveries = tmp_path / "deliveries"
    deliveries.write_text('{"payload": {"task_id": "task_9", "previous_status": null}}\n')
    done = observe(paths, api, keys, "--deliveries", deliveries)
    assert "task_id: string (6 bytes)\nprevious_status: null\n" in done.stdout


def test_observe_deliveries(paths, cli, tmp_path):
    """The headers and the shape of a delivery, without its values."""
    # pylint: disable-next=consider-using-with
    process = subprocess.Popen([paths.source / "scripts/observe-humcli", "--listen", "0"], stdout=subprocess.PIPE,
                               text=True)
    try:
        port = process.stdout.readline().split("port ")[1].split(";")[0]
        done = cli("send", "--task-id", "task_test_x", f"http://127.0.0.1:{port}/", SECRET="whsec_of_observe")
        assert done.returncode == OK, done.err
        process.send_signal(signal.SIGINT)
        out = process.communicate(timeout=20)[0]
    finally:
        process.kill()
        process.wait()
    assert "X-Signature: 64 bytes" in out and "Content-Type: application/json" in out
    assert "X-Timestamp: time 9999-99-99T99:99:99.999Z" in out and "status: string (CAPITALS)" in out
    assert "task_test_x" not in out and tmp_path


def test_observe_needs_the_sandbox(paths, api, keys):
    api.fault = lambda request: (200, {"data": [], "pagination": {"limit": 1, "offset": 0, "total": 0}})
    done = observe(paths, api, keys)
    assert done.returncode == 1 and "Nothing was created" in done.stdout and api.created == []
    done = observe(paths, api, keys, "--api", "http://api.example/")
    assert done.returncode == 64 and "without https" in done.stderr


def lives(rng, count):
    """Returns lives: (task, its statuses so far), with rejected estimates and
    every end."""
    for number in range(count):
        life = ["PENDING"]
        for _ in range(rng.choice((0, 0, 0, 1, 2))):
            life += ["ESTIMATE_PENDING", "PENDING"]
        life += rng.choice((
            ["ESTIMATE_PENDING", "ACCEPTED", "IN_PROGRESS", "SUBMITTED", "VERIFIED", "COMPLETED"],
            ["ESTIMATE_PENDING", "ACCEPTED", "IN_PROGRESS", "SUBMITTED", "MANUAL_REVIEW", "DISPUTED"],
            ["ESTIMATE_PENDING", "CANCELLED"], ["CANCELLED"], ["ESTIMATE_PENDING", "ACCEPTED", "CANCELLED"]))
        yield f"task_{number}", life[:rng.randint(2, len(life))]


def test_lost_webhooks(reconcile, api, database, connection, rng):
    """Property: 30 % of the webhooks of 200 lives are lost; after one run each
    task has HumCLI's status. Only a task that ended unheard of is unknown."""
    deliveries, truth, heard = [], {}, set()
    for task, life in lives(rng, 200):
        start = rng.random() * 1000
        truth[task] = life[-1]
        api.put(task, life[-1])
        for i, (previous, status) in enumerate(zip(life, life[1:])):
            if rng.random() >= 0.3:
                heard.add(task)
                deliveries.append(Delivery(task, status, previous, at(start + i * 700)))
    rng.shuffle(deliveries)
    record(connection, deliveries)
    done = reconcile()
    assert (done.returncode, done.err) == (OK, "")
    found = tasks(database)
    for task, status in truth.items():
        if task not in heard and status in TERMINAL:
            assert task not in found
        else:
            assert found.get(task, "PENDING") == status, task
    assert reconcile().out == ""
    # what was lost arrives after all: nothing is a duplicate, and no status changes
    assert {kind for kind, in database.execute("SELECT DISTINCT kind FROM humcli.gaps")} <= {"read", "hole", "start"}
