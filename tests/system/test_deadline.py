"""Every POST is answered in time, whatever PostgreSQL does: measured at the
client, through lighttpd, through Apache, and as plain CGI."""

import contextlib
import http.client
import os
import re
import signal
import threading
import time

import psycopg2
import pytest

from harness import web_server_setups
from harness.black_hole import BlackHole, PrivateNetwork, ServiceInside
from harness.postgres import Cluster, Database, wait_until
from harness.responder import CGI, chown_to_test_user, event, sign, task_of
from harness.responder_database import LOCAL_WRITER, WRITER, ResponderDatabase
from harness.spool import Spool
from harness.web_server_setups import SETUPS

DEADLINE = 1.5
GRACE = 0.2
BACK = 2            # from the first answer of the database on
PER_SECOND = 25     # of each client: few, so that it is not itself what is late
QUICK = 0.1         # what the breaker is to bring it down to, at the median
KINDS = {b'{"received":true}': "recorded",
         b'{"received":true,"duplicate":true}': "duplicate",
         b'{"received":true,"spooled":true}': "spooled"}
SERVERS = ("lighttpd-socket", "apache-proxy_fcgi")
CROWD = "test_crowd"


@pytest.fixture(scope="module", name="cluster")
def _cluster():
    """One whose states are nobody else's."""
    server = Cluster(["max_connections = 20"])
    yield server
    server.remove()


@pytest.fixture(scope="module", name="store")
def _store(cluster, paths):
    name = cluster.create_database()
    Database(cluster, name).psql("-v", "ON_ERROR_STOP=1", "-q", "-f", str(paths.install_sql))
    it = ResponderDatabase(cluster, name, paths.source / "sql")
    it.query(f"CREATE ROLE {CROWD} LOGIN")
    yield it
    it.connection.close()


# ---- clients


class Answer:
    def __init__(self, body, start, seconds, kind):
        self.body = body
        self.start = start
        self.seconds = seconds
        self.kind = kind

    @property
    def end(self):
        return self.start + self.seconds


class Client(threading.Thread):
    """Posts one event after the other, PER_SECOND at most, until stopped."""

    def __init__(self):
        super().__init__()
        self.answers = []
        self.over = threading.Event()
        self.failure = None

    def run(self):
        try:
            while not self.over.wait(1 / PER_SECOND):
                self.answers.append(self.post(event()))
        except BaseException as error:
            self.failure = error

    def post(self, body):
        """The Answer it got."""
        raise NotImplementedError

    def close(self):
        self.over.set()
        self.join()
        if self.failure:
            raise self.failure


class WebClient(Client):
    """Over TLS and a kept connection."""

    def __init__(self, server):
        super().__init__()
        self.url = server.https.url
        self.connection = server.https.connect()

    def post(self, body):
        try:
            return self._post(body)
        except (http.client.RemoteDisconnected, ConnectionResetError, BrokenPipeError):
            # The server may close a kept one at any time.
            self.connection.close()
            return self._post(body)

    def _post(self, body):
        start = time.monotonic()
        self.connection.request("POST", self.url, body, {
            "Content-Type": "application/json", "X-Signature": sign(body)})
        answer = self.connection.getresponse()
        text = answer.read()
        return Answer(body, start, time.monotonic() - start,
                      KINDS.get(text, f"{answer.status}"))

    def close(self):
        super().close()
        self.connection.close()


class CgiClient(Client):
    def __init__(self, responder):
        super().__init__()
        self.responder = responder

    def post(self, body):
        start = time.monotonic()
        answer = self.responder.post(body)
        # It drains after its answer, until it ends.
        return Answer(body, start, answer.seconds, KINDS.get(answer.body, f"{answer.status}"))


# ---- receivers


class Site:
    """A receiver with a spool of its own, and who posts to it."""

    clients = 2
    enough = 20     # answers of a client to see what it gets

    def __init__(self, make, conninfo):
        self.spool = Spool()
        try:
            self.make(make, conninfo)
        except BaseException:
            self.spool.__exit__()
            raise

    def make(self, make, conninfo):
        self.setup = make(conninfo, SPOOL=self.spool.path, DEADLINE=f"{DEADLINE}s")
        self.name = self.setup.name

    def client(self):
        return WebClient(self.setup.server)

    @property
    def pid(self):
        return self.setup.service.process.pid

    def threads(self):
        return len(os.listdir(f"/proc/{self.pid}/task"))

    def log(self):
        return self.setup.logs()

    def close(self):
        self.setup.close()
        self.spool.__exit__()


class CgiSite(Site):
    """Without a server: how long one would hold a request is not ours."""

    clients = 1
    enough = 2
    name = "cgi"

    def make(self, make, conninfo):
        self.setup = make(conninfo, SPOOL=self.spool.path, DEADLINE=f"{DEADLINE}s")

    def client(self):
        return CgiClient(self.setup)

    def threads(self):
        return 0

    def log(self):
        return self.setup.log()


