"""Starts the responder by FastCGI or by CGI, as a web server does, and sends
requests. Both classes have the same calls, so that one test serves for both."""

import hashlib
import hmac
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time
import uuid

from harness import fastcgi
from harness.fastcgi import Answer
from harness.postgres import as_test_user

SECRET = "whsec_3f9a1c7e5b2d4860"
SANITIZERS = ("ASAN_OPTIONS", "LSAN_OPTIONS", "TSAN_OPTIONS",
              "UBSAN_OPTIONS")
# libfcgi leaks its answer to an unknown management record
# (FastCGI-Archives/fcgi2, issue 42).
LEAKS_OF_OTHERS = "leak:libfcgi.so\n"
REPORTS = ("Sanitizer", "runtime error:")
ABSENT = object()


def chown_to_test_user(path):
    """Gives a file or folder to the user that as_test_user() names."""
    user = as_test_user()
    if user:
        os.chown(path, user["user"], user["group"])


def sign(body, secret=SECRET):
    return hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()


def new_task():
    return f"task_{uuid.uuid4().hex[:16]}"


def event(**changes):
    """Returns the body of an event of a new task. ABSENT leaves a field out."""
    fields = {"event": "task.status_changed", "task_id": new_task(),
              "status": "SUBMITTED", "previous_status": "IN_PROGRESS",
              "timestamp": "2026-03-01T12:00:00.000Z"}
    fields.update(changes)
    return json.dumps({k: v for k, v in fields.items() if v is not ABSENT},
                      separators=(",", ":")).encode()


def raw_event(extra, task=None):
    """Returns an event with the text `extra` before its last brace."""
    return event(task_id=task or new_task())[:-1] + fastcgi.to_bytes(extra) \
        + b"}"


def task_of(body):
    """Returns the task_id of an event() or raw_event(). json.loads() would
    refuse some bodies that a responder accepts."""
    return re.search(rb'"task_id":"(\w+)"', body)[1].decode()


def eventually(condition, within=5):
    """Returns true if the condition becomes true within that many seconds."""
    end = time.monotonic() + within
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(0.01)
    return True


def variables(method="POST", body=b"", changes=None):
    """Returns the CGI variables of a request. None in changes removes one."""
    out = {"GATEWAY_INTERFACE": "CGI/1.1", "SERVER_PROTOCOL": "HTTP/1.1",
           "SERVER_SOFTWARE": "test", "SERVER_NAME": "localhost",
           "SERVER_PORT": "443", "REQUEST_METHOD": method,
           "REQUEST_URI": "/humcli-webhook", "SCRIPT_NAME": "/humcli-webhook",
           "QUERY_STRING": "", "REMOTE_ADDR": "192.0.2.7",
           "REMOTE_PORT": "40000"}
    if method == "POST":
        out["CONTENT_TYPE"] = "application/json"
        out["CONTENT_LENGTH"] = str(len(body))
    out.update(changes or {})
    return {k: v for k, v in out.items() if v is not None}


def on_disk():
    """Returns a folder for temporary files that is not on tmpfs, because on
    tmpfs a secret that others can read is only a warning."""
    for path in ("/tmp", "/var/tmp"):
        kind = subprocess.run(["stat", "-f", "-c", "%T", path], check=True,
                              capture_output=True, text=True).stdout
        if kind.strip() != "tmpfs":
            return path
    raise RuntimeError("both /tmp and /var/tmp are on tmpfs")


