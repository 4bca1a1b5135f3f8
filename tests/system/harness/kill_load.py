"""Kills one part of a site under load, and counts what became of each event.

The short form is system/test_kill.py, the long form is tests/kill. Both use
Site (a web server, a responder, a spool and a database), the functions in
KILLERS, and Ledger (the count)."""

import collections
import os
import random
import shutil
import signal
import tempfile
from typing import Callable, NamedTuple

from harness import web_server_setups
from harness.load import Load
from harness.postgres import Database, is_alive, wait_until
from harness.responder import chown_to_test_user, on_disk
from harness.systemd import Service

WRITER = "kill_writer"
STUCK = 30      # seconds after which a spool that stays the same is stuck
STEADY = 300    # events sent per second, at least


def install(cluster, paths):
    """Makes a database with the schema and a writer; returns the Database."""
    database = Database(cluster, cluster.create_database())
    database.psql("-v", "ON_ERROR_STOP=1", "-q", "-f", str(paths.install_sql))
    if not database.execute(f"SELECT 1 FROM pg_roles WHERE rolname = '{WRITER}'"):
        database.execute(f"CREATE ROLE {WRITER} LOGIN IN ROLE humcli_writer")
    return database


class Ledger:
    """Compares the events that were sent with the rows of humcli.events."""

    def __init__(self, load, database):
        self.load = load
        rows = collections.Counter(
            body.encode() for body, in database.execute("SELECT payload::text FROM humcli.events"))
        self.twice = sum(count > 1 for count in rows.values())
        self.lost = [one for one in load.sent if one.acknowledged and not rows[one.body]]
        self.rows = len(rows)
        self.foreign = len(set(rows) - {one.body for one in load.sent})
        # An identical delivery is a duplicate, never a repeat.
        self.repeats = database.execute("SELECT count(*) FROM humcli.repeats")[0][0]
        self.quarantined = database.execute("SELECT count(*) FROM humcli.quarantine")[0][0]
        self.acknowledged = sum(one.acknowledged for one in load.sent)
        self.slowest = max(one.slowest for one in load.sent)
        self.rate = len(load.sent) / load.seconds

    def check(self, may_fail=True):
        """Fails if an acknowledged event is lost or an event is there twice.
        may_fail: a request may have got another answer than 200."""
        assert not self.lost, \
            f"{len(self.lost)} lost: {[(one.body, one.answers) for one in self.lost[:5]]}"
        assert (self.twice, self.foreign, self.repeats, self.quarantined) == (0, 0, 0, 0), self
        assert may_fail or self.load.failed == 0, self

    def __repr__(self):
        return str(dict(zip(self.COLUMNS, self.row())))

    COLUMNS = ("sent", "per s", "acknowledged", "in table", "lost", "twice",
               "recorded", "duplicate", "spooled", "503", "other", "broken", "slowest s")

    def row(self):
        answers = self.load.kinds
        return (len(self.load.sent), round(self.rate), self.acknowledged, self.rows,
                len(self.lost), self.twice, answers["recorded"], answers["duplicate"],
                answers["spooled"], answers["503"], answers["other"], answers["broken"],
                round(self.slowest, 2))


