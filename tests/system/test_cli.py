"""The command line, humcli-webhook: its verbs, messages and exit codes."""

import contextlib
import fcntl
import hashlib
import hmac
import http.server
import json
import os
import re
import signal
import socket
import ssl
import subprocess
import sys
import termios
import threading
import time
from datetime import datetime

import pytest

from harness.cli import SECRET, Running
from harness.postgres import wait_until

OK, NEGATIVE, USAGE, NO_INPUT, UNAVAILABLE, IO_ERROR, CONFIG = 0, 1, 64, 66, 69, 74, 78
LIVES = {
    "main": ["ESTIMATE_PENDING", "ACCEPTED", "IN_PROGRESS", "SUBMITTED", "VERIFIED", "COMPLETED"],
    "rejected-estimate": ["ESTIMATE_PENDING", "PENDING", "ESTIMATE_PENDING", "ACCEPTED",
                          "IN_PROGRESS", "SUBMITTED", "VERIFIED", "COMPLETED"],
    "disputed": ["ESTIMATE_PENDING", "ACCEPTED", "IN_PROGRESS", "SUBMITTED", "MANUAL_REVIEW",
                 "DISPUTED"],
    "cancelled": ["ESTIMATE_PENDING", "ACCEPTED", "CANCELLED"],
}


def hexmac(body, key=SECRET.encode()):
    return hmac.new(key, body, hashlib.sha256).hexdigest()


# ---- options and messages common to all verbs


def verbs(cli):
    return re.findall(r"^  ([a-z]+) ", cli("--help").out, re.M)


def test_help_lists_the_verbs(cli):
    assert cli("--help").returncode == OK
    assert {"sign", "verify", "send", "listen"} <= set(verbs(cli))


def test_every_verb_explains_itself(cli):
    """The usage, each option with a sentence, and two examples."""
    for verb in verbs(cli):
        done = cli(verb, "--help")
        assert done.returncode == OK
        assert done.out.startswith(f"usage: humcli-webhook {verb} ")
        assert done.err == ""
        usage, _, rest = done.out.partition("\n\n")
        explained = re.findall("^  --([a-z-]+)( \\S+)?(?:\n {28}|  +)\\S", rest, re.M)
        assert max(map(len, rest.splitlines())) < 100
        assert {name for name, _ in explained} == set(re.findall("--([a-z-]+)", usage)), verb
        examples = re.findall(f"^  humcli-webhook ({verb}\\b.*)", rest, re.M)
        assert len(examples) == 2
        for option in re.findall("--([a-z-]+)", " ".join(examples)):
            assert option in [name for name, _ in explained], (verb, option)


def test_help_in_every_form(cli):
    listed = cli("--help").out
    for arguments in (["-h"], ["help"]):
        done = cli(*arguments)
        assert (done.returncode, done.out, done.err) == (OK, listed, "")
    for verb in verbs(cli):
        long = cli(verb, "--help")
        for arguments in ([verb, "-h"], ["help", verb]):
            assert cli(*arguments).out == long.out and long.returncode == OK


@pytest.mark.parametrize("arguments, meant", [
    (["event"], "events"), (["evnets"], "events"), (["lisen"], "listen"), (["quar"], "quarantine"),
    (["help", "taks"], "tasks"), (["spool", "lsit"], "list"), (["spool", "retry"], "retry-failed"),
    (["events", "--stauts", "x"], "--status"), (["events", "--statuses"], "--status"),
    (["send", "--duplicate=1"], "--duplicate"),
    (["dead", "redriv"], "redrive"), (["quarantine", "retri"], "retry")])
def test_did_you_mean(cli, arguments, meant):
    done = cli(*arguments)
    assert (done.returncode, done.out) == (USAGE, "")
    assert f"did you mean '{meant}'?" in done.err


def test_the_manual_has_every_verb(cli, paths):
    """tests/check-manual compares the options."""
    manual = (paths.source / "doc" / "humcli-webhook.1").read_text()
    for verb in verbs(cli):
        assert re.search(rf"^\.It Cm {verb}\b", manual, re.M), verb
        assert re.search(rf"^\.Cm {verb}\b", manual, re.M), verb


def test_version(cli):
    done = cli("--version")
    assert done.returncode == OK
    assert re.fullmatch(r"humcli-webhook \d+\.\d+\.\d+\n", done.out)


def test_no_verb(cli):
    done = cli()
    assert (done.returncode, done.out) == (USAGE, "")
    assert "usage: humcli-webhook VERB" in done.err


def test_unknown_verb(cli):
    done = cli("frobnicate")
    assert done.returncode == USAGE
    assert "unknown verb 'frobnicate'" in done.err and "--help" in done.err


