"""The contenders: this project in its shipped set-ups, and usual alternatives.
All of them end TLS by themselves, with the same kind of certificate."""

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
NULL = "records-nothing"
OTHERS = ("flask", "php-fpm", "fastify")
# PHP that opens a connection to the database for each request, like plain CGI.
PHP_CONNECTS = "php-fpm-connects"


def read(name):
    with open(os.path.join(HERE, name), encoding="ascii") as file:
        return file.read()


class Setup:
    """A contender of this project. paths: those of its program."""

    table = "humcli.events"

    def __init__(self, name, paths, database):
        self.setup = web_server_setups.make("lighttpd-socket" if name == NULL else name, paths,
                                 database.dsn("bench_writer"))
        self.server = self.setup.server
        self.url = self.server.https.url

    @property
    def port(self):
        return self.server.tls_port

    @property
    def roots(self):
        service = self.setup.service
        return [self.server.process.pid] + ([service.process.pid] if service else [])

    def logs(self):
        return self.setup.logs()

    def close(self):
        self.setup.close()


class Other:
    """The common part of the alternatives: a server for the harness."""

    table = "webhook_events"
    url = "/webhook"

    @property
    def port(self):
        return self.tls_port

    @property
    def roots(self):
        return [self.process.pid]

    def logs(self):
        return self.log()


class Alone(Other, WebServer):
    """An alternative that needs no web server in front of it."""

    samples = ""

    def __init__(self, paths, environment):
        super().__init__(paths, "", {}, {"WEBHOOK_SECRET": SECRET, **environment})

    def configure(self):
        return None

    def command(self, configuration, check=None):
        return ["true"] if check else self.serve()

    def serve(self):
        raise NotImplementedError

    def answers(self):
        return subprocess.run(["curl", "-sko", "/dev/null", f"https://localhost:{self.port}/"],
                              check=False).returncode == 0


class Flask(Alone):
    """Flask by gunicorn with threads, because its plain workers do not keep
    connections. Five processes for two cores, as its documentation says."""

    THREADS = 16

    def __init__(self, paths, database):
        super().__init__(paths, {"DATABASE": database.dsn(), "THREADS": str(self.THREADS),
                                 "PYTHONDONTWRITEBYTECODE": "1"})

    def serve(self):
        return ["/usr/bin/gunicorn", "--chdir", HERE, "--workers", str(2 * CORES + 1),
                "--threads", str(self.THREADS), "--bind", f"127.0.0.1:{self.port}",
                "--certfile", self.certificate, "--keyfile", self.key, "app:app"]


class Fastify(Alone):
    """Fastify with one process for each core."""

    CONNECTIONS = 32

    def __init__(self, paths, database):
        self.program = paths.node / "server.js"
        super().__init__(paths, {
            "PGHOST": database.cluster.folder, "PGPORT": str(database.cluster.port),
            "PGDATABASE": database.name, "PGUSER": "postgres",
            "WORKERS": str(CORES), "CONNECTIONS": str(self.CONNECTIONS),
            "NODE_ENV": "production"})

    def configure(self):
        self.environment.update(PORT=str(self.port), CERTIFICATE=self.certificate, KEY=self.key)

    def serve(self):
        return [shutil.which("node"), self.program]


class Php(Other, Lighttpd):
    """PHP-FPM behind a lighttpd with the shipped tls.conf. persistent: whether
    connections to the database are kept."""

    CHILDREN = 32
    url = "/webhook.php"

    def __init__(self, paths, database, persistent=True):
        self.fpm = None
        self.words = {"database": f"pgsql:{database.dsn()}", "secret": SECRET,
                      "children": self.CHILDREN, "persistent": "yes" if persistent else "no"}
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
        return [self.process.pid, self.fpm.pid]

    def close(self):
        if self.fpm is not None and self.fpm.poll() is None:
            self.fpm.terminate()
            self.fpm.wait()
        super().close()


def start(name, paths, database):
    if name in OURS:
        return Setup(name, paths, database)
    if name == NULL:
        return Setup(name, paths.recording_nothing, database)
    if name in ("php-fpm", PHP_CONNECTS):
        return Php(paths, database, persistent=name == "php-fpm")
    return {"flask": Flask, "fastify": Fastify}[name](paths, database)


def memory(roots):
    """Returns the proportional set size of processes and their children,
    MiB."""
    total, todo = 0, list(roots)
    while todo:
        pid = todo.pop()
        try:
            with open(f"/proc/{pid}/smaps_rollup", encoding="ascii") as file:
                total += next(int(line.split()[1]) for line in file if line.startswith("Pss:"))
            for task in os.listdir(f"/proc/{pid}/task"):
                with open(f"/proc/{pid}/task/{task}/children", encoding="ascii") as file:
                    todo += map(int, file.read().split())
        except (FileNotFoundError, ProcessLookupError):
            continue    # the process has ended
    return total / 1024
