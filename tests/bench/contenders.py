"""The contenders: this project in its shipped set-ups, and usual alternatives,
each in several forms: numbers of processes, threads and connections."""

import glob
import os
import shutil
import subprocess

from harness import web_server_setups
from harness.lighttpd import BASE, Lighttpd
from harness.postgres import wait_until
from harness.responder import SECRET, as_test_user
from harness.webserver import WebServer, adapt

HERE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "contenders")
CORES = os.cpu_count()

OURS = tuple(web_server_setups.SETUPS)
RECOMMENDED = "lighttpd-socket"
NULL = "records-nothing"
# PHP that opens a connection to the database for each request, like plain CGI.
PHP_CONNECTS = "php-fpm-connects"
# The forms of the others, which the sweep measures. Without a sweep the first
# one is taken.
FORMS = {
    "go-pgx": tuple({"pool": pool} for pool in (16, 8, 32, 64)),
    "php-fpm": tuple({"children": children} for children in (16, 8, 32, 64)),
    "fastify": tuple({"processes": processes, "pool": pool} for processes, pool in (
        (CORES, 16), (CORES, 8), (CORES, 32), (CORES + 1, 16))),
    "flask": tuple({"processes": processes, "threads": threads} for processes, threads in (
        (8, 1), (4, 1), (32, 1), (CORES, 4), (2 * CORES + 1, 16))),
}
OTHERS = tuple(FORMS)


def read(name):
    with open(os.path.join(HERE, name), encoding="ascii") as file:
        return file.read()


def allow_plain_http(stage):
    """Changes the installed samples of lighttpd, which answer with TLS only, so
    that they answer without TLS, too."""
    for name in glob.glob(os.path.join(stage, "share/humcli-webhook/lighttpd/*.conf")):
        with open(name, encoding="ascii") as file:
            text = file.read()
        with open(name, "w", encoding="ascii") as file:
            file.write(text.replace('$HTTP["scheme"] != "https"', '$HTTP["scheme"] == "none"'))


class Contender:
    """What all have. The load goes to scheme://localhost:port/url. roots: the
    first process of each part. settled: as in BenchDatabase.count()."""

    tls = False
    settled = 0.3

    @property
    def scheme(self):
        return "https" if self.tls else "http"


class Setup(Contender):
    """A contender of this project. paths: those of its program."""

    table = "humcli.events"

    def __init__(self, name, paths, database, tls):
        self.tls = tls
        if "cgi" in name or "htaccess" in name:
            self.settled = 1.0  # a new process for each event may wait for long
        self.setup = web_server_setups.make(RECOMMENDED if name == NULL else name, paths,
                                            database.dsn("bench_writer"))
        self.server = self.setup.server
        self.url = self.server.https.url

    @property
    def port(self):
        return self.server.tls_port if self.tls else self.server.plain_port

    @property
    def roots(self):
        service = self.setup.service
        return {"web server": self.server.process.pid,
                **({"receiver": service.process.pid} if service else {})}

    def logs(self):
        return self.setup.logs()

    def close(self):
        self.setup.close()


class Other(Contender):
    """The common part of the alternatives: a server for the harness."""

    table = "webhook_events"
    url = "/webhook"

    @property
    def port(self):
        return self.tls_port if self.tls else self.plain_port

    @property
    def roots(self):
        return {"receiver": self.process.pid}

    def logs(self):
        return self.log()


class Alone(Other, WebServer):
    """An alternative that needs no web server in front of it."""

    samples = ""

    def __init__(self, paths, tls, environment):
        self.tls = tls
        super().__init__(paths, "", {}, {"WEBHOOK_SECRET": SECRET, **environment})

    def configure(self):
        self.environment.update(PORT=str(self.port))
        if self.tls:
            self.environment.update(CERTIFICATE=self.certificate, KEY=self.key)

    def command(self, configuration, check=None):
        return ["true"] if check else self.serve()

    def serve(self):
        raise NotImplementedError

    def answers(self):
        return subprocess.run(
            ["curl", "-sko", "/dev/null", f"{self.scheme}://localhost:{self.port}/"],
            check=False).returncode == 0


class Go(Alone):
    def __init__(self, paths, database, tls, pool):
        self.program = paths.go
        super().__init__(paths, tls, {"DATABASE": database.dsn(), "CONNECTIONS": str(pool)})

    def serve(self):
        return [self.program]


class Flask(Alone):
    """Flask by gunicorn. Its plain workers, of one thread, do not keep
    connections."""

    def __init__(self, paths, database, tls, processes, threads):
        self.processes = processes
        self.threads = threads
        super().__init__(paths, tls, {"DATABASE": database.dsn(),
                                      "PYTHONDONTWRITEBYTECODE": "1"})

    def serve(self):
        return ["/usr/bin/gunicorn", "--chdir", HERE, "--workers", str(self.processes),
                "--threads", str(self.threads), "--bind", f"127.0.0.1:{self.port}",
                *(["--certfile", self.certificate, "--keyfile", self.key] if self.tls else []),
                "app:app"]