URL = "http://127.0.0.1:9/"
HEX = "0" * 64


@pytest.mark.parametrize("arguments, said", [
    (["sign", "--frob"], "unknown option '--frob'"),
    (["sign", "-x"], "unknown option '-x'"),
    (["sign", "--secret-name"], "option '--secret-name' needs a value"),
    (["sign", "a", "b"], "unexpected argument 'b'"),
    (["sign", "--secret-name", "a", "--secret-file", "b"], "not both"),
    (["verify"], "--signature is missing"),
    (["send"], "the URL is missing"),
    (["send", URL, URL], "unexpected argument"),
    (["send", "--duplicate=yes", URL], "unknown option '--duplicate=yes'"),
    (["send", "--lifecycle", "happy", URL], "unknown lifecycle 'happy'"),
    (["send", "--lifecycle", "main", "--status", "X", URL], "--lifecycle has its own"),
    (["send", "--body", "/dev/null", "--restamp", URL], "--body sends a file as it is"),
    (["send", "--body", "/dev/null", "--task-id", "x", URL], "--body sends a file as it is"),
    (["send", "--seed", "1", URL], "--seed is for --shuffle"),
    (["send", "--shuffle", "--seed", "-1", URL], "--seed '-1' is not a number"),
    (["send", "--shuffle", "--seed", "18446744073709551616", URL], "is not a number"),
    (["send", "--cacert", "x", "--insecure", URL], "not both"),
    (["send", "127.0.0.1/hook"], "it is not a URL"),
    (["send", "file:///etc/passwd"], "not https or http"),
    (["listen", "extra"], "unexpected argument 'extra'"),
    (["listen", "--count", "0"], "--count '0'"),
    (["listen", "--count", "5x"], "--count '5x'"),
    (["listen", "--timeout", "5"], "--timeout '5'"),
])
def test_wrong_use(cli, arguments, said):
    done = cli(*arguments)
    assert (done.returncode, done.out) == (USAGE, "")
    assert said in done.err
    assert f"usage: humcli-webhook {arguments[0]} " in done.err


def test_faulty_settings_are_all_named(cli):
    for verb in (["sign"], ["listen"], ["send", URL]):
        done = cli(*verb, SECRET=SECRET, THREADS="many", COLOUR="red")
        assert done.returncode == CONFIG
        assert "HUMCLI_WEBHOOK_THREADS" in done.err and "HUMCLI_WEBHOOK_COLOUR" in done.err


def test_a_full_disk_is_no_success(cli):
    with open("/dev/full", "wb") as full:
        done = subprocess.run([cli.program, "sign", "/dev/null"], stdout=full,
                              stderr=subprocess.PIPE, env=cli.environment(SECRET=SECRET),
                              timeout=30, check=False)
    assert done.returncode == IO_ERROR
    assert b"can't write to stdout" in done.stderr


def readable(pipe):
    """How many bytes wait in a pipe."""
    room = bytearray(4)
    fcntl.ioctl(pipe, termios.FIONREAD, room)
    return int.from_bytes(room, sys.byteorder)


def wait_for_a_full_pipe(pipe):
    """Until what is in it grows no more."""
    seen = [0]

    def full():
        seen.append(readable(pipe))
        return len(seen) > 20 and seen[-20] == seen[-1] > 4096

    wait_until(full, "a full pipe")


@pytest.mark.parametrize("arguments, lines", [
    (["events", "--limit", "2000"], 2001), (["events", "--limit", "2000", "--json"], 2000),
    (["listen", "--subscription", "s", "--from", "beginning", "--once"], 2000)])
def test_stdout_that_does_not_block(cli, database, arguments, lines):
    """A full pipe is waited for, and no line is lost."""
    database.execute(
        "INSERT INTO humcli.events (event, task_id, status, occurred_at, received_at,"
        " first_of_status, secret_name, signature, payload) SELECT 'e', 't' || n, 'S', now(),"
        " now(), true, 'default', 's' || n, '{}' FROM generate_series(1, 2000) n")
    ours, theirs = os.pipe()
    os.set_blocking(theirs, False)
    with subprocess.Popen([cli.program, *arguments], stdout=theirs, stderr=subprocess.PIPE,
                          env=cli.environment(DATABASE=database.dsn())) as process:
        os.close(theirs)
        with open(ours, "rb") as pipe:
            wait_for_a_full_pipe(pipe)
            out = pipe.read()
        assert (process.wait(20), process.stderr.read().count(b"can't write")) == (OK, 0)
    assert out.endswith(b"\n") and len(out.splitlines()) == lines


# ---- sign and verify

