"""The responder connects as psql does, by its own clock: service files, several
hosts and addresses, distant servers, and poolers that stop half-way."""

import os
import pathlib
import socket
import subprocess
import tempfile
import time

import pytest

from harness.black_hole import BlackHole
from harness.postgres import SUPERUSER, as_test_user
from harness.responder import CGI, FastCGI, event, eventually, task_of
from harness.slow_proxy import SlowProxy
from harness.spool import Spool

RECORDED = b'{"received":true}'
SPOOLED = b'{"received":true,"spooled":true}'
# The end of a statement's answer: CommandComplete with its tag.
COMMAND_COMPLETE = b"C\0\0\0\x0dSELECT 1\0"
NSS_WRAPPER = "/usr/lib/x86_64-linux-gnu/libnss_wrapper.so"


@pytest.fixture
def spool():
    with Spool() as it:
        yield it.path


@pytest.fixture
def folder():
    """A folder that the responder's user can read; pytest's own is private."""
    with tempfile.TemporaryDirectory(prefix="humcli-connect-", dir="/tmp") as path:
        os.chmod(path, 0o755)
        yield pathlib.Path(path)


def write(path, text):
    path.write_text(text, encoding="utf-8")
    path.chmod(0o644)
    return str(path)


def is_recorded(store, body):
    return bool(store.query("SELECT 1 FROM humcli.events WHERE task_id = %s",
                            task_of(body)))


def closed_port():
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


# Service files.

def service(folder, store, lines):
    """Returns the environment of a service with these lines first."""
    return {"PGSERVICEFILE": write(folder / "services", "\n".join(
        ["[humcli]", *lines, *store.login.split(), ""])),
            "PGHOST": "127.0.0.1", "PGPORT": str(closed_port())}


@pytest.mark.parametrize("transport", [FastCGI, CGI])
@pytest.mark.parametrize("chosen", ["in the conninfo", "by PGSERVICE"])
def test_service_file(paths, store, spool, folder, transport, chosen):
    """Its host and port beat PGHOST and PGPORT."""
    environment = service(folder, store, [f"host={store.cluster.folder}",
                                            f"port={store.cluster.port}"])
    conninfo = "service=humcli"
    if chosen == "by PGSERVICE":
        environment["PGSERVICE"] = "humcli"
        conninfo = ""
    with transport(paths.responder, conninfo, SPOOL=spool,
                   more_environment=environment) as it:
        assert it.post(event()).body == RECORDED


def test_hosts_of_a_service_file_in_order(paths, store, folder):
    """The first is out of reach, the second answers, the third is not asked."""
    with SlowProxy(store.socket) as second, SlowProxy(store.socket) as third:
        environment = service(folder, store, [
            "host=127.0.0.1,127.0.0.1,127.0.0.1",
            f"port={closed_port()},{second.port},{third.port}"])
        with FastCGI(paths.responder, "service=humcli",
                     more_environment=environment) as it:
            assert it.post(event()).body == RECORDED
        assert second.accepted == 1 and third.accepted == 0


def test_conninfo_beats_a_service_file(paths, store, folder):
    environment = service(folder, store, ["host=127.0.0.1", "port=1"])
    with FastCGI(paths.responder, f"service=humcli host={store.cluster.folder}"
                 f" port={store.cluster.port}", more_environment=environment) as it:
        assert it.post(event()).body == RECORDED


def test_variables_of_libpq(paths, store):
    login = dict(pair.split("=") for pair in store.login.split())
    with FastCGI(paths.responder, "", more_environment={
            "PGHOST": f"127.0.0.1,{store.cluster.folder}",
            "PGPORT": f"{closed_port()},{store.cluster.port}",
            "PGDATABASE": login["dbname"], "PGUSER": login["user"]}) as it:
        assert it.post(event()).body == RECORDED


# Names with several addresses.

def hosts_file(folder, *addresses):
    # A build with AddressSanitizer wants its library first, and no RTLD_DEEPBIND.
    options = os.environ.get("ASAN_OPTIONS", "") + ":verify_asan_link_order=0"
    return {"LD_PRELOAD": NSS_WRAPPER, "ASAN_OPTIONS": options,
            "NSS_WRAPPER_DISABLE_DEEPBIND": "1",
            "NSS_WRAPPER_HOSTS": write(folder / "hosts", "".join(
                f"{address} db.example\n" for address in addresses))}


