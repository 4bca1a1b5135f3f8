"""The shipped set-ups, as they are installed, each behind its web server."""

import concurrent.futures
import contextlib
import json
import os
import re
import signal
import socket
import ssl
import subprocess
import threading
import time
import warnings

import pytest

from harness import web_server_setups
from harness.apache import Apache
from harness.apache import Apache
from harness.postgres import Database, wait_until
from harness.responder import event, sign, task_of
from harness.systemd import read_unit
from harness.webserver import Client

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
    """Returns a function that starts a set-up at its first use. The set-up
    serves all tests."""
    started = {}

    def get(name):
        if name not in started:
            started[name] = web_server_setups.make(name, paths, store.dsn())
        return started[name]

    yield get
    for setup in started.values():
        setup.close()


@pytest.fixture(params=web_server_setups.SETUPS)
def setup(request, running):
    it = running(request.param)
    yield it
    print(it.logs())    # shown with a test that failed


def only(*names):
    return pytest.mark.parametrize("setup", names, indirect=True)


def sized(size):
    """Returns an event of that many bytes."""
    body = event()[:-1].decode()
    return (body + PADDING.format("x" * (size - len(body) - len(PADDING.format(""))))).encode()


def recorded(store, bodies):
    """Returns the bodies that are recorded, sorted."""
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


def test_request_id(setup):
    """nginx and Caddy give each request an id; the others pass a header on."""
    found = []
    for sent in ("trace-1", "trace-2"):
        body = event()
        check(setup.server.https.post(body, more=[("X-Request-Id", sent)]), 200, RECEIVED)
        line = wait_until(lambda body=body: [line for line in setup.responder_log().splitlines()
                                             if task_of(body) in line], "the line of the log")[0]
        found.append(re.search(r"request_id=(\S+)", line)[1])
    if setup.name in ("nginx", "caddy"):
        assert len(set(found)) == 2 and all(re.fullmatch("[0-9a-f-]{32,36}", each) for each in found)
    else:
        assert found == ["trace-1", "trace-2"]


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


@pytest.mark.parametrize("query", ["agent-1", "--check-config", "--listen+127.0.0.1:1", "a=b&c"])
def test_query(setup, query):
    """A query changes nothing. Under CGI one without a '=' becomes arguments."""
    url = setup.server.https
    client = Client(url.port, f"{url.url}?{query}", url.tls)
    check(client.post(event()), 200, RECEIVED)


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


# Without a length lighttpd (1.4.69) refuses by itself, and mod_fcgid passes an
# empty record, which ends the body, ahead of it.
HTTP2_UNSIZED = {"apache-fcgid": {400}, "lighttpd-socket": {200, 411},
                 "lighttpd-spawn": {200, 411}, "lighttpd-cgi": {200, 411}}


def post_http2(server, body, folder, *options):
    """The status and the text of the answer to a webhook over HTTP/2."""
    file = folder / "body"
    file.write_bytes(body)
    done = subprocess.run(
        ["nghttp", "--verbose", "--data", file, *options,
         "--header", "content-type: application/json",
         "--header", f"x-signature: {sign(body)}",
         f"https://localhost:{server.https.port}{server.https.url}"],
        capture_output=True, text=True, timeout=30, check=True)
    assert "negotiated protocol: h2" in done.stdout, done.stdout
    return int(re.search(r":status: (\d+)", done.stdout)[1]), done.stdout


@pytest.fixture(name="http2_setup", params=web_server_setups.SETUPS)
def _http2_setup(request, running, monkeypatch, paths, store):
    """The same set-ups; an Apache of its own, with mod_http2."""
    if not request.param.startswith("apache"):
        yield running(request.param)
        return
    monkeypatch.setattr(Apache, "http2", True)
    it = web_server_setups.make(request.param, paths, store.dsn())
    yield it
    print(it.logs())
    it.close()