BODIES = [b"", b"{}", bytes(range(256)) * 300, b"\0", "Größe\r\n".encode(), b"line\n"]


@pytest.mark.parametrize("body", BODIES, ids=range(len(BODIES)))
def test_sign(cli, tmp_path, body):
    file = tmp_path / "body"
    file.write_bytes(body)
    expected = hexmac(body) + "\n"
    for done in (cli("sign", stdin=body), cli("sign", "-", stdin=body), cli("sign", file)):
        assert (done.returncode, done.out, done.err) == (OK, expected, "")


# RFC 4231, 4.2 to 4.8 without 4.6, whose output is truncated.
RFC4231 = [
    (b"\x0b" * 20, b"Hi There",
     "b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7"),
    (b"Jefe", b"what do ya want for nothing?",
     "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"),
    (b"\xaa" * 20, b"\xdd" * 50,
     "773ea91e36800e46854db8ebd09181a72959098b3ef8c122d9635514ced565fe"),
    (bytes(range(1, 26)), b"\xcd" * 50,
     "82558a389a443c0ea4cc819899f2083a85f0faa3e578f8077a2e3ff46729665b"),
    (b"\xaa" * 131, b"Test Using Larger Than Block-Size Key - Hash Key First",
     "60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54"),
    (b"\xaa" * 131, b"This is a test using a larger than block-size key and a larger than "
     b"block-size data. The key needs to be hashed before being used by the HMAC algorithm.",
     "9b09ffa71b942fcb27635fbcd5b0e944bfdc63644f0713938a7f51535c3a35e2"),
]


@pytest.mark.parametrize("key, data, expected", RFC4231, ids=range(len(RFC4231)))
def test_sign_rfc_4231(cli, key, data, expected):
    file = cli.secret_file("key", key)
    assert cli("sign", "--secret-file", file, stdin=data).out == expected + "\n"


def test_input_has_a_limit(cli, tmp_path):
    file = tmp_path / "large"
    file.write_bytes(bytes(16 << 20))
    assert cli("sign", file).out == hexmac(bytes(16 << 20)) + "\n"
    with file.open("ab") as more:
        more.write(b"x")
    done = cli("sign", file)
    assert (done.returncode, done.out) == (NO_INPUT, "")
    assert "larger than 16 MiB" in done.err


def test_input_that_is_not_there(cli, tmp_path):
    for verb in (["sign"], ["verify", "--signature", HEX], ["send", URL, "--body"]):
        done = cli(*verb, tmp_path / "nothing")
        assert (done.returncode, done.out) == (NO_INPUT, "")
        assert f"can't open {tmp_path}/nothing" in done.err


def test_no_secret(cli):
    done = cli("sign", LOG_LEVEL="info")
    assert (done.returncode, done.out) == (CONFIG, "")
    assert "secret" in done.err.lower()


def test_secret_file_needs_no_settings(cli):
    file = cli.secret_file("mine", b"whsec_mine\n")
    done = cli("sign", "--secret-file", file, stdin=b"x", THREADS="many")
    assert (done.returncode, done.out) == (OK, hexmac(b"x", b"whsec_mine") + "\n")


def test_secret_file_that_others_can_read(cli):
    file = cli.secret_file("open", b"whsec_open", mode=0o644)
    done = cli("sign", "--secret-file", file)
    # On tmpfs, where the tests' folder may be, this is only a warning.
    if done.returncode == OK:
        assert subprocess.run(["stat", "-f", "-c", "%T", str(file)], check=True,
                              capture_output=True).stdout == b"tmpfs\n"
    else:
        assert done.returncode == CONFIG
    assert "chmod" in done.err


@pytest.fixture
def two(cli):
    """Returns settings with two active secrets."""
    cli.secret_file("secrets/new", b"whsec_new\n")
    cli.secret_file("secrets/old", b"whsec_old\r\n")
    return {"SECRET_DIR": cli.folder / "secrets"}


def test_one_of_several_secrets_must_be_named(cli, two):
    for verb in (["sign"], ["send", URL]):
        done = cli(*verb, **two)
        assert (done.returncode, done.out) == (USAGE, "")
        assert "new, old" in done.err and "--secret-name" in done.err
    assert cli("sign", "--secret-name", "old", stdin=b"x", **two).out \
        == hexmac(b"x", b"whsec_old") + "\n"
    done = cli("sign", "--secret-name", "older", **two)
    assert done.returncode == USAGE
    assert "'older'" in done.err and "new, old" in done.err