@pytest.mark.skipif(not os.path.exists(NSS_WRAPPER), reason="no libnss-wrapper")
@pytest.mark.parametrize("first", ["refuses", "is silent"])
def test_each_address_of_a_name(paths, store, spool, folder, first):
    with BlackHole(store.socket) as hole:
        if first == "refuses":
            hole.close()
        with SlowProxy(store.socket, "127.0.0.2", hole.port) as proxy, \
                FastCGI(paths.responder, f"host=db.example port={proxy.port} {store.login}",
                        SPOOL=spool, more_environment=hosts_file(
                            folder, "127.0.0.1", "127.0.0.2")) as it:
            assert it.post(event()).body == RECORDED
            assert proxy.accepted == 1


def test_host_without_an_address(paths, store):
    """The next host is tried, and the log names the one that has none."""
    with FastCGI(paths.responder, f"host=none.invalid,{store.cluster.folder}"
                 f" port=5432,{store.cluster.port} {store.login}") as it:
        assert it.post(event()).body == RECORDED
    with FastCGI(paths.responder, f"host=none.invalid {store.login}") as it:
        assert it.post(event()).status == 503
        assert eventually(lambda: 'host name \\"none.invalid\\"' in it.log())


def test_address_and_name(paths, store):
    """hostaddr is where to connect, and host is a name for TLS."""
    with FastCGI(paths.responder, "host=db.example hostaddr=127.0.0.1"
                 f" port={store.cluster.port} {store.login}") as it:
        assert it.post(event()).body == RECORDED


# Distant servers.

def test_distant_server(paths, store, spool):
    """Connecting takes longer than the time of a request: the first event is
    spooled, and recorded in the background. From then on all are recorded."""
    with SlowProxy(store.socket, delay=0.45) as proxy, \
            FastCGI(paths.responder, f"host=127.0.0.1 port={proxy.port} {store.login}",
                    SPOOL=spool) as it:
        body = event()
        assert it.post(body).body == SPOOLED
        assert eventually(lambda: is_recorded(store, body), within=15)
        assert eventually(lambda: it.post(event()).body == RECORDED, within=15)
        assert it.post(event()).body == RECORDED
        assert proxy.accepted <= 2


@pytest.fixture
def tls(store):
    """The server with TLS and SCRAM for one role; yields its login."""
    cluster = store.cluster
    hba = pathlib.Path(cluster.data, "pg_hba.conf")
    before = hba.read_text(encoding="ascii")
    subprocess.run(["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2",
                    "-subj", "/CN=localhost", "-keyout", "server.key", "-out", "server.crt"],
                   cwd=cluster.data, check=True, capture_output=True, **as_test_user())
    os.chmod(os.path.join(cluster.data, "server.key"), 0o600)
    store.query("SET password_encryption = 'scram-sha-256'")
    store.query("CREATE ROLE far_writer LOGIN PASSWORD 'a password' IN ROLE humcli_writer")
    store.query("ALTER SYSTEM SET ssl = on")
    hba.write_text("hostssl all far_writer all scram-sha-256\n"
                   "host all far_writer all reject\n" + before, encoding="ascii")
    store.query("SELECT pg_reload_conf()")
    try:
        yield (f"dbname={store.name} user=far_writer password='a password'"
               " sslmode=require channel_binding=require")
    finally:
        store.query("ALTER SYSTEM RESET ssl")
        hba.write_text(before, encoding="ascii")
        store.query("SELECT pg_reload_conf()")
        store.query("DROP ROLE far_writer")


def test_300_ms_away_with_tls_and_scram(paths, store, spool, tls):
    """The handshake takes seven round trips."""
    with SlowProxy(("127.0.0.1", store.cluster.port), delay=0.15) as proxy:
        with FastCGI(paths.responder, f"host=127.0.0.1 port={proxy.port} {tls}",
                     SPOOL=spool) as it:
            body = event()
            assert it.post(body).status == 200
            assert eventually(lambda: is_recorded(store, body), within=15)
            for _ in range(3):
                assert eventually(lambda: it.post(event()).body == RECORDED, within=15)
            assert proxy.accepted == 1


def test_distant_server_behind_a_silent_one(paths, store, spool):
    """Neither keeps the other from being reached."""
    with BlackHole(store.socket) as hole, SlowProxy(store.socket, delay=0.3) as proxy, \
            FastCGI(paths.responder, f"host=127.0.0.1,127.0.0.1 port={hole.port},{proxy.port}"
                    f" {store.login}", SPOOL=spool) as it:
        it.post(event())
        assert eventually(lambda: it.post(event()).body == RECORDED, within=15)


