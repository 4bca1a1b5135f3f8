"""humcli-webhook probe against each shipped set-up, against HumCLI's sample,
and against receivers with one fault each."""

import contextlib
import hashlib
import hmac
import http.server
import json
import subprocess
import threading

import pytest

from harness import web_server_setups
from harness.postgres import wait_until
from harness.responder import SECRET
from harness.webserver import free_port

OK, NEGATIVE, USAGE, NO_INPUT, UNAVAILABLE = 0, 1, 64, 66, 69


class Probe:
    def __init__(self, paths, folder):
        self.program = str(paths.stage / "bin/humcli-webhook")
        self.secret = folder / "secret"
        self.secret.write_text(SECRET)
        self.secret.chmod(0o600)

    def run(self, *arguments):
        return subprocess.run([self.program, "probe", *map(str, arguments)], timeout=300,
                              capture_output=True, text=True, check=False, env={})

    def __call__(self, *arguments):
        return self.run("--secret-file", self.secret, *arguments)

    def rows(self, *arguments):
        """Runs probe; returns the results by group/name, and the exit code."""
        done = self("--json", *arguments)
        assert done.stderr == ""
        rows = [json.loads(line) for line in done.stdout.splitlines()]
        return {f"{row['group']}/{row['name']}": row for row in rows}, done.returncode


@pytest.fixture
def probe(paths, tmp_path):
    return Probe(paths, tmp_path)


def failed(rows):
    return {name for name, row in rows.items() if row["result"] == "FAIL"}


# ---- the shipped set-ups


@pytest.mark.parametrize("name", web_server_setups.SETUPS)
def test_our_setups(paths, database, probe, name):
    setup = web_server_setups.make(name, paths, database.dsn())
    with contextlib.closing(setup):
        web = setup.server
        url = f"https://localhost:{web.tls_port}{web.https.url}"
        plain = f"http://localhost:{web.plain_port}{web.https.url}"
        done = probe("--cacert", web.certificate, "--http", plain, url)
        print(done.stdout, done.stderr, setup.logs())
        assert done.returncode == OK
        assert " 0 failed, 0 warnings" in done.stdout
        # each status of the life with a loop, without redeliveries
        life = database.execute("SELECT status FROM humcli.events WHERE task_id LIKE '%_life'"
                                " ORDER BY occurred_at")
        assert [row[0] for row in life].count("ESTIMATE_PENDING") == 3
        assert database.execute("SELECT count(*) FROM humcli.events"
                                " WHERE task_id LIKE '%_again'") == [(2,)]
        # a second run uses other tasks
        before = database.execute("SELECT count(*) FROM humcli.events")[0][0]
        rows, code = probe.rows("--cacert", web.certificate, url)
        assert code == OK and not failed(rows)
        assert "https/plain-http" not in rows
        assert database.execute("SELECT count(*) FROM humcli.events")[0][0] == 2 * before


# ---- HumCLI's sample

FLASK = '''\
import hashlib
import hmac
import sys
from flask import Flask, request

app = Flask(__name__)
SECRET = sys.argv[1]


def verify_webhook(body: bytes, signature: str, secret: str) -> bool:
    expected = hmac.new(secret.encode("utf-8"), body, hashlib.sha256).hexdigest()
    return hmac.compare_digest(expected, signature)


@app.route("/webhooks/humcli", methods=["POST"])
def handle_webhook():
    signature = request.headers.get("X-Signature", "")
    body = request.get_data()
    if not verify_webhook(body, signature, SECRET):
        return {"error": "Invalid signature"}, 401
    payload = request.get_json()
    task_id = payload["task_id"]
    status = payload["status"]
    print(task_id, status)
    return {"received": True}, 200


app.run("127.0.0.1", int(sys.argv[2]))
'''


def test_the_sample_of_humcli(probe, tmp_path):
    """The sample belongs to HumCLI. probe shows its faults, and the test checks
    only the judgement."""
    script = tmp_path / "sample.py"
    script.write_text(FLASK)
    port = free_port()
    with open(tmp_path / "log", "wb") as log, subprocess.Popen(
            ["/usr/bin/python3", script, SECRET, str(port)], stdout=log, stderr=log) as sample:
        try:
            wait_until(lambda: b"Running on" in (tmp_path / "log").read_bytes(),
                       "the sample to listen")
            rows, code = probe.rows(f"http://127.0.0.1:{port}/webhooks/humcli")
        finally:
            sample.terminate()
    for name, row in rows.items():
        if row["fault"]:
            print(f"{row['result']} {name}: {row['status']}, {row['fault']}")
    assert code == NEGATIVE
    assert rows["events/documented"]["result"] == "ok"
    assert rows["signatures/last-bit-wrong"]["status"] == 401
    assert failed(rows) == {"https/url"}, "HumCLI's sample has changed its ways, or probe has"
    # the sample answers an error of its own if the signature is wrong
    assert rows["hostile/no-task-id"] == {**rows["hostile/no-task-id"], "result": "warn",
                                          "status": 500}