def test_verify_says_which(cli, two, tmp_path):
    body = tmp_path / "body"
    body.write_bytes(b"\0x")
    for name in ("old", "new"):
        for given in (hexmac(b"\0x", f"whsec_{name}".encode()),
                      hexmac(b"\0x", f"whsec_{name}".encode()).upper()):
            for done in (cli("verify", "--signature", given, body, **two),
                         cli("verify", f"--signature={given}", stdin=b"\0x", **two),
                         cli("verify", "--signature", given, "--secret-name", name, body,
                             **two)):
                assert (done.returncode, done.out, done.err) \
                    == (OK, f"signature matches secret {name}\n", "")


def test_verify_says_no(cli, two):
    good = hexmac(b"x", b"whsec_old")
    one_off = f"{int(good, 16) ^ 1:064x}"
    for arguments, body in ((["--signature", one_off], b"x"), (["--signature", good], b"x\n"),
                            (["--signature", good, "--secret-name", "new"], b"x")):
        done = cli("verify", *arguments, stdin=body, **two)
        assert (done.returncode, done.out) == (NEGATIVE, "")
        assert "matches none" in done.err


@pytest.mark.parametrize("given", ["", "abc", "g" * 64, "0" * 63, "0" * 65, "sha256=" + HEX])
def test_verify_says_what_is_no_signature(cli, given):
    done = cli("verify", "--signature", given)
    assert (done.returncode, done.out) == (NEGATIVE, "")
    assert "64 hex digits" in done.err


# ---- send


class Receiver:
    """A receiver for the tests. It keeps the requests and answers as
    configured."""

    def __init__(self, tls=None):
        self.requests = []
        self.peers = set()
        self.status, self.body, self.headers = 200, b'{"received":true}', {}
        self.check = False  # if set, answers 401 to a wrong signature
        self.release = threading.Event()
        self.release.set()
        receiver = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self):  # pylint: disable=invalid-name
                receiver.answer(self)

            do_GET = do_POST

            def log_message(self, *_):  # pylint: disable=arguments-differ
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        scheme = "http"
        if tls:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(tls)
            # It has HTTP/1.1 alone, whatever a client says it would like.
            context.set_alpn_protocols(["h2", "http/1.1"])
            self.server.socket = context.wrap_socket(self.server.socket, server_side=True)
            self.server.handle_error = lambda *_: None  # a client that rejects the certificate
            scheme = "https"
        self.url = f"{scheme}://127.0.0.1:{self.server.server_port}/humcli"
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.02,))
        self.thread.start()

    def answer(self, handler):
        body = handler.rfile.read(int(handler.headers["Content-Length"]))
        self.requests.append((handler.command, handler.path, handler.headers, body))
        self.peers.add(handler.client_address)
        self.release.wait(60)
        good = handler.headers["X-Signature"] == hexmac(body)
        handler.send_response(401 if self.check and not good else self.status)
        for name, value in self.headers.items():
            handler.send_header(name, value)
        handler.send_header("Content-Length", str(len(self.body)))
        handler.end_headers()
        with contextlib.suppress(OSError):
            handler.wfile.write(self.body)

    @property
    def bodies(self):
        return [body for _, _, _, body in self.requests]

    @property
    def events(self):
        return [json.loads(body) for body in self.bodies]

    def close(self):
        self.release.set()
        self.server.shutdown()
        self.thread.join()
        self.server.server_close()


@pytest.fixture
def receiver():
    server = Receiver()
    yield server
    server.close()


@pytest.fixture
def certificate(tmp_path):
    """Makes a file with a key and a certificate."""
    file = tmp_path / "certificate.pem"
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt",
                    "ec_paramgen_curve:P-256", "-nodes", "-days", "2", "-subj", "/CN=test",
                    "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", file, "-out",
                    tmp_path / "only.pem"], check=True, capture_output=True)
    with file.open("ab") as both:
        both.write((tmp_path / "only.pem").read_bytes())
    return file


@pytest.fixture
def tls_receiver(certificate):
    server = Receiver(tls=certificate)
    yield server
    server.close()


def milliseconds(event):
    stamp = event["timestamp"]
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", stamp)
    return round(datetime.fromisoformat(stamp[:-1] + "+00:00").timestamp() * 1000)


def check_form(receiver):
    """Checks that each request has the form of HumCLI's."""
    for method, path, headers, body in receiver.requests:
        event = json.loads(body)
        assert (method, path) == ("POST", "/humcli")
        assert list(event) == ["event", "task_id", "status", "previous_status", "timestamp"]
        assert json.dumps(event, separators=(",", ":"), ensure_ascii=False).encode() == body
        assert headers.get_all("Content-Type") == ["application/json"]
        assert headers.get_all("X-Signature") == [hexmac(body)]
        assert headers.get_all("X-Timestamp") == [event["timestamp"]]
        assert headers.get_all("Content-Length") == [str(len(body))]
        assert "Expect" not in headers
        milliseconds(event)


