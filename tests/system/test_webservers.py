"""The shipped set-ups, as they are installed, each behind the real server."""

import json
import os
import signal
import ssl
import subprocess
import threading
import time

import pytest

from harness import setups
from harness.postgres import Database, wait_until
from harness.responder import event, sign, task_of
from harness.systemd import read_unit

RECEIVED = b'{"received":true}'
DUPLICATE = b'{"received":true,"duplicate":true}'
PADDING = ',"note":"{}"}}'


@pytest.fixture(scope="module")
def store(cluster, template):
    name = cluster.create_database(template=template)
    yield Database(cluster, name)
    cluster.drop_database(name)


@pytest.fixture(scope="module")
def running(paths, store):
    """Each set-up is started when first asked for, and serves all tests."""
    started = {}

    def get(name):
        if name not in started:
            started[name] = setups.make(name, paths, store.dsn())
        return started[name]

    yield get
    for setup in started.values():
        setup.close()


@pytest.fixture(params=setups.SETUPS)
def setup(request, running):
    it = running(request.param)
    yield it
    print(it.logs())    # shown with a test that failed


def only(*names):
    return pytest.mark.parametrize("setup", names, indirect=True)


def sized(size):
    """An event of that many bytes."""
    body = event()[:-1].decode()
    return (body + PADDING.format("x" * (size - len(body) - len(PADDING.format(""))))).encode()


def recorded(store, bodies):
    """Those of them that stand in the table, byte by byte."""
    rows = store.execute("SELECT payload::text FROM humcli.events WHERE task_id IN ("
                         + ",".join(f"'{task_of(body)}'" for body in bodies) + ")")
    return sorted(row[0].encode() for row in rows)


def check(answer, status, body=None):
    assert answer.status == status, answer
    assert answer.headers["Content-Type"] == "application/json", answer
    assert answer.headers["Cache-Control"] == "no-store", answer
    assert answer.headers["Location"] is None, answer
    if body is not None:
        assert answer.body == body, answer
    else:
        assert list(json.loads(answer.body)) == ["error"], answer
    return answer


def test_recorded_once(setup, store):
    body = event()
    check(setup.server.https.post(body), 200, RECEIVED)
    check(setup.server.https.post(body), 200, DUPLICATE)
    assert recorded(store, [body]) == [body]


def test_bad_signature(setup, store):
    body = event()
    answer = check(setup.server.https.post(body, [sign(body, "whsec_other")]), 401)
    assert answer.body == b'{"error":"Invalid signature"}'
    assert recorded(store, [body]) == []


def test_two_signatures(setup, store):
    body = event()
    check(setup.server.https.post(body, [sign(body), sign(body)]), 401)
    check(setup.server.https.post(body, [sign(body), sign(body, "whsec_other")]), 401)
    assert recorded(store, [body]) == []


@pytest.mark.parametrize("chunked", [False, True], ids=["sized", "chunked"])
@pytest.mark.parametrize("size", [70_000, 200_000, 900_000])
def test_oversize(setup, store, size, chunked):
    body = sized(size)
    check(setup.server.https.post(body, chunked=chunked), 413)
    assert recorded(store, [body]) == []


@pytest.mark.parametrize("chunked", [False, True], ids=["sized", "chunked"])
def test_largest(setup, store, chunked):
    body = sized(64 * 1024)
    check(setup.server.https.post(body, chunked=chunked), 200, RECEIVED)
    assert recorded(store, [body]) == [body]


def test_chunked(setup, store):
    body = event()
    check(setup.server.https.post(body, chunked=True), 200, RECEIVED)
    assert recorded(store, [body]) == [body]


def test_empty_body(setup):
    check(setup.server.https.post(b""), 400)
    check(setup.server.https.post(b"", ["0" * 64]), 401)


def test_64_at_once(setup, store):
    bodies = [event() for _ in range(64)]
    for answer in setup.server.https.post_all(bodies):
        check(answer, 200, RECEIVED)
    assert recorded(store, bodies) == sorted(bodies)


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "OPTIONS", "PATCH"])
def test_wrong_method(setup, method):
    answer = check(setup.server.https.request(method), 405)
    assert answer.headers["Allow"] == "POST"


def test_wrong_method_with_a_body(setup):
    body = sized(60_000)
    answer = check(setup.server.https.request(
        "PUT", headers=[("Content-Type", "application/json")], body=[body],
        length=len(body)), 405)
    assert answer.headers["Allow"] == "POST"


def test_health(setup):
    check(setup.server.https.get("/health"), 200, b'{"status":"ok"}')
    check(setup.server.https.request("HEAD", "/health"), 200, b"")


def test_plain_http_is_refused(setup, store):
    """And not redirected, which would lose the body: also beside a document
    root that redirects (Apache's)."""
    body = event()
    for answer in (setup.server.http.post(body), setup.server.http.get("/health"),
                   setup.server.http.get("")):
        assert answer.status == 403, answer
        assert answer.headers["Location"] is None, answer
    assert recorded(store, [body]) == []


def test_neighbours_are_left_alone(setup):
    """A path that only begins alike is not ours."""
    answer = setup.server.https.get("x")
    assert b'{"error"' not in answer.body, answer


@pytest.mark.parametrize("name", setups.SETUPS)
def test_database_down(name, paths, tmp_path):
    setup = setups.make(name, paths, f"host={tmp_path} dbname=none user=none")
    try:
        answer = check(setup.server.https.post(event()), 503)
        assert answer.headers["Retry-After"] == "30"
        check(setup.server.https.get("/health"), 503, b'{"status":"unavailable"}')
    finally:
        print(setup.logs())
        setup.close()


@only("apache-htaccess")
def test_the_rest_of_the_folder_is_nobodys(setup):
    path = setup.server.path("www", "humcli", "secret.txt")
    with open(path, "w", encoding="ascii") as file:
        file.write("secret")
    os.chmod(path, 0o644)
    connection = setup.server.https.connect()
    for name in ("secret.txt", ".htaccess", ""):
        connection.request("GET", f"/humcli/{name}")
        response = connection.getresponse()
        assert response.status == 403, name
        assert b"secret" not in response.read()
    connection.close()


@only("apache-proxy_fcgi")
def test_announced_beyond_all_sense(setup):
    """Apache's own 413: the responder never sees it."""
    before = setup.responder_log()
    answer = setup.server.https.request("POST", "", [("Content-Type", "application/json")],
                                        [b"x"], 2 << 20)
    assert answer.status == 413
    assert setup.responder_log() == before