class Responder:
    """The common part of FastCGI and CGI, with a folder for settings, secrets
    and the log. Use as a context manager."""

    def __init__(self, program, conninfo, secrets=None, environment=None,
                 more_environment=None, **settings):
        """environment: the whole environment, instead of the settings.
        more_environment: variables beside the settings."""
        self.whole_environment = environment
        self.program = str(program)
        self.folder = tempfile.mkdtemp(prefix="humcli-responder-",
                                       dir=on_disk())
        self.secret_dir = os.path.join(self.folder, "secrets")
        self.log_file = os.path.join(self.folder, "log")
        self.stderr_file = os.path.join(self.folder, "stderr")
        os.mkdir(self.secret_dir, 0o700)
        chown_to_test_user(self.secret_dir)
        chown_to_test_user(self.folder)
        self.secrets = {}
        self.more_environment = dict(more_environment or {})
        for name, value in ({"main": SECRET} if secrets is None
                            else secrets).items():
            self.add_secret(name, value)
        self.leaks = self.write("leaks", LEAKS_OF_OTHERS, 0o644)
        # An empty file, so that the machine's settings are not read.
        config = self.write("humcli-webhook.conf", "")
        self.settings = {"CONFIG": config, "SECRET_DIR": self.secret_dir,
                         "DATABASE": conninfo, "SPOOL": "",
                         "LOG": self.log_file}
        self.settings.update(settings)

    def write(self, name, text, mode=0o600):
        """Writes a file into the folder by a rename; returns its path."""
        path = os.path.join(self.folder, name)
        with open(path + ".new", "wb") as file:
            os.fchmod(file.fileno(), mode)
            file.write(fastcgi.to_bytes(text))
        chown_to_test_user(path + ".new")
        os.rename(path + ".new", path)
        return path

    def add_secret(self, name, value, mode=0o600):
        self.secrets[name] = value
        # The file is renamed into the folder, because the responder watches it.
        os.rename(self.write("secret", value, mode),
                  os.path.join(self.secret_dir, name))

    def remove_secret(self, name):
        os.unlink(os.path.join(self.secret_dir, name))

    def environment(self):
        if self.whole_environment is not None:
            return self.whole_environment
        env = {k: os.environ[k] for k in SANITIZERS if k in os.environ}
        env["LSAN_OPTIONS"] = (f"{env.get('LSAN_OPTIONS', '')}"
                               f":suppressions={self.leaks}"
                               ":print_suppressions=0")
        env.update((f"HUMCLI_WEBHOOK_{k}", v)
                   for k, v in self.settings.items() if v is not None)
        env.update(self.more_environment)
        return env

    def spawn(self, *arguments, env=None, **streams):
        with open(self.stderr_file, "ab") as stderr:
            return subprocess.Popen(
                [self.program, *arguments], cwd="/", stderr=stderr,
                env=self.environment() if env is None else env,
                **streams, **as_test_user())

    def read(self, path):
        try:
            with open(path, encoding="utf-8", errors="replace") as file:
                return file.read()
        except FileNotFoundError:
            return ""

    def log(self):
        return self.read(self.log_file)

    def check_stderr(self):
        text = self.read(self.stderr_file)
        assert not any(word in text for word in REPORTS), text
        for secret in self.secrets.values():
            assert secret not in text + self.log(), "a secret was logged"

    def post(self, body, secret=SECRET, signature=ABSENT, changes=None,
             more=()):
        """Sends a signed POST. signature: another one, or None for none. more:
        further pairs, for repeated names (only by FastCGI)."""
        if signature is ABSENT:
            signature = sign(body, secret)
        return self.request(body=body, more=more, changes={
            "HTTP_X_SIGNATURE": signature, **(changes or {})})

    def get(self, path_info="/health", method="GET", **changes):
        return self.request(method, changes={"PATH_INFO": path_info,
                                             **changes})

    def request(self, method="POST", body=b"", changes=None, more=()):
        raise NotImplementedError

    def close(self):
        shutil.rmtree(self.folder)

    def __enter__(self):
        return self

    def __exit__(self, kind, *_):
        self.close()