def test_send(cli, receiver):
    before = time.time() * 1000
    done = cli("send", receiver.url)
    after = time.time() * 1000
    assert done.returncode == OK
    assert re.fullmatch(r'SUBMITTED: 200 in \d+ ms \{"received":true\}\n', done.out)
    assert done.err == ""
    check_form(receiver)
    [event] = receiver.events
    assert before - 1 <= milliseconds(event) <= after
    assert re.fullmatch(r"task_test_[0-9a-f]{12}", event["task_id"])
    assert (event["event"], event["status"], event["previous_status"]) \
        == ("task.status_changed", "SUBMITTED", "IN_PROGRESS")


def test_send_posts_to_the_address_that_names_the_secret(cli, receiver):
    for name in ("main", "not for a path"):
        cli.secret_file(f"secrets/{name}", b"whsec_x")
    for name, url in (("main", receiver.url), ("main", f"{receiver.url}/main"),
                      ("main", f"{receiver.url}/?a=b/main"), ("not for a path", receiver.url)):
        assert cli("send", "--secret-name", name, url,
                   SECRET_DIR=cli.folder / "secrets").returncode == OK
    assert [path for _, path, _, _ in receiver.requests] == \
        ["/humcli/main", "/humcli/main", "/humcli/main?a=b/main", "/humcli"]


def test_send_takes_a_new_task_each_time(cli, receiver):
    for _ in range(2):
        assert cli("send", receiver.url).returncode == OK
    assert len({event["task_id"] for event in receiver.events}) == 2


def test_send_values(cli, receiver):
    assert cli("send", receiver.url, "--task-id", 'a"b\\c', "--status", "Größe",
               "--previous-status=", "--event", "task.other").returncode == OK
    check_form(receiver)
    [event] = receiver.events
    del event["timestamp"]
    assert event == {"event": "task.other", "task_id": 'a"b\\c', "status": "Größe",
                     "previous_status": None}


@pytest.mark.parametrize("name", LIVES)
def test_send_lifecycle(cli, receiver, name):
    done = cli("send", "--lifecycle", name, receiver.url)
    assert done.returncode == OK
    check_form(receiver)
    events = receiver.events
    assert [event["status"] for event in events] == LIVES[name]
    assert [event["previous_status"] for event in events] == ["PENDING"] + LIVES[name][:-1]
    assert len({event["task_id"] for event in events}) == 1
    times = [milliseconds(event) for event in events]
    assert times == sorted(set(times))
    assert [line.split(":")[0] for line in done.out.splitlines()] == LIVES[name]


def test_send_duplicate(cli, receiver):
    assert cli("send", "--lifecycle", "cancelled", "--duplicate", receiver.url).returncode == OK
    check_form(receiver)
    assert [event["status"] for event in receiver.events] \
        == [status for status in LIVES["cancelled"] for _ in range(2)]
    for first, again in zip(receiver.requests[::2], receiver.requests[1::2]):
        assert first[3] == again[3]
        assert first[2].items() == again[2].items()
    assert len(receiver.peers) == 6     # one connection for each: libcurl retried none


def test_send_restamp(cli, receiver):
    assert cli("send", "--lifecycle", "cancelled", "--restamp", receiver.url).returncode == OK
    check_form(receiver)
    events = receiver.events
    assert len(events) == 6
    times = [milliseconds(event) for event in events]
    assert times == sorted(set(times))
    for first, again in zip(events[::2], events[1::2]):
        assert {**first, "timestamp": None} == {**again, "timestamp": None}
        assert milliseconds(again) - milliseconds(first) < 1000


def test_send_duplicate_and_restamp(cli, receiver):
    assert cli("send", "--duplicate", "--restamp", receiver.url).returncode == OK
    first, again, restamped = receiver.bodies
    assert first == again != restamped


def test_send_shuffle(cli, receiver):
    def order(*arguments):
        receiver.requests.clear()
        done = cli("send", "--lifecycle", "rejected-estimate", "--restamp", "--shuffle",
                   *arguments, receiver.url)
        assert done.returncode == OK
        check_form(receiver)
        assert [event["status"] for event in sorted(receiver.events, key=milliseconds)] \
            == [status for status in LIVES["rejected-estimate"] for _ in range(2)]
        start = min(map(milliseconds, receiver.events))
        [seed] = re.findall(r"shuffled by --seed (\d+)", done.err)
        return seed, [milliseconds(event) - start for event in receiver.events]

    seed, once = order("--seed", "7")
    assert seed == "7" and once != sorted(once)
    assert order("--seed", "7") == (seed, once)
    assert order("--seed", "8")[1] != once
    seed, once = order()
    assert order("--seed", seed) == (seed, once)


