"""Runs PostgreSQL for the tests: each Cluster has its own temporary folder."""

import functools
import glob
import itertools
import os
import pwd
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import time

import psycopg2

SUPERUSER = "postgres"
DATABASES = itertools.count(1)
DATA_ROOM = 4 << 30


def bindir():
    """Returns the folder of initdb and postgres: HUMCLI_PG_BINDIR, or that of
    the newest installed version."""
    named = os.environ.get("HUMCLI_PG_BINDIR")
    if named:
        return named
    found = []
    if shutil.which("pg_config"):
        found.append(subprocess.run(["pg_config", "--bindir"], check=True,
                                    capture_output=True, text=True).stdout.strip())
    found += sorted(glob.glob("/usr/lib/postgresql/*/bin"),
                    key=lambda path: int(path.split("/")[4]), reverse=True)
    for path in found:
        if os.access(os.path.join(path, "initdb"), os.X_OK):
            return path
    raise RuntimeError("no initdb found; on Debian: apt-get install postgresql, or set HUMCLI_PG_BINDIR")


def as_test_user():
    """Returns arguments for subprocess. As root, programs run as nobody,
    because PostgreSQL refuses to run as root."""
    if os.geteuid() != 0:
        return {}
    nobody = pwd.getpwnam("nobody")
    return {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}


def wait_until(condition, what, limit=10.0):
    """Waits until condition() returns a true value; returns that value."""
    until = time.monotonic() + limit
    while True:
        result = condition()
        if result:
            return result
        if time.monotonic() > until:
            raise AssertionError(f"waited {limit} s in vain for {what}")
        time.sleep(0.01)