class FastCGI(Responder):
    """The resident responder. where: the argument of --listen, or None for a
    listening socket as fd 0. listener: a socket shared with other processes."""

    def __init__(self, program, conninfo, secrets=None, where=None,
                 listener=None, **others):
        super().__init__(program, conninfo, secrets, **others)
        self.process = None
        try:
            self.start(where, listener)
            self.wait_until_serving()
        except BaseException:
            self.close()
            raise

    def start(self, where=None, listener=None):
        if where is not None:
            self.address = where
            if where.startswith(":"):
                self.address = ("127.0.0.1", int(where[1:]))
            self.process = self.spawn("--listen", where,
                                      stdin=subprocess.DEVNULL)
            return
        shared = listener is not None
        if not shared:
            listener = socket.socket(socket.AF_UNIX)
            listener.bind(os.path.join(self.folder, "socket"))
            listener.listen(1024)
        self.address = listener.getsockname()
        self.process = self.spawn(stdin=listener, stdout=subprocess.DEVNULL)
        if not shared:
            listener.close()

    def wait_until_serving(self, limit=10):
        """Waits until a GET is refused, which needs no database."""
        end = time.monotonic() + limit
        while True:
            try:
                assert self.get("").status == 405
                return
            except (OSError, fastcgi.Broken):
                assert self.process.poll() is None, self.why()
                assert time.monotonic() < end, self.why()
                time.sleep(0.01)

    def why(self):
        return (f"exit {self.process.poll()}, stderr:\n"
                f"{self.read(self.stderr_file)[-4000:]}\nlog:\n"
                f"{self.log()[-4000:]}")

    @property
    def pid(self):
        return self.process.pid

    def connect(self, timeout=15):
        return fastcgi.Connection(self.address, timeout)

    def request(self, method="POST", body=b"", changes=None, more=(),
                keep=False):
        params = [*variables(method, body, changes).items(), *more]
        start = time.monotonic()
        answer = fastcgi.exchange(self.address, params, body, keep)
        answer.seconds = time.monotonic() - start
        return answer

    def assert_serving(self):
        assert self.process.poll() is None, self.why()
        assert self.post(event()).body == b'{"received":true}', self.why()

    def log(self):
        """Returns the log. A thread of the responder writes it, perhaps after
        the reply, so this waits until it no longer grows, at most 1 s."""
        text = super().log()
        end = time.monotonic() + 1
        while (self.process is not None and self.process.poll() is None
               and time.monotonic() < end):
            time.sleep(0.05)
            before, text = text, super().log()
            if text == before:
                break
        return text

    def stop(self, number=signal.SIGTERM, within=6):
        """Stops the responder as a web server does; returns the seconds."""
        start = time.monotonic()
        assert self.process.poll() is None, self.why()
        self.process.send_signal(number)
        return self.wait_end(start, within)

    def wait_end(self, start, within=6):
        try:
            self.process.wait(within)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"still there: {self.why()}") from None
        seconds = time.monotonic() - start
        assert self.process.returncode == 0, self.why()
        self.check_stderr()
        return seconds

    def close(self):
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        super().close()

    def __exit__(self, kind, *_):
        try:
            if kind is None and self.process.poll() is None:
                self.stop()
            elif kind is None:
                assert self.process.returncode == 0, self.why()
                self.check_stderr()
        finally:
            self.close()


class CGI(Responder):
    """Plain CGI: one process for each request. Its environment has only CGI's
    variables and the settings."""

    def start(self, params, **streams):
        env = {**self.environment(), **params}
        return self.spawn(env=env, **streams)

    def request(self, method="POST", body=b"", changes=None, more=()):
        assert not more, "an environment has each name once"
        start = time.monotonic()
        process = self.start(variables(method, body, changes),
                             stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        return finish_cgi(self, process, body, start)

    def assert_serving(self):
        assert self.post(event()).body == b'{"received":true}', self.log()

    def __exit__(self, kind, *_):
        try:
            if kind is None:
                self.check_stderr()
        finally:
            self.close()


def finish_cgi(responder, process, body, start):
    """Writes the body to a CGI process and reads its answer to the end."""
    def write():
        try:
            process.stdin.write(body)
            process.stdin.close()
        except BrokenPipeError:
            pass

    writer = threading.Thread(target=write)
    writer.start()
    limit = threading.Timer(20, process.kill)
    limit.start()
    try:
        raw = process.stdout.read()
        seconds = time.monotonic() - start
        process.wait()
    finally:
        limit.cancel()
        writer.join()
        process.stdout.close()
    responder.check_stderr()
    assert process.returncode == 0, \
        f"exit {process.returncode}: {raw!r}\n{responder.log()}"
    answer = Answer(raw)
    answer.seconds = seconds
    return answer