def test_send_bad_signature(cli, receiver):
    receiver.check = True
    assert cli("send", "--bad-signature", "--duplicate", receiver.url).returncode == OK
    assert len(receiver.requests) == 2
    for _, _, headers, body in receiver.requests:
        [given] = headers.get_all("X-Signature")
        assert re.fullmatch(r"[0-9a-f]{64}", given) and given != hexmac(body)
    receiver.check = False
    done = cli("send", "--bad-signature", receiver.url)
    assert done.returncode == NEGATIVE
    assert "should be answered 401" in done.err


def test_send_body(cli, receiver, tmp_path):
    body = bytes(range(256)) * 8192     # so large that libcurl would send Expect
    file = tmp_path / "raw"
    file.write_bytes(body)
    done = cli("send", "--body", file, "--duplicate", receiver.url)
    assert done.returncode == OK
    assert receiver.bodies == [body, body]
    for _, _, headers, _ in receiver.requests:
        assert headers.get_all("X-Signature") == [hexmac(body)]
        assert "Expect" not in headers
    assert cli("send", "--body", "-", receiver.url, stdin=b"").returncode == OK
    assert receiver.bodies[2] == b""


@pytest.mark.parametrize("status", [404, 401, 403, 405, 302])
def test_send_stops_at_a_fault_that_will_repeat(cli, receiver, status):
    receiver.status = status
    done = cli("send", "--lifecycle", "main", receiver.url)
    assert done.returncode == NEGATIVE and len(receiver.requests) == 1
    assert "stopped: 5 more would meet the same fault" in done.err


def test_send_goes_on_after_a_fault_of_one_event(cli, receiver):
    receiver.status = 500
    done = cli("send", "--lifecycle", "main", receiver.url)
    assert done.returncode == NEGATIVE and len(receiver.requests) == 6
    assert "stopped" not in done.err


def test_send_json(cli, receiver):
    done = cli("send", "--json", "--lifecycle", "cancelled", receiver.url)
    rows = [json.loads(line) for line in done.out.splitlines()]
    assert [(row["sent"], row["task_id"], row["timestamp"], row["status"], row["answer"],
             row["fault"]) for row in rows] == [
        (event["status"], event["task_id"], event["timestamp"], 200, '{"received":true}', None)
        for event in receiver.events] and len(rows) == 3
    assert all(isinstance(row["ms"], int) for row in rows)
    done = cli("send", "--json", "http://127.0.0.1:9/")
    [row] = [json.loads(line) for line in done.out.splitlines()]
    assert done.returncode == UNAVAILABLE and row["status"] is None and row["fault"]


def test_send_names_its_tasks_as_tests(cli, receiver):
    assert cli("send", receiver.url).returncode == OK
    assert re.fullmatch("task_test_[0-9a-f]{12}", receiver.events[0]["task_id"])


@pytest.mark.parametrize("status", [500, 204])
def test_send_tells_an_unexpected_answer(cli, receiver, status):
    receiver.status, receiver.body = status, b"" if status == 204 else b"{}"
    done = cli("send", "--duplicate", receiver.url)
    assert done.returncode == NEGATIVE
    assert len(receiver.requests) == 2
    assert re.findall(r": (\d+) in \d+ ms", done.out) == [str(status)] * 2


def test_send_names_a_page(cli, receiver):
    """The page itself is only in the JSON."""
    receiver.status, receiver.body = 404, b"<!DOCTYPE html>\n<title>404\nNot Found</title>\n<p>x"
    done = cli("send", receiver.url)
    assert re.fullmatch(r"SUBMITTED: 404 in \d+ ms, a page of the web server: 404 Not Found\n",
                        done.out), done.out
    assert json.loads(cli("send", "--json", receiver.url).out)["answer"].endswith("<p>x")


def test_send_prints_nothing_that_steers_a_terminal(cli, receiver):
    receiver.body = b"\x1b]0;owned\x07\r\nnext\xc2\x9b\x9b\0line" + b"x" * 100000
    done = cli("send", receiver.url)
    assert done.returncode == OK
    assert len(done.out) < 5000
    assert "\\x1b]0;owned\\x07\\x0d\\x0anext\\xc2\\x9b\\x9b" in done.out
    assert done.out.isascii() and done.out[:-1].isprintable()