def test_http2(http2_setup, store, tmp_path):
    body = event()
    status, text = post_http2(http2_setup.server, body, tmp_path)
    assert (status, RECEIVED.decode() in text) == (200, True), text
    assert recorded(store, [body]) == [body]


def test_http2_without_a_length(http2_setup, store, tmp_path):
    """HTTP/2 has no chunks; a body without a length just ends."""
    body = event()
    status, text = post_http2(http2_setup.server, body, tmp_path, "--no-content-length")
    assert "] send HEADERS" in text and "content-length: " not in text.split("recv (")[0]
    assert status in HTTP2_UNSIZED.get(http2_setup.name, {200}), text
    assert recorded(store, [body]) == ([body] if status == 200 else [])


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
    """Plain HTTP is refused and not redirected, because a redirect loses the
    body. Apache's document root redirects all other paths."""
    body = event()
    for answer in (setup.server.http.post(body), setup.server.http.get("/health"),
                   setup.server.http.get("")):
        assert answer.status == 403, answer
        assert answer.headers["Location"] is None, answer
    assert recorded(store, [body]) == []


def test_neighbours_are_left_alone(setup):
    """A path that only begins with ours is not passed to the receiver."""
    answer = setup.server.https.get("x")
    assert b'{"error"' not in answer.body, answer


@pytest.mark.parametrize("name", web_server_setups.SETUPS)
def test_database_down(name, paths, tmp_path):
    setup = web_server_setups.make(name, paths, f"host={tmp_path} dbname=none user=none")
    try:
        answer = check(setup.server.https.post(event()), 503)
        assert answer.headers["Retry-After"] == "30"
        check(setup.server.https.get("/health"), 503, b'{"status":"unavailable"}')
    finally:
        print(setup.logs())
        setup.close()


class Prefork(Apache):
    """Apache of a host whose PHP wants mpm_prefork: mod_cgi in mod_cgid's place."""

    def modules_loaded(self, modules):
        return [{"mpm_event": "mpm_prefork", "cgid": "cgi"}.get(name, name) for name in modules
                if name != "http2"]


def test_cgi_without_its_daemon(paths, store):
    """The sample for CGI also loads where mod_cgi serves it."""
    class Setup(web_server_setups.Started):
        def start(self, paths, kind, sample):
            super().start(paths, Prefork, sample)
    setup = Setup(paths, store.dsn(), Apache, "cgi.conf")
    with contextlib.closing(setup):
        assert setup.server.https.post(event()).status == 200, setup.logs()


def test_htaccess_for_fastcgi(paths, store):
    setup = web_server_setups.Hosted(paths, store.dsn(), web_server_setups.HostedFastCGI,
                                     "htaccess")
    try:
        body = event()
        check(setup.server.https.post(body), 200, RECEIVED)
        check(setup.server.https.post(body), 200, DUPLICATE)
        check(setup.server.https.post(sized(70_000)), 413)
        check(setup.server.https.get("/health"), 200, b'{"status":"ok"}')
        assert setup.server.http.post(body).status == 403
        assert recorded(store, [body]) == [body]
        assert "serves FastCGI" in setup.responder_log()
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
    """Apache answers 413 by itself, and the responder does not see the
    request."""
    before = setup.responder_log()
    answer = setup.server.https.request("POST", "", [("Content-Type", "application/json")],
                                        [b"x"], 2 << 20)
    assert answer.status == 413
    assert setup.responder_log() == before


@only("apache-proxy_fcgi")
def test_a_front_controller_has_the_rest(setup):
    """The rules of the document root apply to all paths except ours."""
    assert setup.server.https.get("/../other").body == b"the front controller\n"


@only("apache-proxy_fcgi", "lighttpd-socket")
@pytest.mark.parametrize("version", ["TLSv1_1", "TLSv1_2", "TLSv1_3"])
def test_tls_versions(setup, version):
    # Security level 0, so that the server refuses the old version and not the
    # client.
    context = ssl.create_default_context(cafile=setup.server.certificate)
    context.set_ciphers("ALL:@SECLEVEL=0")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        context.minimum_version = context.maximum_version = ssl.TLSVersion[version]
    client = Client(setup.server.tls_port, setup.server.https.url, context)
    if version == "TLSv1_1":
        with pytest.raises(ssl.SSLError, match="alert protocol version"):
            client.get("/health")
    else:
        check(client.get("/health"), 200, b'{"status":"ok"}')