class Site:
    """A web server set-up with its own spool and its own database. Use as a
    context manager."""

    def __init__(self, paths, cluster, seed, name="lighttpd-socket", **settings):
        self.cluster = cluster
        self.random = random.Random(seed)
        self.setup = None
        self.spool = None
        try:
            self.database = install(cluster, paths)
            self.spool = tempfile.mkdtemp(prefix="humcli-spool-", dir=on_disk())
            chown_to_test_user(self.spool)
            self.setup = self.make(
                name, paths, f"{self.hosts()} dbname={self.database.name} user={WRITER}",
                SPOOL=self.spool, **settings)
        except BaseException:
            self.close()
            raise
        self.server = self.setup.server
        self.service = self.setup.service

    def hosts(self):
        """Returns the server's part of the conninfo."""
        return f"host={self.cluster.folder} port={self.cluster.port}"

    def make(self, *arguments, **settings):
        return web_server_setups.make(*arguments, **settings)

    def folder(self, name=""):
        """Returns the path of the spool, or of a file in it."""
        return os.path.join(self.spool, name)

    def spooled(self):
        """Returns the number of files that wait in the spool."""
        return len(os.listdir(self.folder("new")))

    def wait_drained(self, left=0):
        """Waits until at most `left` files wait. There is no limit as long as
        the spool gets smaller at least every STUCK seconds."""
        count = self.spooled()
        while count > left:
            before = count
            wait_until(lambda before=before: self.spooled() != before,
                       f"the spool to get smaller than {before}", limit=STUCK)
            count = self.spooled()

    def load(self, **options):
        return Load(self.server, self.random.random(), **options)

    def ledger(self, load, database=None):
        """Waits until the spool is empty, then returns the Ledger. database:
        another one than the site's, after a failover."""
        self.wait_drained()
        assert os.listdir(self.folder("failed")) == []
        return Ledger(load, database or self.database)

    def logs(self):
        return self.setup.logs()

    def close(self):
        try:
            if self.setup is not None:
                self.setup.close()
        finally:
            if self.spool is not None:
                shutil.rmtree(self.spool)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


# Each killer gets the site and the load. It kills once, and what it killed
# runs again when it returns.

def responder_killed(site, load):
    """Kills the responder and starts it at once, as a supervisor does."""
    site.service.process.kill()
    site.service.process.wait()
    site.service.start()


def responder_killed_while_spooling(site, load):
    """Kills the responder while it spools, and again while it drains."""
    site.cluster.stop("immediate")
    wait_until(site.spooled, "something in the spool", limit=20)
    load.wait_sent(site.random.randrange(200))
    responder_killed(site, load)
    load.wait_sent(site.random.randrange(200))
    site.cluster.start()
    site.wait_drained(left=int(site.spooled() * site.random.random()))
    responder_killed(site, load)


def kill_backend(site):
    """Kills the writer's backend, because PostgreSQL then restarts all its
    backends. Returns the pid; None if there is no such backend yet."""
    for pid, in site.database.execute(
            "SELECT pid FROM pg_stat_activity WHERE datname = current_database()"
            f" AND usename = '{WRITER}'"):
        try:
            os.kill(pid, signal.SIGKILL)
            return pid
        except ProcessLookupError:
            pass    # the backend has just ended by itself
    return None


def writer_killed(site, load):
    wait_until(site.cluster.answers, "PostgreSQL", limit=30)
    pid = wait_until(lambda: kill_backend(site), "the writer to be connected", limit=30)
    wait_until(lambda: not is_alive(pid), "the backend to end")
    wait_until(site.cluster.answers, "PostgreSQL to recover", limit=30)


def postgres_killed(site, load):
    """Stops PostgreSQL for a moment or until events are spooled, and once more
    while the spool drains."""
    site.cluster.stop("immediate")
    load.wait_sent(site.random.choice((1, 100, 500)))
    site.cluster.start()
    site.wait_drained(left=int(site.spooled() * site.random.random()))
    site.cluster.restart("immediate")


def lighttpd_killed(site, load):
    site.server.process.kill()
    site.server.process.wait()
    site.server.run()


def spool_full(site, load):
    """Fills the spool while the database is unavailable: sometimes at once,
    sometimes slowly."""
    ballast = site.folder("ballast")
    site.cluster.stop("immediate")
    with open(ballast, "wb") as file:
        free = os.statvfs(site.folder())
        file.write(bytes(int(free.f_bavail * free.f_frsize * site.random.choice((0, 0.8, 0.95)))))
    refused = load.kinds["503"]
    wait_until(lambda: load.kinds["503"] > refused + 20, "the spool to be full", limit=30)
    if site.random.random() < 0.5:
        os.truncate(ballast, 0)     # as if an administrator made room
    load.wait_sent(site.random.randrange(100))
    site.cluster.start()
    os.unlink(ballast)


def responder_stopped(site, load):
    assert site.service.stop() == 0
    site.service.start()