# ---- receivers with a fault


class Receiver(http.server.BaseHTTPRequestHandler):
    """A correct receiver in few lines; `fault` adds a fault."""

    protocol_version = "HTTP/1.1"
    fault = ""
    seen = None

    def log_message(self, *_):
        pass

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        status = self.judge(body, self.headers.get("X-Signature", ""))
        self.send_response(status)
        if status == 301:
            self.send_header("Location", "https://elsewhere.example/")
        self.send_header("Content-Length", "0")
        self.end_headers()

    def judge(self, body, given):
        if self.fault in ("redirect", "wrong path"):
            return 301 if self.fault == "redirect" else 404
        signed = body
        try:
            payload = json.loads(body)
            if self.fault == "serialises":
                signed = json.dumps(payload).encode()
        except (ValueError, RecursionError):
            if self.fault == "parses first":
                return 400
            payload = None
        right = hmac.new(SECRET.encode(), signed, hashlib.sha256).hexdigest()
        if self.fault == "prefix compared":
            right = given if given and right.startswith(given[:63]) else right
        if self.fault != "takes all" and given != right:
            return 401
        return self.consider(payload)

    def consider(self, payload):
        if not isinstance(payload, dict) or not isinstance(payload.get("task_id"), str) \
                or not isinstance(payload.get("status"), str):
            return 422
        key = payload["task_id"], payload["status"]
        if self.fault == "knows statuses" and payload["status"].startswith("ON_HOLD"):
            return 422
        if self.fault == "conflicts" and key in self.seen:
            return 409
        self.seen.add(key)
        return 200


@contextlib.contextmanager
def receiver(fault):
    handler = type("Faulty", (Receiver,), {"fault": fault, "seen": set()})
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/hook"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


NOT_HTTPS = {"https/url"}


@pytest.mark.parametrize("fault, found", [
    ("", set()),
    ("serialises", {"events/escaped", "events/pretty-printed"}),
    ("parses first", {"signatures/malformed-unsigned", "signatures/empty-unsigned"}),
    ("prefix compared", {"signatures/last-bit-wrong", "signatures/cut-signature"}),
    ("takes all", {"signatures/no-signature", "signatures/changed-body"}),
    ("knows statuses", {"events/unknown-status"}),
    ("conflicts", {"redelivery/to-the-letter", "redelivery/re-stamped",
                   "recurring/03-estimate-pending"}),
    ("redirect", {"events/documented", "recurring/01-estimate-pending"}),
])
def test_faults_are_found(probe, fault, found):
    with receiver(fault) as url:
        rows, code = probe.rows(url)
    assert code == NEGATIVE
    assert NOT_HTTPS | found <= failed(rows)
    if not fault:
        assert failed(rows) == NOT_HTTPS
    for name in found:
        assert rows[name]["fault"] and rows[name]["why"] and rows[name]["expected"]


def test_the_table(probe):
    with receiver("conflicts") as url:
        done = probe(url)
    lines = done.stdout.splitlines()
    assert any(line.startswith("ok    events      documented ") and " 200 " in line
               for line in lines)
    assert any(line.startswith("FAIL  redelivery  to-the-letter ") and "409" in line
               and "expected 200: the same once more" in line for line in lines)
    assert lines[-1].endswith(" failed, 0 warnings")


def test_plain_http_that_is_taken(probe):
    with receiver("") as url:
        rows, code = probe.rows("--http", url, url)
    assert code == NEGATIVE
    assert rows["https/plain-http"]["fault"] == "it is not refused"


def test_nobody_there(probe):
    done = probe(f"http://127.0.0.1:{free_port()}/")
    assert done.returncode == UNAVAILABLE
    assert done.stdout == "" and "no answer" in done.stderr


def test_a_wrong_path(probe):
    """One sentence, rather than a FAIL for each vector."""
    with receiver("wrong path") as url:
        done = probe(url)
    assert done.returncode == NEGATIVE
    assert "all answered 404: is the path in the URL right?" in done.stderr
    assert len(done.stdout.splitlines()) == 5


def test_vectors_of_ones_own(probe, tmp_path):
    with receiver("") as url:
        empty = probe("--vectors", tmp_path, url)
        assert empty.returncode == NO_INPUT and "there is no *.json" in empty.stderr
        (tmp_path / "x.json").write_text('{"title": "x", "deliveries": [{"name": "y"}]}')
        wrong = probe("--vectors", tmp_path, url)
        assert wrong.returncode == NO_INPUT and "delivery 'y'" in wrong.stderr


@pytest.mark.parametrize("arguments, said", [
    ([], "the URL is missing"),
    (["--cacert", "x", "--insecure", "http://x/"], "not both"),
    (["ftp://127.0.0.1/"], "not https or http"),
    (["a", "b"], "unexpected argument"),
])
def test_wrong_use(probe, arguments, said):
    done = probe(*arguments)
    assert done.returncode == USAGE and said in done.stderr