def test_sender_that_leaves(setup, store):
    """A client that leaves after half a body records nothing and stops
    nothing."""
    body = event()
    client = setup.server.https
    with client.tls.wrap_socket(socket.create_connection(("localhost", client.port), 10),
                                server_hostname="localhost") as connection:
        connection.sendall(f"POST {client.url} HTTP/1.1\r\nHost: localhost\r\n"
                           f"Content-Type: application/json\r\nX-Signature: {sign(body)}\r\n"
                           f"Content-Length: {len(body)}\r\n\r\n".encode() + body[:-1])
    check(client.post(body), 200, RECEIVED)
    assert recorded(store, [body]) == [body]


@only("lighttpd-socket", "lighttpd-spawn", "lighttpd-cgi")
def test_underscore_is_no_second_signature(setup, store):
    """X_Signature is no second signature. lighttpd before 1.4.83 passes it as
    one; then the request is refused."""
    body = event()
    answer = setup.server.https.request("POST", "", [
        ("Content-Type", "application/json"), ("X-Signature", sign(body)),
        ("X_Signature", sign(body, "whsec_other"))], [body], len(body))
    assert answer.status in (400, 401)
    assert recorded(store, [body]) == []


class Load:
    """Clients that send one event after the other until the end of the
    block."""

    def __init__(self, client, senders=4):
        self.client = client
        self.done = []
        self.enough = threading.Event()
        self.pool = concurrent.futures.ThreadPoolExecutor(senders)
        self.senders = [self.pool.submit(self.send) for _ in range(senders)]

    def send(self):
        while not self.enough.is_set():
            body = event()
            self.done.append((body, self.client.post(body)))

    def __enter__(self):
        wait_until(lambda: len(self.done) > 20, "the load to run")
        return self

    def __exit__(self, *_):
        self.enough.set()
        self.pool.shutdown()

    def check(self, store):
        for sender in self.senders:
            sender.result()
        bodies = [body for body, _ in self.done]
        for _, answer in self.done:
            check(answer, 200, RECEIVED)
        assert recorded(store, bodies) == sorted(bodies)


@only("apache-proxy_fcgi", "lighttpd-socket")
def test_service_restart_loses_nothing(setup, store):
    with Load(setup.server.https) as load:
        for _ in range(3):
            assert setup.service.stop() == 0
            setup.service.start()
            sent = len(load.done)
            wait_until(lambda sent=sent: len(load.done) > sent + 20, "the load to go on")
    load.check(store)


@only("apache-proxy_fcgi")
def test_graceful_restart_loses_nothing(setup, store):
    """A graceful restart loses no request. mod_fcgid and mod_cgid are left
    out, as their samples say: their daemon ends first, and a request to it
    is lost."""
    ready = "resuming normal operations"
    restarts = setup.server.log().count(ready)
    with Load(setup.server.https) as load:
        setup.server.process.send_signal(signal.SIGUSR1)
        wait_until(lambda: setup.server.log().count(ready) > restarts, "Apache to be back")
        sent = len(load.done)
        wait_until(lambda: len(load.done) > sent + 20, "the load to go on")
    load.check(store)


@contextlib.contextmanager
def in_flight(setup, store):
    """Sends a request that waits for a lock in the database. Yields the body, a
    function that releases the lock, and one that returns the answer."""
    body = event()
    with contextlib.closing(store.connect()) as connection, \
            concurrent.futures.ThreadPoolExecutor(1) as pool:
        connection.autocommit = False
        with connection.cursor() as cursor:
            cursor.execute("LOCK TABLE humcli.events IN EXCLUSIVE MODE")
        answer = pool.submit(setup.server.https.post, body)
        wait_until(lambda: store.execute(
            "SELECT 1 FROM pg_locks JOIN pg_database d ON d.oid = database"
            " WHERE NOT granted AND datname = current_database()"), "a request in flight")
        yield body, connection.rollback, answer.result