def test_send_follows_no_redirect(cli, receiver):
    receiver.status, receiver.body = 308, b""
    receiver.headers = {"Location": "/elsewhere"}
    done = cli("send", receiver.url)
    assert done.returncode == NEGATIVE
    assert len(receiver.requests) == 1
    assert receiver.url.replace("/humcli", "/elsewhere") in done.err
    assert "not followed" in done.err and "loses its body" in done.err


def test_send_waits_as_long_as_humcli(cli, receiver):
    receiver.release.clear()
    start = time.monotonic()
    done = cli("send", receiver.url)
    assert 4.9 < time.monotonic() - start < 15
    assert (done.returncode, done.out) == (UNAVAILABLE, "")
    assert "SUBMITTED: no answer" in done.err and "HumCLI" in done.err


def test_send_connection_refused(cli):
    with socket.socket() as held:   # bound, so that no other program listens there
        held.bind(("127.0.0.1", 0))
        done = cli("send", f"http://127.0.0.1:{held.getsockname()[1]}/", "--duplicate")
    assert (done.returncode, done.out) == (UNAVAILABLE, "")
    assert len(re.findall("no answer in .* connect", done.err)) == 1
    assert "stopped: 1 more" in done.err


def test_send_goes_through_a_proxy(cli, receiver):
    proxy = receiver.url.replace("/humcli", "")
    done = cli("send", "http://receiver.invalid/hook", environment={"http_proxy": proxy})
    assert done.returncode == OK
    assert receiver.requests[0][1] == "http://receiver.invalid/hook"


def test_send_trusts_a_certificate_when_told(cli, tls_receiver, certificate):
    done = cli("send", tls_receiver.url)
    assert (done.returncode, done.out) == (UNAVAILABLE, "")
    assert "certificate" in done.err and "--cacert" in done.err
    assert not tls_receiver.requests
    done = cli("send", "--cacert", certificate.parent / "only.pem", tls_receiver.url)
    assert (done.returncode, done.err) == (OK, "")
    assert cli("send", "--insecure", tls_receiver.url).returncode == OK
    check_form(tls_receiver)
    assert len(tls_receiver.requests) == 2


# ---- listen


@pytest.fixture
def listen(cli, database):
    """Returns a function that starts a listener and waits until it listens."""
    started = []

    def start(*arguments, **settings):
        listener = Running(cli, "listen", *arguments, DATABASE=database.dsn(), **settings)
        started.append(listener)
        listener.said("listening on humcli_events")
        return listener

    yield start
    for listener in started:
        listener.close()


def notify(database, payload):
    connection = database.connect()
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_notify('humcli_events', %s)", (payload,))
    connection.close()


def hang_up(database):
    """Ends the listener's connection in PostgreSQL."""
    rows = database.execute(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = "
        "current_database() AND pid <> pg_backend_pid() AND application_name LIKE 'humcli%'")
    assert rows == [(True,)]


DOCUMENTED = ('{"id":"1042","task_id":"task_abc123","status":"SUBMITTED",'
              '"previous_status":"IN_PROGRESS","first":true,"secret":"main"}')

PAYLOADS = [
    (DOCUMENTED, None),
    ("{}", None),
    ('{"a": [1, -0.5, 1e-05, 0, 10, 0.0E+1, "01 \\" -.5"], "ä": null}', None),
    ('"\\u00e4"', None),
    ("", {"raw": ""}),
    ("look", {"raw": "look"}),
    ('{"a":1}\n{"b":2}', {"raw": '{"a":1}\n{"b":2}'}),
    ('{"a":1} {"b":2}', {"raw": '{"a":1} {"b":2}'}),
    ('{"a":', {"raw": '{"a":'}),
    ('"a\tb"', {"raw": '"a\tb"'}),
    ("[01]", {"raw": "[01]"}),
    ("[-01]", {"raw": "[-01]"}),
    ("[1.]", {"raw": "[1.]"}),
    ("[-.5]", {"raw": "[-.5]"}),
    ("[1.e1]", {"raw": "[1.e1]"}),
    ("[-]", {"raw": "[-]"}),
    ("[1e]", {"raw": "[1e]"}),
    ('"open', {"raw": '"open'}),
    ('"open\\', {"raw": '"open\\'}),
    ("\ufeff{}", {"raw": "\ufeff{}"}),
    ("\x1b[31mred", {"raw": "\x1b[31mred"}),
    ("x" * 7999, {"raw": "x" * 7999}),
]


def test_listen_prints_a_line_of_json_each(listen, database):
    listener = listen()
    for payload, _ in PAYLOADS:
        notify(database, payload)
    lines = listener.printed(len(PAYLOADS))
    assert len(lines) == len(PAYLOADS)
    for line, (payload, expected) in zip(lines, PAYLOADS):
        if expected is None:
            assert line == payload
        else:
            assert json.loads(line) == expected
            assert line.isprintable() or "\ufeff" in line
    assert listener.end(signal.SIGTERM) == OK