class Fastify(Alone):
    def __init__(self, paths, database, tls, processes, pool):
        self.program = paths.node / "server.js"
        super().__init__(paths, tls, {
            "PGHOST": database.cluster.folder, "PGPORT": str(database.cluster.port),
            "PGDATABASE": database.name, "PGUSER": "postgres",
            "WORKERS": str(processes), "CONNECTIONS": str(pool), "NODE_ENV": "production"})

    def serve(self):
        return [shutil.which("node"), self.program]


class Php(Other, Lighttpd):
    """PHP-FPM behind a lighttpd with the shipped tls.conf. persistent: whether
    connections to the database are kept."""

    url = "/webhook.php"

    def __init__(self, paths, database, tls, children, persistent=True):
        self.tls = tls
        self.fpm = None
        self.words = {"database": database.dsn(), "secret": SECRET, "children": children,
                      "persistent": "yes" if persistent else "no"}
        super().__init__(paths, "tls.conf", {})

    def start(self):
        self.words["folder"] = self.folder
        shutil.copy(os.path.join(HERE, "webhook.php"), self.path("www", "webhook.php"))
        configuration = self.write("fpm.conf", read("php-fpm.conf").format(**self.words))
        program = sorted(glob.glob("/usr/sbin/php-fpm*"))[-1]
        with open(self.path("stderr"), "ab") as stderr:
            self.fpm = subprocess.Popen(
                [program, "--nodaemonize", "--fpm-config", configuration], cwd="/",
                stdin=subprocess.DEVNULL, stdout=stderr, stderr=stderr, **as_test_user())
        wait_until(lambda: self.fpm.poll() is not None
                   or os.path.exists(self.path("fpm.sock")), "PHP-FPM to listen")
        super().start()

    def configure(self):
        return self.write("lighttpd.conf", "\n".join([
            BASE.format(folder=self.folder, plain=self.plain_port),
            adapt(self.sample, {"humcli_listen": f"127.0.0.1:{self.tls_port}",
                                "humcli_certificate": self.certificate,
                                "humcli_key": self.key}),
            read("php-lighttpd.conf").replace("{folder}", self.folder)]))

    @property
    def roots(self):
        return {"web server": self.process.pid, "receiver": self.fpm.pid}

    def close(self):
        if self.fpm is not None and self.fpm.poll() is None:
            self.fpm.terminate()
            self.fpm.wait()
        super().close()


def start(name, paths, database, tls=False, form=None):
    """Starts a contender. form: one of FORMS[name]; else the first."""
    if name in OURS:
        return Setup(name, paths, database, tls)
    if name == NULL:
        return Setup(name, paths.recording_nothing, database, tls)
    if name == PHP_CONNECTS:
        return Php(paths, database, tls, 32, persistent=False)
    kind = {"go-pgx": Go, "php-fpm": Php, "fastify": Fastify, "flask": Flask}[name]
    return kind(paths, database, tls, **(form or FORMS[name][0]))


def describe(form):
    """Returns the words for a form, such as "2 processes, 16 connections"."""
    words = {"pool": "connections", "children": "processes"}
    return ", ".join(f"{count} {words.get(what, what)}" for what, count in form.items())


def processes(root):
    """Yields the ids of a process and of its descendants."""
    todo = [root]
    while todo:
        pid = todo.pop()
        yield pid
        try:
            for task in os.listdir(f"/proc/{pid}/task"):
                with open(f"/proc/{pid}/task/{task}/children", encoding="ascii") as file:
                    todo += map(int, file.read().split())
        except (FileNotFoundError, ProcessLookupError):
            continue    # the process has ended


def memory(roots):
    """Returns the proportional set size of processes and their children,
    MiB."""
    total = 0
    for root in roots:
        for pid in processes(root):
            try:
                with open(f"/proc/{pid}/smaps_rollup", encoding="ascii") as file:
                    total += next(int(line.split()[1]) for line in file
                                  if line.startswith("Pss:"))
            except (FileNotFoundError, ProcessLookupError):
                continue
    return total / 1024


def processor_time(root):
    """Returns the processor time of a process, of its descendants, and of the
    children that it has waited for, in seconds."""
    ticks = 0
    for pid in processes(root):
        try:
            with open(f"/proc/{pid}/stat", encoding="ascii", errors="replace") as file:
                fields = file.read().rpartition(")")[2].split()
            ticks += sum(map(int, fields[11:15]))   # utime, stime, cutime, cstime
        except (FileNotFoundError, ProcessLookupError):
            continue
    return ticks / os.sysconf("SC_CLK_TCK")