def is_alive(pid):
    """Returns true if the process runs; false for a zombie."""
    try:
        with open(f"/proc/{pid}/stat", encoding="ascii", errors="replace") as file:
            return file.read().rpartition(")")[2].split()[0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False


def data_root():
    """Returns the folder for the data of servers: in memory where there is room,
    because a new database for each test takes much longer on a disk."""
    with open("/proc/meminfo", encoding="ascii") as file:
        free = 1024 * int(re.search(r"^MemAvailable: *(\d+)", file.read(), re.MULTILINE)[1])
    try:
        shm = os.statvfs("/dev/shm")
    except OSError:
        return "/tmp"
    room = min(free, shm.f_bavail * shm.f_frsize)
    return "/dev/shm" if room > DATA_ROOM and os.access("/dev/shm", os.W_OK) else "/tmp"


class Cluster:
    """
    A server that listens on a unix socket in its folder and on a free loopback
    port. settings: further lines of postgresql.conf.
    """

    def __init__(self, settings=()):
        self.bindir = bindir()
        self.folder = tempfile.mkdtemp(prefix="humcli-pg-", dir=data_root())
        os.chmod(self.folder, 0o755)
        self.data = os.path.join(self.folder, "data")
        self.logfile = os.path.join(self.folder, "log")
        self.server = None
        owner = as_test_user()
        if owner:
            os.chown(self.folder, owner["user"], owner["group"])
        try:
            self.make_data()
            with socket.socket() as probe:
                probe.bind(("127.0.0.1", 0))
                self.port = probe.getsockname()[1]
            with open(os.path.join(self.data, "postgresql.conf"), "a", encoding="ascii") as conf:
                conf.write(f"port = {self.port}\n"
                           "listen_addresses = '127.0.0.1'\n"
                           f"unix_socket_directories = '{self.folder}'\n"
                           "max_connections = 300\n"
                           "shared_buffers = 64MB\n"
                           "timezone = 'UTC'\n"
                           + "".join(line + "\n" for line in settings))
            self.start()
        except BaseException:
            self.remove()
            raise

    def make_data(self):
        """Makes the data folder."""
        self.run("initdb", "--pgdata", self.data, "--username", SUPERUSER,
                 "--auth", "trust", "--encoding", "UTF8", "--locale", "C", "--no-sync")

    @functools.cached_property
    def version(self):
        """The version in the form of server_version_num."""
        text = self.run("postgres", "--version")
        numbers = re.search(r"(\d+)\.(\d+)", text)
        return int(numbers[1]) * 10000 + int(numbers[2])

    @property
    def log(self):
        """The text of the server's log."""
        try:
            with open(self.logfile, encoding="utf-8", errors="replace") as file:
                return file.read()
        except FileNotFoundError:
            return ""

    def run(self, program, *arguments, check=True):
        """Runs one of PostgreSQL's programs; returns its output and errors."""
        path = os.path.join(self.bindir, program)
        if not os.path.exists(path):    # some folders lack the client programs
            path = program
        done = subprocess.run([path, *arguments],
                              cwd="/", capture_output=True, text=True, **as_test_user())
        if check and done.returncode != 0:
            raise RuntimeError(f"{program}: {done.stdout}{done.stderr}")
        return done.stdout + done.stderr

    def start(self):
        """Starts the server and waits until it answers."""
        with open(self.logfile, "ab") as log:
            self.server = subprocess.Popen(
                [os.path.join(self.bindir, "postgres"), "-D", self.data],
                cwd="/", stdin=subprocess.DEVNULL, stdout=log, stderr=log, **as_test_user())
        wait_until(self.answers, "PostgreSQL to start\n" + self.log, limit=30)

    def answers(self):
        """Returns true if the server accepts a connection."""
        if self.server.poll() is not None:
            raise RuntimeError("PostgreSQL ended:\n" + self.log)
        try:
            self.connect().close()
        except psycopg2.OperationalError:
            return False
        return True

    def stop(self, mode="fast"):
        """Stops the server. mode: smart, fast or immediate."""
        if self.server is None:
            return
        self.server.send_signal({"smart": signal.SIGTERM, "fast": signal.SIGINT,
                                 "immediate": signal.SIGQUIT}[mode])
        try:
            self.server.wait(30)
        except subprocess.TimeoutExpired:
            self.kill()
        self.server = None

    def restart(self, mode="fast"):
        """Stops and starts the server with the same data and port."""
        self.stop(mode)
        self.start()

    def kill(self):
        """Kills the server and its child processes at once, as a crash
        would."""
        if self.server is None:
            return
        with open(f"/proc/{self.server.pid}/task/{self.server.pid}/children",
                  encoding="ascii") as file:
            children = [int(pid) for pid in file.read().split()]
        self.server.kill()
        self.server.wait()
        self.server = None
        for pid in children:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
        wait_until(lambda: not any(map(is_alive, children)), "PostgreSQL's children to end")

    def remove(self):
        """Stops the server and deletes its folder."""
        self.stop("immediate")
        shutil.rmtree(self.folder)

    def dsn(self, dbname=SUPERUSER, user=SUPERUSER, tcp=False):
        """Returns a conninfo for libpq, by the unix socket or by TCP."""
        host = "127.0.0.1" if tcp else self.folder
        return f"host={host} port={self.port} dbname={dbname} user={user}"

    def connect(self, dbname=SUPERUSER, user=SUPERUSER):
        """Returns an autocommit connection; the caller closes it."""
        connection = psycopg2.connect(self.dsn(dbname, user))
        connection.autocommit = True
        return connection

    def execute(self, sql, dbname=SUPERUSER, user=SUPERUSER):
        """Runs one statement, outside a transaction; returns its rows."""
        connection = self.connect(dbname, user)
        try:
            with connection.cursor() as cursor:
                cursor.execute(sql)
                return cursor.fetchall() if cursor.description else []
        finally:
            connection.close()

    def create_database(self, template="template0", encoding="UTF8", owner=SUPERUSER):
        """Makes a database with an unused name; returns the name."""
        name = f"test_{next(DATABASES)}"
        self.execute(f"CREATE DATABASE {name} TEMPLATE {template} ENCODING '{encoding}' "
                     f"LC_COLLATE 'C' LC_CTYPE 'C' OWNER {owner}")
        return name

    def drop_database(self, name):
        """Drops a database and ends all connections to it."""
        others = f"FROM pg_stat_activity WHERE datname = '{name}'"
        self.execute(f"SELECT pg_terminate_backend(pid) {others}")
        if self.version < 130000:
            wait_until(lambda: not self.execute(f"SELECT 1 {others}"), "all to leave")
            self.execute(f"DROP DATABASE IF EXISTS {name}")
        else:
            self.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")


class Database:
    """One database of a cluster."""

    def __init__(self, cluster, name):
        self.cluster = cluster
        self.name = name

    def dsn(self, user=SUPERUSER, tcp=False):
        """Returns a conninfo for libpq."""
        return self.cluster.dsn(self.name, user, tcp)

    def connect(self, user=SUPERUSER):
        """Returns an autocommit connection; the caller closes it."""
        return self.cluster.connect(self.name, user)

    def execute(self, sql, user=SUPERUSER):
        """Runs one statement; returns its rows."""
        return self.cluster.execute(sql, self.name, user)

    def psql(self, *arguments, user=SUPERUSER, check=True):
        """Runs psql -X on the database; returns output, errors and notices."""
        return self.cluster.run("psql", "-X", "-d", self.dsn(user), *arguments, check=check)