def test_listen_gets_what_is_recorded_in_one_go(listen, database):
    listener = listen("--count", "100")
    database.execute("SELECT pg_notify('humcli_events', n::text) FROM generate_series(1, 150) n")
    assert listener.end() == OK
    assert listener.printed(100) == [str(n) for n in range(1, 101)]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_listen_ends_when_told(listen, number):
    listener = listen()
    assert listener.end(number) == OK
    assert listener.out == []


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_listen_ends_before_a_reader_that_sleeps(cli, database, number):
    with subprocess.Popen([cli.program, "listen"], stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE, text=True,
                          env=cli.environment(DATABASE=database.dsn())) as process:
        try:
            assert "listening on humcli_events" in process.stderr.readline()
            database.execute("SELECT pg_notify('humcli_events', n || repeat('x', 7000))"
                             " FROM generate_series(1, 40) n")
            process.stdout.read(1)
            pipe = process.stdout.fileno()
            wait_for_a_full_pipe(pipe)
            process.send_signal(number)
            assert process.wait(5) == OK
        finally:
            process.kill()


def test_listen_ends_in_time_before_a_reader_that_sleeps(cli, database):
    with subprocess.Popen([cli.program, "listen", "--count", "40", "--timeout", "3s"],
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                          env=cli.environment(DATABASE=database.dsn())) as process:
        try:
            assert "listening on humcli_events" in process.stderr.readline()
            database.execute("SELECT pg_notify('humcli_events', n || repeat('x', 7000))"
                             " FROM generate_series(1, 40) n")
            assert process.wait(10) == NEGATIVE
        finally:
            process.kill()


def test_listen_ends_after_so_many(listen, database):
    listener = listen("--count", "2", "--timeout", "1min")
    for n in range(2):
        notify(database, str(n))
    assert listener.end() == OK
    assert listener.printed(2) == ["0", "1"]


def test_listen_ends_when_the_time_is_over(listen):
    start = time.monotonic()
    listeners = [listen("--timeout", "1s"), listen("--timeout", "1s", "--count", "1")]
    assert [listener.end() for listener in listeners] == [OK, NEGATIVE]
    assert time.monotonic() - start >= 1


def test_listen_comes_back(listen, database):
    listener = listen()
    notify(database, "1")
    listener.printed(1)
    for times in (1, 2):
        hang_up(database)
        listener.said("connection lost", times)
        listener.said("listening on humcli_events", times + 1)
        notify(database, str(times + 1))
        listener.printed(times + 1)
    assert listener.printed(3) == ["1", "2", "3"]
    assert listener.end(signal.SIGTERM) == OK


def test_listen_keeps_trying(listen, database):
    """listen reconnects after a while without a database. A signal ends it also
    without a connection."""
    waiting, stopped = listen(), listen()
    allow = f"ALTER DATABASE {database.name} ALLOW_CONNECTIONS "
    database.cluster.execute(allow + "false")
    try:
        database.cluster.execute(
            f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = "
            f"'{database.name}'")
        for listener in (waiting, stopped):
            listener.said("can't connect to the database")
        assert stopped.end(signal.SIGTERM) == OK
        assert waiting.process.poll() is None
    finally:
        database.cluster.execute(allow + "true")
    waiting.said("listening on humcli_events", 2)
    notify(database, "back")
    assert waiting.printed(1) == ['{"raw":"back"}']


def test_listen_needs_no_secret(listen, database, tmp_path):
    listener = listen("--count", "1", SECRET_FILE=tmp_path / "nothing")
    notify(database, "{}")
    assert listener.end() == OK


def test_listen_says_when_there_is_no_database(cli, cluster):
    for dsn in (cluster.dsn("nowhere"), "host=/nowhere", "host=127.0.0.1 port=1"):
        done = cli("listen", "--timeout", "30s", DATABASE=dsn)
        assert (done.returncode, done.out) == (UNAVAILABLE, "")
        assert "can't connect to the database" in done.err


def test_listen_to_a_full_disk(cli, database):
    with open("/dev/full", "wb") as full, subprocess.Popen(
            [cli.program, "listen"], stdout=full, stderr=subprocess.PIPE, text=True,
            env=cli.environment(DATABASE=database.dsn())) as process:
        try:
            assert "listening on humcli_events" in process.stderr.readline()
            notify(database, "{}")
            assert process.wait(20) == IO_ERROR
            assert "can't write to stdout" in process.stderr.read()
        finally:
            process.kill()