def responder_stopped_while_spooling(site, load):
    """Restarts the responder while the database is unavailable; no request is
    refused because of it."""
    site.cluster.stop("immediate")
    load.wait_sent(site.random.randrange(500))
    responder_stopped(site, load)
    load.wait_sent(site.random.randrange(500))
    site.cluster.start()


def lighttpd_reloaded(site, load):
    """Reloads lighttpd, which ends and starts the responder that it spawned."""
    def count():
        return site.setup.responder_log().count("serves FastCGI")

    before = count()
    site.server.process.send_signal(signal.SIGUSR1)
    wait_until(lambda: count() > before, "lighttpd to be back", limit=20)


def apache_reloaded(site, load):
    ready = "resuming normal operations"
    before = site.server.log().count(ready)
    site.server.process.send_signal(signal.SIGUSR1)
    wait_until(lambda: site.server.log().count(ready) > before, "Apache to be back", limit=20)


class SmallSpool(Service):
    """A Service whose spool is a small tmpfs, so that it gets full."""

    def __init__(self, spool, *arguments):
        self.spool = spool
        super().__init__(*arguments)

    def start(self):
        user, group = str(self.user["user"]), str(self.user["group"])
        self.command = ["unshare", "--mount", "sh", "-c",
                        'mount -t tmpfs -o "$1" none "$2" && shift 2 && exec "$@"', "sh",
                        f"size=1m,mode=700,uid={user},gid={group}", self.spool,
                        "setpriv", "--reuid", user, "--regid", group, "--clear-groups",
                        *self.command]
        self.user = {}
        super().start()

    def inside(self):
        """Returns the path that leads to the spool in the service's
        namespace."""
        return f"/proc/{self.process.pid}/root{self.spool}"


class SmallSpoolSetup(web_server_setups.Socket):
    def run_service(self, *arguments):
        return SmallSpool(self.responder.settings["SPOOL"], *arguments)


class SmallSpoolSite(Site):
    """A Site with a SmallSpool. Needs root for the mount."""

    def make(self, name, *arguments, **settings):
        return SmallSpoolSetup(*arguments, *web_server_setups.SETUPS[name][1:], **settings)

    def folder(self, name=""):
        return os.path.join(self.service.inside(), name)


class Killer(NamedTuple):
    kill: Callable
    setup: str = "lighttpd-socket"
    site: type = Site
    may_fail: bool = False  # requests in flight may fail
    fresh: bool = False     # one connection for each request; see Load


KILLERS = {
    "responder, SIGKILL": Killer(responder_killed, may_fail=True),
    "responder, SIGKILL twice, spooling and draining":
        Killer(responder_killed_while_spooling, may_fail=True),
    "writer's backend, SIGKILL": Killer(writer_killed),
    "PostgreSQL, immediate shutdown twice, and draining": Killer(postgres_killed),
    "lighttpd, SIGKILL": Killer(lighttpd_killed, may_fail=True),
    "spool, ENOSPC": Killer(spool_full, site=SmallSpoolSite, may_fail=True),
    "responder, SIGTERM, socket held": Killer(responder_stopped, fresh=True),
    "responder, SIGTERM, PostgreSQL unavailable":
        Killer(responder_stopped_while_spooling, fresh=True),
    "lighttpd, reload": Killer(lighttpd_reloaded, setup="lighttpd-spawn", fresh=True),
    "Apache, graceful": Killer(apache_reloaded, setup="apache-proxy_fcgi", fresh=True),
}
NEED_ROOT = ("spool, ENOSPC",)


def run(name, paths, cluster, seed, kills, **settings):
    """Kills that many times under load, each time at a random moment. Returns
    the Ledger after its check."""
    killer = KILLERS[name]
    with killer.site(paths, cluster, seed, name=killer.setup, **settings) as site:
        try:
            with site.load(fresh=killer.fresh) as load:
                for _ in range(kills):
                    load.wait_sent(site.random.randrange(1, 300))
                    killer.kill(site, load)
                    load.wait_received(20)
            ledger = site.ledger(load)
            ledger.check(killer.may_fail)
            return ledger
        except BaseException:
            print(site.server.log()[-5000:], site.logs()[-15000:], sep="\n")
            raise