def web_maker(paths, name, service=None):
    """service: makes another Service, as web_server_setups.Socket does."""
    def make(conninfo, **settings):
        setup, kind, sample = SETUPS[name]
        if service is not None:
            setup = type("Inside", (setup,), {"run_service": staticmethod(service)})
        it = setup(paths, conninfo, kind, sample, **settings)
        it.name = name
        return it
    return make


def cgi_maker(paths):
    return lambda conninfo, **settings: CGI(paths.responder, conninfo, **settings)


@contextlib.contextmanager
def sites(paths, conninfo, cgi=True, service=None):
    with contextlib.ExitStack() as stack:
        them = []
        for name in SERVERS:
            them.append(Site(web_maker(paths, name, service), conninfo))
            stack.callback(them[-1].close)
        if cgi:
            them.append(CgiSite(cgi_maker(paths), conninfo))
            stack.callback(them[-1].close)
        yield them


@pytest.fixture(scope="module", name="direct")
def _direct(paths, store):
    """For all states that PostgreSQL itself can be put into."""
    with sites(paths, store.conninfo) as them:
        yield them


# ---- the outage


class Watch:
    """Posts to all sites through an outage, and judges the answers."""

    def __init__(self, them, store):
        self.sites = them
        self.store = store
        self.clients = [(site, site.client()) for site in them for _ in range(site.clients)]
        self.began = self.back = None

    def __enter__(self):
        for _, client in self.clients:
            client.start()
        try:
            self.wait_kind("recorded", 0)
            self.backends = self.count_backends()
        except BaseException as error:
            self.__exit__(type(error))
            raise
        return self

    def __exit__(self, kind, *_):
        for _, client in self.clients:
            client.over.set()
        for _, client in self.clients:
            if kind is None:
                client.close()
            else:
                client.join()
        if kind is not None:
            for site in self.sites:
                print(site.name, site.log()[-5000:])

    def count_backends(self):
        """Those that the responders have, as the server sees them."""
        return self.store.execute("SELECT count(*) FROM pg_stat_activity WHERE application_name"
                                  " = 'humcli-webhook' AND datname = current_database()")[0][0]

    def wait_kind(self, kind, since, limit=15.0):
        """Until each client has seen enough answers of a kind to what it
        sent since then."""
        def come(site, client):
            return client.failure or site.enough <= sum(
                a.kind == kind and a.start > since for a in list(client.answers))

        wait_until(lambda: all(come(*one) for one in self.clients),
                   f"enough {kind} at each client", limit)

    def begin(self):
        self.began = time.monotonic()

    def end(self):
        """The database is back."""
        self.back = time.monotonic()

    def check_in_time(self):
        answers = [a for _, client in self.clients for a in client.answers]
        late = [(a.seconds, a.kind) for a in answers if a.seconds > DEADLINE + GRACE]
        assert not late
        assert {a.kind for a in answers} <= {"recorded", "spooled"}, \
            {a.kind for a in answers}
        return answers

    def check_breaker(self):
        """Once the first of a site was late, the others take milliseconds."""
        for site in self.sites:
            if site.clients < 2:
                continue
            spooled = [a for own, client in self.clients if own is site
                       for a in client.answers if a.kind == "spooled" and a.start < self.back]
            assert len(spooled) >= 20
            seconds = sorted(a.seconds for a in spooled)
            assert seconds[len(seconds) // 2] < QUICK, seconds

    def check_used_again(self):
        for site, client in self.clients:
            first = next(a for a in client.answers if a.start > self.began
                         and a.end > self.back and a.kind == "recorded")
            assert first.end - self.back < BACK, (site.name, first.end - self.back)

    def check_nothing_stuck(self):
        for site in self.sites:
            # Main, writer, drainer; one a client, one that accepts.
            assert site.threads() <= 3 + site.clients + 1, site.name
        wait_until(lambda: self.count_backends() <= self.backends,
                   f"no more than {self.backends} backends")

    def check_recorded_once(self):
        for site in self.sites:
            wait_until(lambda site=site: not site.spool.waiting, "the spool to be empty",
                       limit=15)
            assert not site.spool.failed
        sent = sorted(a.body for _, client in self.clients for a in client.answers)
        rows = self.store.execute(
            "SELECT payload::text FROM humcli.events WHERE task_id IN ("
            + ",".join(f"'{task_of(body)}'" for body in sent) + ")")
        assert sorted(text.encode() for text, in rows) == sent

    def summary(self):
        for site in self.sites:
            answers = [a for own, client in self.clients if own is site for a in client.answers]
            spooled = sorted(a.seconds for a in answers if a.kind == "spooled") or [0]
            again = [a.end for a in answers if a.kind == "recorded" and a.end > self.back]
            print(f"{site.name}: {len(answers)} answers, slowest"
                  f" {max(a.seconds for a in answers):.3f} s, {len(spooled)} spooled, median"
                  f" {spooled[len(spooled) // 2]:.3f} s, used again after"
                  f" {min(again, default=0) - self.back:.3f} s")


def outage(them, store, state, kind="spooled"):
    """
    state: a context manager factory; inside it the database is away, after it
    it is back. kind: how events are kept meanwhile.
    """
    with Watch(them, store) as watch:
        with state():
            watch.begin()
            # Long enough for one deadline after the other, were there no
            # breaker.
            watch.wait_kind(kind, watch.began)
            wait_until(lambda: time.monotonic() > watch.began + 2 * DEADLINE, "two deadlines")
        watch.end()
        watch.wait_kind("recorded", watch.back)
    watch.summary()
    watch.check_in_time()
    if kind == "spooled":
        watch.check_breaker()
        watch.check_used_again()
    watch.check_recorded_once()
    watch.check_nothing_stuck()


# ---- the states


@contextlib.contextmanager
def stopped(store):
    store.cluster.stop()
    try:
        yield
    finally:
        store.cluster.start()


@contextlib.contextmanager
def refusing(store):
    """It runs, and takes no connection to this database."""
    store.cluster.execute(f"ALTER DATABASE {store.name} ALLOW_CONNECTIONS false")
    store.cluster.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                          f" WHERE datname = '{store.name}'")
    try:
        yield
    finally:
        store.cluster.execute(f"ALTER DATABASE {store.name} ALLOW_CONNECTIONS true")


