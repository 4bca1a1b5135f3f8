"""The common part of Apache and lighttpd: a folder, a certificate, two free
loopback ports, the shipped sample with its lines adapted, and a client."""

import concurrent.futures
import http.client
import os
import re
import shutil
import signal
import socket
import ssl
import subprocess
import tempfile

from harness.postgres import wait_until
from harness.responder import SECRET, as_test_user, chown_to_test_user, sign

URL = "/humcli"


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def adapt(sample, values):
    """
    Returns the text of a shipped sample with other values in the lines that a
    user adapts: `Define NAME value` (Apache) or `var.name = "value"`
    (lighttpd). Each name must occur once.
    """
    with open(sample, encoding="ascii") as file:
        text = file.read()
    for name, value in values.items():
        text, found = re.subn(
            rf'^(Define {name} +|var\.{name} += ")[^"\n]+("?)$',
            lambda match, value=value: f"{match[1]}{value}{match[2]}",
            text, flags=re.MULTILINE)
        assert found == 1, f"{sample}: {name} stands there {found} times"
    return text


def substitute(sample, values):
    """The text of a shipped sample with each key, which must occur once,
    replaced by its value."""
    with open(sample, encoding="ascii") as file:
        text = file.read()
    for old, new in values.items():
        assert text.count(old) == 1, f"{sample}: {old!r} occurs {text.count(old)} times"
        text = text.replace(old, new)
    return text


class Answer:
    def __init__(self, response):
        self.status = response.status
        self.headers = response.headers
        self.body = response.read()

    def __repr__(self):
        return f"Answer({self.status}, {self.body[:300]!r}, {dict(self.headers)})"


class Client:
    """Sends HTTP/1.1 to one server, with a new connection for each request."""

    def __init__(self, port, url, tls=None):
        self.port = port
        self.url = url
        self.tls = tls

    def connect(self, timeout=30):
        if self.tls:
            return http.client.HTTPSConnection("localhost", self.port, context=self.tls,
                                               timeout=timeout)
        return http.client.HTTPConnection("localhost", self.port, timeout=timeout)

    def request(self, method, path="", headers=(), body=(), length=None):
        """
        Sends a request; returns the Answer. headers: pairs. body: the pieces,
        sent chunked unless length is given. A server may answer before it has
        read all of them.
        """
        connection = self.connect()
        try:
            connection.connect()
            connection.putrequest(method, self.url + path)
            for name, value in headers:
                connection.putheader(name, value)
            if length is not None:
                connection.putheader("Content-Length", str(length))
            elif body:
                connection.putheader("Transfer-Encoding", "chunked")
            try:
                connection.endheaders(iter(body) if body else None,
                                      encode_chunked=length is None)
            except (BrokenPipeError, ConnectionResetError, ssl.SSLEOFError):
                pass
            return Answer(connection.getresponse())
        finally:
            connection.close()

    def get(self, path):
        return self.request("GET", path)

    def post(self, body, signatures=None, chunked=False, more=()):
        """Posts a webhook with a valid signature, or with `signatures`. more:
        further headers, as pairs."""
        if signatures is None:
            signatures = [sign(body)]
        headers = [("Content-Type", "application/json")]
        headers += [("X-Signature", each) for each in signatures] + list(more)
        if chunked:
            half = len(body) // 2
            return self.request("POST", "", headers, [body[:half], body[half:]])
        return self.request("POST", "", headers, [body], len(body))

    def post_all(self, bodies):
        """Posts all bodies at once; returns the answers in the same order."""
        with concurrent.futures.ThreadPoolExecutor(len(bodies)) as pool:
            return list(pool.map(self.post, bodies))


class WebServer:
    """
    A server with one shipped sample. A subclass names its folder in the
    installed data (samples), writes the configuration (configure, which returns
    the path) and gives the command line (command).
    """

    samples = None
    graceful = signal.SIGUSR1

    def __init__(self, paths, sample, values, environment=None, url=URL):
        self.samples_folder = paths.stage / "share/humcli-webhook" / self.samples
        self.sample = self.samples_folder / sample
        self.values = values
        self.environment = environment or {}
        self.folder = tempfile.mkdtemp(prefix="humcli-web-", dir="/tmp")
        self.process = None
        try:
            for name in ("", "www", "run"):
                path = os.path.join(self.folder, name)
                os.makedirs(path, exist_ok=True)
                os.chmod(path, 0o755)
                chown_to_test_user(path)
            self.make_certificate()
            self.start()
        except BaseException:
            self.close()
            raise
        self.https = Client(self.tls_port, url,
                            ssl.create_default_context(cafile=self.certificate))
        self.http = Client(self.plain_port, url)

    def path(self, *names):
        return os.path.join(self.folder, *names)

    def write(self, name, text):
        path = self.path(name)
        with open(path, "w", encoding="ascii") as file:
            file.write(text)
        chown_to_test_user(path)
        return path

    def read(self, name):
        try:
            with open(self.path(name), encoding="utf-8", errors="replace") as file:
                return file.read()
        except FileNotFoundError:
            return ""

    def make_certificate(self):
        self.certificate = self.path("certificate.pem")
        self.key = self.path("key.pem")
        subprocess.run(["openssl", "req", "-x509", "-newkey", "ec",
                        "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "1",
                        "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost",
                        "-addext", "basicConstraints=critical,CA:FALSE",
                        "-keyout", self.key, "-out", self.certificate],
                       check=True, capture_output=True)
        chown_to_test_user(self.key)
        chown_to_test_user(self.certificate)

    def start(self):
        """Starts the server on two free ports. If another program took one of
        them in the meantime, tries again."""
        for _ in range(5):
            self.plain_port, self.tls_port = free_port(), free_port()
            self.configuration = self.configure()
            check = subprocess.run(self.command(self.configuration, "-t"), capture_output=True,
                                   text=True, **self.user())
            assert check.returncode == 0, check.stdout + check.stderr
            self.run()
            if self.process.poll() is None:
                return
            if "in use" not in self.log():
                break
        raise AssertionError("the web server ended:\n" + self.log())

    def run(self):
        """Starts the server with the present configuration."""
        with open(self.path("stderr"), "ab") as stderr:
            # mpm_prefork signals its whole process group when it ends
            self.process = subprocess.Popen(
                self.command(self.configuration), cwd="/", stdin=subprocess.DEVNULL,
                stdout=stderr, stderr=stderr, start_new_session=True,
                env={"PATH": os.environ["PATH"], **self.environment}, **self.user())
        wait_until(lambda: self.process.poll() is not None or self.answers(),
                   "the web server to listen")

    def user(self):
        """Returns arguments for subprocess: the user that starts the server."""
        return as_test_user()

    def answers(self):
        try:
            socket.create_connection(("127.0.0.1", self.tls_port), 5).close()
            Client(self.plain_port, "/").get("")
            return True
        except (OSError, http.client.HTTPException):
            return False

    def log(self):
        return self.read("error.log") + self.read("stderr")

    def configure(self):
        raise NotImplementedError

    def command(self, configuration, check=None):
        raise NotImplementedError

    def stop(self):
        """Stops the server by SIGTERM; kills it and fails after 15 s."""
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(15)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise AssertionError("the web server did not end:\n" + self.log()) from None

    def close(self):
        try:
            if self.process is not None and self.process.poll() is None:
                self.stop()
        finally:
            shutil.rmtree(self.folder)
