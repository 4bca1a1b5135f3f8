"""Two PostgreSQL servers, where the second is a synchronous standby of the
first, and a PgBouncer for a test that wants one."""

import os
import re
import shutil
import signal
import subprocess
import tempfile

import psycopg2
import pytest

from harness.postgres import SUPERUSER, Cluster, as_test_user, wait_until
from harness.responder import chown_to_test_user
from harness.webserver import free_port


class Standby(Cluster):
    """A standby that follows a running primary until it is promoted."""

    def __init__(self, primary):
        self.primary = primary
        super().__init__()

    def make_data(self):
        # Some packages of PostgreSQL lack pg_basebackup, and an older one
        # fails.
        theirs = int(re.search(r" (\d+)", self.run("pg_basebackup", "--version"))[1])
        if theirs < self.version // 10000:
            pytest.skip(f"no pg_basebackup of PostgreSQL {self.version // 10000}")
        self.run("pg_basebackup", "--pgdata", self.data, "--write-recovery-conf", "--no-sync",
                 "--checkpoint", "fast",
                 "--dbname", f"{self.primary.dsn(tcp=True)} application_name=standby")

    def promote(self):
        self.run("pg_ctl", "promote", "--wait", "--pgdata", self.data)
        assert self.execute("SELECT pg_is_in_recovery()") == [(False,)]


class Pair:
    """A primary and its standby. Use as a context manager."""

    def __init__(self):
        self.standby = None
        self.primary = Cluster(["synchronous_standby_names = ''"])
        try:
            self.standby = Standby(self.primary)
            # This is set last, because commits wait for the standby from then
            # on. The standby's files were copied before and do not have it.
            self.primary.execute("ALTER SYSTEM SET synchronous_standby_names = 'standby'")
            self.primary.execute("SELECT pg_reload_conf()")
            wait_until(lambda: self.primary.execute(
                "SELECT 1 FROM pg_stat_replication WHERE sync_state = 'sync'"),
                "the standby to be synchronous", limit=30)
        except BaseException:
            self.close()
            raise

    def clusters(self):
        return self.primary, self.standby

    def close(self):
        for cluster in (self.standby, self.primary):
            if cluster is not None:
                cluster.remove()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


class PgBouncer:
    """A PgBouncer in front of one cluster, on a free loopback port."""

    def __init__(self, cluster, user, mode="transaction"):
        self.process = None
        self.folder = tempfile.mkdtemp(prefix="humcli-pgbouncer-", dir="/tmp")
        chown_to_test_user(self.folder)
        self.logfile = os.path.join(self.folder, "log")
        self.port = free_port()
        self.user = user
        config = os.path.join(self.folder, "pgbouncer.ini")
        users = os.path.join(self.folder, "users")
        with open(users, "w", encoding="ascii") as file:
            file.write(f'"{user}" ""\n')
        with open(config, "w", encoding="ascii") as file:
            file.write("[databases]\n"
                       f"* = host=127.0.0.1 port={cluster.port}\n"
                       "[pgbouncer]\n"
                       "listen_addr = 127.0.0.1\n"
                       f"listen_port = {self.port}\n"
                       "unix_socket_dir =\n"
                       "auth_type = trust\n"
                       f"auth_file = {users}\n"
                       f"pool_mode = {mode}\n"
                       # seconds after a failed login; the default is 15
                       "server_login_retry = 1\n")
        try:
            with open(self.logfile, "ab") as log:
                self.process = subprocess.Popen(
                    ["/usr/sbin/pgbouncer", config], cwd="/", stdin=subprocess.DEVNULL,
                    stdout=log, stderr=log, **as_test_user())
            wait_until(self.answers, "PgBouncer to answer", limit=15)
        except BaseException:
            print(self.log())
            self.close()
            raise

    def answers(self):
        assert self.process.poll() is None, self.log()
        try:
            psycopg2.connect(f"host=127.0.0.1 port={self.port} dbname={SUPERUSER}"
                             f" user={self.user} connect_timeout=2").close()
        except psycopg2.OperationalError:
            return False
        return True

    def log(self):
        with open(self.logfile, encoding="utf-8", errors="replace") as file:
            return file.read()

    def close(self):
        if self.process is not None:
            self.process.send_signal(signal.SIGINT)
            try:
                self.process.wait(10)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        shutil.rmtree(self.folder)
