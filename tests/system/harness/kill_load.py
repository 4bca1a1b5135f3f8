"""What the kill tests share, in their short form (system/test_kill.py) and in
their long one (tests/kill): a site under load, the killers, the ledger."""

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
STUCK = 30      # seconds that the spool may stay as it is
STEADY = 300    # sent a second, at least


def install(cluster, paths):
    """A database with the schema and a writer for it; returns the Database."""
    database = Database(cluster, cluster.create_database())
    database.psql("-v", "ON_ERROR_STOP=1", "-q", "-f", str(paths.install_sql))
    if not database.execute(f"SELECT 1 FROM pg_roles WHERE rolname = '{WRITER}'"):
        database.execute(f"CREATE ROLE {WRITER} LOGIN IN ROLE humcli_writer")
    return database


class Ledger:
    """What became of what was sent, by the table of the database."""

    def __init__(self, load, database):
        self.load = load
        rows = collections.Counter(
            body.encode() for body, in database.execute("SELECT payload::text FROM humcli.events"))
        self.twice = sum(count > 1 for count in rows.values())
        self.lost = [one for one in load.sent if one.acknowledged and not rows[one.body]]
        self.rows = len(rows)
        self.foreign = len(set(rows) - {one.body for one in load.sent})
        # The very same delivery again is a duplicate, never a repeat.
        self.repeats = database.execute("SELECT count(*) FROM humcli.repeats")[0][0]
        self.quarantined = database.execute("SELECT count(*) FROM humcli.quarantine")[0][0]
        self.acknowledged = sum(one.acknowledged for one in load.sent)
        self.slowest = max(one.slowest for one in load.sent)
        self.rate = len(load.sent) / load.seconds

    def check(self, may_fail=True):
        """may_fail: a request may have got no 200."""
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
    """A set-up with a spool, before a database of its own. Use as a context
    manager."""

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
        """Of the conninfo."""
        return f"host={self.cluster.folder} port={self.cluster.port}"

    def make(self, *arguments, **settings):
        return web_server_setups.make(*arguments, **settings)

    def folder(self, name=""):
        """Of the spool, or in it."""
        return os.path.join(self.spool, name)

    def spooled(self):
        """How many files wait."""
        return len(os.listdir(self.folder("new")))

    def wait_drained(self, left=0):
        """However long it takes, as long as it goes on."""
        count = self.spooled()
        while count > left:
            before = count
            wait_until(lambda before=before: self.spooled() != before,
                       f"the spool to get smaller than {before}", limit=STUCK)
            count = self.spooled()

    def load(self, **options):
        return Load(self.server, self.random.random(), **options)

    def ledger(self, load, database=None):
        """Once all is back; in the database, unless another one took over."""
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


# The killers: each is called with the site and the load, kills once, and has
# started again by itself what it killed.

def responder_killed(site, load):
    """As its supervisor does it: at once again."""
    site.service.process.kill()
    site.service.process.wait()
    site.service.start()


def responder_killed_while_spooling(site, load):
    """Once while it spools, and once while it brings that back."""
    site.cluster.stop("immediate")
    wait_until(site.spooled, "something in the spool", limit=20)
    load.wait_sent(site.random.randrange(200))
    responder_killed(site, load)
    load.wait_sent(site.random.randrange(200))
    site.cluster.start()
    site.wait_drained(left=int(site.spooled() * site.random.random()))
    responder_killed(site, load)


def kill_backend(site):
    """The writer's, by whom the server ends all others; its pid, once there
    is one."""
    for pid, in site.database.execute(
            "SELECT pid FROM pg_stat_activity WHERE datname = current_database()"
            f" AND usename = '{WRITER}'"):
        try:
            os.kill(pid, signal.SIGKILL)
            return pid
        except ProcessLookupError:
            pass    # it has just ended by itself
    return None


def writer_killed(site, load):
    wait_until(site.cluster.answers, "PostgreSQL", limit=30)
    pid = wait_until(lambda: kill_backend(site), "the writer to be connected", limit=30)
    wait_until(lambda: not is_alive(pid), "the backend to end")
    wait_until(site.cluster.answers, "PostgreSQL to recover", limit=30)


def postgres_killed(site, load):
    """Away for a moment, or long enough for the spool; and once more while
    that comes back."""
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
    """While the database is away; sometimes at once, sometimes slowly."""
    ballast = site.folder("ballast")
    site.cluster.stop("immediate")
    with open(ballast, "wb") as file:
        free = os.statvfs(site.folder())
        file.write(bytes(int(free.f_bavail * free.f_frsize * site.random.choice((0, 0.8, 0.95)))))
    refused = load.kinds["503"]
    wait_until(lambda: load.kinds["503"] > refused + 20, "the spool to be full", limit=30)
    if site.random.random() < 0.5:
        os.truncate(ballast, 0)     # somebody makes room
    load.wait_sent(site.random.randrange(100))
    site.cluster.start()
    os.unlink(ballast)


def responder_stopped(site, load):
    assert site.service.stop() == 0
    site.service.start()


def responder_stopped_while_spooling(site, load):
    """Neither its end nor its start, with the database away, holds up any."""
    site.cluster.stop("immediate")
    load.wait_sent(site.random.randrange(500))
    responder_stopped(site, load)
    load.wait_sent(site.random.randrange(500))
    site.cluster.start()


def lighttpd_reloaded(site, load):
    """The spawned responder ends with it, and starts with it again."""
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
    """Its spool is a tmpfs of its own, so small that it gets full."""

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
        """The spool as it sees it."""
        return f"/proc/{self.process.pid}/root{self.spool}"


class SmallSpoolSetup(web_server_setups.Socket):
    def run_service(self, *arguments):
        return SmallSpool(self.responder.settings["SPOOL"], *arguments)


class SmallSpoolSite(Site):
    """Needs root, for the mount."""

    def make(self, name, *arguments, **settings):
        return SmallSpoolSetup(*arguments, *web_server_setups.SETUPS[name][1:], **settings)

    def folder(self, name=""):
        return os.path.join(self.service.inside(), name)


class Killer(NamedTuple):
    kill: Callable
    setup: str = "lighttpd-socket"
    site: type = Site
    may_fail: bool = False  # requests that meet it
    fresh: bool = False     # a connection each; see Load


KILLERS = {
    "responder, SIGKILL": Killer(responder_killed, may_fail=True),
    "responder, SIGKILL twice, spooling and draining":
        Killer(responder_killed_while_spooling, may_fail=True),
    "writer's backend, SIGKILL": Killer(writer_killed),
    "PostgreSQL, immediate shutdown twice, and draining": Killer(postgres_killed),
    "lighttpd, SIGKILL": Killer(lighttpd_killed, may_fail=True),
    "spool, ENOSPC": Killer(spool_full, site=SmallSpoolSite, may_fail=True),
    "responder, SIGTERM, socket held": Killer(responder_stopped, fresh=True),
    "the same, PostgreSQL away": Killer(responder_stopped_while_spooling, fresh=True),
    "lighttpd, reload": Killer(lighttpd_reloaded, setup="lighttpd-spawn", fresh=True),
    "Apache, graceful": Killer(apache_reloaded, setup="apache-proxy_fcgi", fresh=True),
}
NEED_ROOT = ("spool, ENOSPC",)


def run(name, paths, cluster, seed, kills, **settings):
    """Kills so many times under load, each at a random moment; returns the
    ledger, which has passed."""
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