def test_connect_timeout_that_is_longer_than_ours(paths, store, spool):
    """Each step takes 2 s: 5 s are too few, connect_timeout is enough."""
    with SlowProxy(store.socket, delay=1.05) as proxy, \
            FastCGI(paths.responder, f"host=127.0.0.1 port={proxy.port} {store.login}"
                    " connect_timeout=20", SPOOL=spool) as it:
        body = event()
        assert it.post(body).body == SPOOLED
        assert eventually(lambda: is_recorded(store, body), within=30)
        assert proxy.accepted == 1


def test_verb_waits_as_long_as_psql(store, cli):
    """Connecting takes longer than 5 s: connect_timeout is enough."""
    with SlowProxy(store.socket, delay=1.4) as proxy:
        done = cli("events", DATABASE=f"host=127.0.0.1 port={proxy.port} dbname={store.name}"
                   f" user={SUPERUSER} connect_timeout=20")
    assert done.returncode == 0, done.err


# Settings of the role.

@pytest.mark.parametrize("setting", [
    "statement_timeout = '3ms'", "search_path = ''", "lock_timeout = '1ms'",
    "default_transaction_isolation = 'serializable'"])
def test_question_on_writes_under_settings_of_the_role(paths, store, setting):
    """Each of several new sessions is accepted within the request's time."""
    role = dict(pair.split("=") for pair in store.login.split())["user"]
    store.query(f"ALTER ROLE {role} SET {setting}")
    try:
        for _ in range(8):
            with FastCGI(paths.responder, store.conninfo) as it:
                assert it.post(event()).body == RECORDED
    finally:
        store.query(f"ALTER ROLE {role} RESET ALL")


# A pooler that stops half-way.

def test_answer_on_writes_that_stops_half_way(paths, store, spool):
    """The rest of the answer never comes. The next connection is made."""
    with SlowProxy(store.socket) as proxy:
        proxy.cut_at = COMMAND_COMPLETE
        with FastCGI(paths.responder, f"host=127.0.0.1 port={proxy.port} {store.login}",
                     SPOOL=spool) as it:
            body = event()
            assert it.post(body).body == SPOOLED
            assert proxy.was_cut.is_set()
            proxy.cut_at = None
            assert eventually(lambda: is_recorded(store, body), within=20)
            start = time.monotonic()
            it.stop()
            assert time.monotonic() - start < 5


# What libpq refuses.

def check_config(responder):
    process = responder.spawn("--check-config", stdin=subprocess.DEVNULL,
                              stdout=subprocess.PIPE)
    with process.stdout:
        said = process.stdout.read().decode()
    return process.wait(10), said + responder.read(responder.stderr_file) + responder.log()


@pytest.mark.parametrize("conninfo, name", [
    ("postgresql://me:hunter2@db/humcli?schema=public&pgbouncer=true", "schema"),
    ("postgresql://me:hunter2@db/humcli?pgbouncer=true", "pgbouncer"),
    ("host=db password=hunter2 connection_limit=5", "connection_limit"),
    ("host=db password=hunter2 sslmode=always", "sslmode"),
    ("host=a,b port=1,2,3 password=hunter2", "port"),
    ("service=none-such password=hunter2", "none-such"),
    ("host=db password=hunter2 x", None),
    ("postgresql://me:hunt/er2@db?x=1", None),
    ("postgresql://me@db/humcli?x=1&password=hunt@er2", None),
    ("postgresql://me:hunter2@[::1/humcli", None),
])
def test_conninfo_that_libpq_refuses(paths, conninfo, name):
    with CGI(paths.responder, conninfo) as it:
        code, said = check_config(it)
    assert code == 78, said
    assert "HUMCLI_WEBHOOK_DATABASE" in said
    assert name is None or name in said
    assert "hunt" not in said and "er2" not in said


@pytest.mark.parametrize("conninfo", [
    "postgresql://me:hunter2@db/humcli?connect_timeout=20&sslmode=require",
    "postgresql://me:hunt?er2@db/humcli",
    "host=db,other port=5432,5433 password='hunter 2'", ""])
def test_conninfo_that_libpq_takes(paths, conninfo):
    with CGI(paths.responder, conninfo) as it:
        code, said = check_config(it)
    assert code == 0, said
    assert "hunt" not in said


def test_log_names_the_parameter_and_no_password(paths, spool):
    with FastCGI(paths.responder, "postgresql://me:hunter2@db/humcli?schema=public",
                 SPOOL=spool) as it:
        assert it.post(event()).body == SPOOLED
        assert eventually(lambda: "schema" in it.log())
        assert "hunter2" not in it.log()