@only("lighttpd-spawn", "lighttpd-socket", "lighttpd-cgi")
def test_lighttpd_reload_with_a_request_in_flight(setup, store):
    with in_flight(setup, store) as (body, release, answer):
        begun = time.monotonic()
        reloads = setup.server.log().count("graceful shutdown started")
        setup.server.process.send_signal(signal.SIGUSR1)
        wait_until(lambda: setup.server.log().count("graceful shutdown started") > reloads,
                   "lighttpd to see the signal")
        release()
        check(answer(), 200, RECEIVED)
    assert recorded(store, [body]) == [body]
    check(setup.server.https.post(event()), 200, RECEIVED)
    assert time.monotonic() - begun < 10


@only("lighttpd-spawn")
def test_lighttpd_reload_while_the_database_hangs(setup, store):
    """lighttpd waits for the responder without a time limit."""
    with in_flight(setup, store) as (body, release, answer):
        begun = time.monotonic()
        setup.server.process.send_signal(signal.SIGUSR1)
        check(answer(), 503)
        check(setup.server.https.request("PUT"), 405)
        assert time.monotonic() - begun < 10
        release()
    # PostgreSQL may commit what the ended responder asked for, or see first that
    # it is gone. The second delivery helps in both cases.
    answer = setup.server.https.post(body)
    assert answer.status == 200 and answer.body in (RECEIVED, DUPLICATE), answer
    assert recorded(store, [body]) == [body]


@only("apache-proxy_fcgi", "apache-fcgid", "apache-cgi")
def test_graceful_restart_with_a_request_in_flight(setup, store):
    ready = "resuming normal operations"
    restarts = setup.server.log().count(ready)
    seen = setup.server.log().count("graceful restart")
    stops = setup.responder_log().count("signal 15")
    with in_flight(setup, store) as (body, release, answer):
        setup.server.process.send_signal(signal.SIGUSR1)
        wait_until(lambda: setup.server.log().count("graceful restart") > seen,
                   "Apache to see the signal")
        release()
        check(answer(), 200, RECEIVED)
    assert recorded(store, [body]) == [body]
    wait_until(lambda: setup.server.log().count(ready) > restarts, "Apache to be back")
    if setup.name == "apache-fcgid":
        wait_until(lambda: setup.responder_log().count("signal 15") > stops,
                   "mod_fcgid to end its processes")
    check(setup.server.https.post(event()), 200, RECEIVED)


# systemd does not run here; systemd-analyze checks the units offline.

@pytest.fixture(name="units")
def _units(paths):
    return [paths.stage / "lib/systemd/system" / f"humcli-webhook.{kind}"
            for kind in ("socket", "service")]


def test_units_are_valid(units, paths, tmp_path):
    units = [*units, *(units[0].parent / f"humcli-webhook-{name}.{kind}"
                       for name in ("doctor", "reconcile") for kind in ("service", "timer"))]
    copies = [tmp_path / unit.name for unit in units]
    for unit, copy in zip(units, copies):
        copy.write_text(unit.read_text().replace("/usr/local", str(paths.stage)))
    done = subprocess.run(["systemd-analyze", "verify", "--man=no", *copies],
                          capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_services_are_hardened(units):
    for unit in units[1], units[1].with_name("humcli-webhook-reconcile.service"):
        done = subprocess.run(["systemd-analyze", "security", "--offline=true", "--threshold=20",
                               unit], capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr


def test_socket_is_private(units):
    unit = read_unit(units[0])["Socket"]
    assert unit["SocketMode"] == "0660"
    assert unit["ListenStream"].startswith("/run/")
    assert unit["Backlog"] == "1024"