@contextlib.contextmanager
def full(store):
    """'too many connections': others have all that are not a superuser's."""
    crowd = []

    def fill():
        try:
            while True:
                crowd.append(psycopg2.connect(store.dsn(CROWD)))
        except psycopg2.OperationalError as error:
            assert "remaining connection slots" in str(error), error

    # One connection for all of it: each that ends would make room.
    with contextlib.closing(store.cluster.connect()) as connection, \
            connection.cursor() as cursor:
        def is_full():
            """The receivers have theirs still: as soon as they lose them,
            somebody else is faster, at last."""
            cursor.execute("SELECT pg_terminate_backend(pid, 1000) FROM pg_stat_activity"
                           f" WHERE usename = '{WRITER}'")
            until = time.monotonic() + 1
            while time.monotonic() < until:
                fill()      # what others leave, too
                cursor.execute("SELECT 1 FROM pg_stat_activity"
                               f" WHERE usename = '{WRITER}'")
                if cursor.fetchall():
                    return False
            return True

        try:
            fill()
            wait_until(is_full, "the crowd to have it all")
            yield
        finally:
            for one in crowd:
                one.close()


@contextlib.contextmanager
def frozen(store):
    """By SIGSTOP: the postmaster, and all it has started."""
    postmaster = store.cluster.server.pid
    held = [postmaster]
    os.kill(postmaster, signal.SIGSTOP)
    with open(f"/proc/{postmaster}/task/{postmaster}/children", encoding="ascii") as file:
        held += map(int, file.read().split())
    for pid in held[1:]:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in held:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)


@contextlib.contextmanager
def setting(store, name, value):
    """Of the whole server, as if somebody had changed its file."""
    with contextlib.closing(store.cluster.connect()) as connection, \
            connection.cursor() as cursor:
        cursor.execute(f"ALTER SYSTEM SET {name} = {value}")
        cursor.execute("SELECT pg_reload_conf()")
        try:
            yield
        finally:
            # By a connection from before, that can still write.
            cursor.execute("SET default_transaction_read_only = off")
            cursor.execute(f"ALTER SYSTEM RESET {name}")
            cursor.execute("SELECT pg_reload_conf()")


def synchronous(store):
    """Each commit waits for a standby that is gone."""
    return setting(store, "synchronous_standby_names", "gone")


def read_only(store):
    """Set while the connections stand."""
    return setting(store, "default_transaction_read_only", "on")


@contextlib.contextmanager
def recovering(store):
    """It comes back as a standby, and is promoted in the end."""
    store.cluster.stop()
    path = os.path.join(store.cluster.data, "standby.signal")
    with open(path, "w", encoding="ascii"):
        pass
    chown_to_test_user(path)
    store.cluster.start()
    assert store.cluster.execute("SELECT pg_is_in_recovery()") == [(True,)]
    try:
        yield
    finally:
        assert store.cluster.execute("SELECT pg_promote()") == [(True,)]


@contextlib.contextmanager
def locked(store):
    """As by ALTER TABLE, or by a backup that went wrong."""
    with contextlib.closing(store.connect()) as connection:
        connection.autocommit = False
        with connection.cursor() as cursor:
            cursor.execute("LOCK TABLE humcli.events IN ACCESS EXCLUSIVE MODE")
        yield


STATES = [stopped, refusing, full, frozen, synchronous, recovering, read_only, locked]


@pytest.mark.parametrize("state", STATES, ids=[state.__name__ for state in STATES])
def test_state(state, direct, store):
    outage(direct, store, lambda: state(store))


def test_notifying_commit_of_another_stuck(paths, store):
    """Recorded and answered all the same."""
    store.connection = store.connect()      # it may have been restarted
    with sites(paths, store.dsn(LOCAL_WRITER)) as them:
        outage(them, store, store.notify_lock, kind="recorded")


def test_backlog_full(paths, store):
    """Nobody accepts, and the kernel drops who knocks."""
    with BlackHole(store.socket) as hole, sites(paths, hole.conninfo(store.login)) as them:
        with contextlib.ExitStack() as stack:
            watch = Watch(them, store)
            # From the start on: no baseline.
            for _, client in watch.clients:
                client.start()
            stack.push(watch.__exit__)
            watch.backends = watch.count_backends() + len(SERVERS)
            watch.begin()
            watch.wait_kind("spooled", watch.began)
            hole.start_answering()
            watch.end()
            watch.wait_kind("recorded", watch.back)
        watch.summary()
        watch.check_in_time()
        watch.check_breaker()
        watch.check_used_again()
        watch.check_recorded_once()
        watch.check_nothing_stuck()


def test_packets_dropped(paths, store):
    """In the middle of a connection, and for each new one."""
    if os.geteuid() != 0:
        pytest.skip("a network namespace needs root")
    with PrivateNetwork(store.socket) as network:
        @contextlib.contextmanager
        def dropping():
            network.drop()
            try:
                yield
            finally:
                network.pass_on()

        with sites(paths, network.conninfo(store.login), cgi=False,
                   service=lambda *args: ServiceInside(network, *args)) as them:
            outage(them, store, dropping)


# ---- plain CGI and mod_fcgid


def test_cgi_breaker(paths, store):
    """
    A process learns from the one before it, though each that finds out for
    itself leaves a backend behind, which only the lock's end ends.
    """
    with Spool() as spool, CGI(paths.responder, store.conninfo, SPOOL=spool.path,
                               DEADLINE=f"{DEADLINE}s") as cgi:
        cgi.assert_serving()
        with locked(store):
            answers = []
            began = time.monotonic()
            while time.monotonic() < began + 5:
                answers.append(cgi.post(event()))
            seconds = sorted(a.seconds for a in answers)
            assert {KINDS[a.body] for a in answers} == {"spooled"}
            assert seconds[-1] < DEADLINE + GRACE
            assert len(answers) > 30 and seconds[len(seconds) // 2] < QUICK
            [(left,)] = store.execute("SELECT count(*) FROM pg_stat_activity"
                                      f" WHERE usename = '{WRITER}' AND wait_event_type = 'Lock'")
            assert left <= 4
        back = time.monotonic()
        wait_until(lambda: KINDS[cgi.post(event()).body] == "recorded", "it to be used again",
                   limit=BACK)
        assert time.monotonic() - back < BACK
        wait_until(lambda: cgi.post(event()).status == 200 and not spool.waiting,
                   "the spool to be drained")
        assert not spool.failed


@pytest.mark.parametrize("state", [stopped, frozen], ids=["stopped", "frozen"])
def test_mod_fcgid(state, paths, store):
    """From the moment the responder got the request, as its log has it."""
    with Spool() as spool:
        setup = web_server_setups.make("apache-fcgid", paths, store.conninfo, SPOOL=spool.path)
        try:
            post = setup.server.https.post
            assert KINDS[post(event()).body] == "recorded"
            with state(store):
                bodies = [event() for _ in range(10)]
                for body in bodies:
                    assert KINDS[post(body).body] == "spooled"
            wait_until(lambda: KINDS[post(event()).body] == "recorded", "it to be used again",
                       limit=BACK)
            lines = [line for line in setup.responder_log().splitlines()
                     if "outcome=spooled" in line]
            assert len(lines) >= len(bodies)
            took = [int(re.search(r" ms=(\d+)", line)[1]) for line in lines]
            # The sample's own deadline, since mod_fcgid may hold a request.
            assert max(took) < 1500 + 1000 * GRACE and sorted(took)[len(took) // 2] < 1000 * QUICK
            wait_until(lambda: not spool.waiting, "the spool to be drained")
        finally:
            print(setup.logs()[-5000:])
            setup.close()
