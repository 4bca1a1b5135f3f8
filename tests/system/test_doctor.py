"""humcli-webhook doctor: a setup in order, and each fault by itself."""

import contextlib
import http.server
import os
import re
import subprocess
import threading

import pytest

from harness import web_server_setups
from harness.failover import PgBouncer
from harness.postgres import wait_until
from harness.responder import SECRET, event
from harness.responder_database import WRITER
from harness.webserver import free_port

FINE, WARNING, FAILURE, USAGE = 0, 1, 2, 64


class Doctor:
    """Runs doctor with its own folder of settings and secrets."""

    def __init__(self, paths, folder, conninfo):
        self.program = str(paths.stage / "bin/humcli-webhook")
        self.folder = folder
        self.secrets = folder / "secrets"
        self.secrets.mkdir(mode=0o700)
        self.secret = self.secrets / "main"
        self.secret.write_text(SECRET)
        self.secret.chmod(0o600)
        self.spool = folder / "spool"
        self.log = folder / "log"
        self.web = folder / "web.conf"
        self.web.touch()
        self.settings = {"DATABASE": conninfo, "SECRET_DIR": self.secrets, "SPOOL": self.spool,
                         "LOG": self.log}
        self.config = folder / "humcli-webhook.conf"

    def run(self, *arguments):
        self.config.write_text("".join(f"HUMCLI_WEBHOOK_{key}={value}\n"
                                       for key, value in self.settings.items()))
        self.config.chmod(0o600)
        kept = {k: v for k, v in os.environ.items() if k.endswith("SAN_OPTIONS")}
        done = subprocess.run([self.program, "doctor", *map(str, arguments)], timeout=60,
                              capture_output=True, text=True, check=False,
                              env={**kept, "HUMCLI_WEBHOOK_CONFIG": str(self.config)})
        print(done.stdout, done.stderr)
        assert SECRET not in done.stdout + done.stderr
        return done

    def __call__(self, *arguments):
        """Runs doctor; returns the lines by topic, and the exit code."""
        done = self.run("--web-config", self.web, *arguments)
        lines = re.findall(r"^(ok|warn|FAIL) +(\S+(?: \S+)?)  +(.*)$", done.stdout, re.M)
        # each fault has a remedy in the line below it
        faults = [line for line in lines if line[0] != "ok"]
        assert len(re.findall(r"^ +-> \S", done.stdout, re.M)) == len(faults)
        return lines, done.returncode

    def faults(self, *arguments):
        lines, code = self(*arguments)
        return {topic: text for mark, topic, text in lines if mark != "ok"}, code


@pytest.fixture
def doctor(paths, tmp_path, database):
    return Doctor(paths, tmp_path, database.dsn())


def test_all_is_well(doctor):
    lines, code = doctor()
    assert code == FINE
    topics = {topic for _, topic, _ in lines}
    assert {"settings", "secrets", "spool", "log", "web server", "database", "encoding",
            "durability", "schema", "grants", "notify", "version", "silence"} <= topics
    assert ("ok", "secrets", f"main, {len(SECRET)} bytes") in lines


def test_for_monitoring(doctor):
    done = doctor.run("--nagios", "--web-config", doctor.web)
    assert (done.returncode, done.stdout) == (FINE, "HUMCLI OK - all is well\n")
    doctor.secret.chmod(0o644)
    done = doctor.run("--nagios", "--web-config", doctor.web)
    assert done.returncode == FAILURE
    assert done.stdout.startswith("HUMCLI CRITICAL - secrets: ") and done.stdout.count("\n") == 1


# ---- settings, secrets, paths


def test_bad_settings(doctor):
    doctor.settings.update(THREADS="many", COLOUR="red")
    faults, code = doctor.faults()
    assert code == FAILURE and set(faults) == {"settings"}


def test_no_secret(doctor):
    doctor.secret.unlink()
    faults, code = doctor.faults()
    assert code == FAILURE and "secrets" in faults


def test_short_secret(doctor):
    doctor.secret.write_text("tiny")
    faults, code = doctor.faults()
    assert (faults, code) == ({"secrets": "main, 4 bytes"}, WARNING)


@pytest.mark.parametrize("key", ["SECRET_DIR", "SPOOL", "LOG"])
def test_in_the_document_root(doctor, key):
    root = doctor.folder / "public_html"
    root.mkdir()
    old = doctor.settings[key]
    doctor.settings[key] = root / old.name
    if old.exists():
        old.rename(doctor.settings[key])
    faults, code = doctor.faults()
    assert code == FAILURE and key in faults["place"]


# ---- spool and log


def spooled(doctor, folder, name, age=0):
    path = doctor.spool / folder
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    doctor.spool.chmod(0o700)
    (path / name).write_text("x")
    stamp = os.stat(path / name).st_mtime - age
    os.utime(path / name, (stamp, stamp))


def test_something_waits(doctor):
    spooled(doctor, "new", "a" * 64)
    faults, code = doctor.faults()
    assert code == WARNING and faults["spool"].startswith("1 events wait in it")


def test_something_waits_for_long(doctor):
    spooled(doctor, "new", "a" * 64, age=3600)
    faults, code = doctor.faults()
    assert code == FAILURE and "for 360" in faults["spool"]


def test_something_failed(doctor):
    spooled(doctor, "failed", "a" * 64)
    faults, code = doctor.faults()
    assert (faults, code) == ({"spool": "1 files were set aside in failed/"}, WARNING)


def test_the_spool_is_open_to_others(doctor):
    spooled(doctor, "failed", ".hidden")
    doctor.spool.chmod(0o755)
    faults, code = doctor.faults()
    assert code == FAILURE and "open to others (755)" in faults["spool"]


def test_no_spool(doctor):
    doctor.settings["SPOOL"] = ""
    faults, code = doctor.faults()
    assert (faults, code) == ({"spool": "there is none"}, WARNING)


REFUSED = 'time=x level=warning pid=1 outcome=unauthorized http=401 why="no match" ms=0\n'
TAKEN = 'time=x level=info pid=1 outcome=recorded http=200 task_id=a ms=3\n'


@pytest.mark.parametrize("log, code", [
    (REFUSED * 30, WARNING), (TAKEN + REFUSED * 9, FINE), (REFUSED * 30 + TAKEN, FINE),
    (TAKEN * 5000 + REFUSED * 12, WARNING)])
def test_refusals_in_a_row(doctor, log, code):
    doctor.log.write_text(log)
    faults, got = doctor.faults()
    assert got == code and set(faults) == ({"log"} if code else set())


def test_what_the_responder_logs(paths, database, tmp_path):
    """doctor counts failures by the log lines that the responder writes."""
    setup = web_server_setups.make("lighttpd-cgi", paths, database.dsn())
    with contextlib.closing(setup):
        for _ in range(12):
            assert setup.server.https.post(event(), ["0" * 64]).status == 401
        it = Doctor(paths, tmp_path, database.dsn())
        wait_until(lambda: setup.responder_log().count("http=401") == 12, "the log")
        it.log.write_text(setup.responder_log())
        assert set(it.faults()[0]) == {"log"}
        assert setup.server.https.post(event(
            status="CANCELLED", previous_status="PENDING")).status == 200
        wait_until(lambda: "http=200" in setup.responder_log(), "the log")
        it.log.write_text(setup.responder_log())
        assert it.faults() == ({}, FINE)


# ---- the database


def test_no_server(doctor):
    doctor.settings["DATABASE"] = f"host=127.0.0.1 port={free_port()} dbname=x"
    faults, code = doctor.faults()
    assert code == FAILURE and "refused" in faults["database"]


def test_not_a_connection_string(doctor):
    doctor.settings["DATABASE"] = "host=localhost password 'x"
    faults, code = doctor.faults()
    assert code == FAILURE and faults["database"] == "the connection string can't be parsed"


def test_no_schema(doctor, cluster):
    name = cluster.create_database()
    doctor.settings["DATABASE"] = cluster.dsn(name)
    try:
        faults, code = doctor.faults()
    finally:
        cluster.drop_database(name)
    assert code == FAILURE and {"schema", "grants"} <= set(faults)


def test_a_role_that_may_nothing(doctor, database):
    database.execute("CREATE ROLE doctor_nobody LOGIN")
    try:
        doctor.settings["DATABASE"] = database.dsn("doctor_nobody")
        faults, code = doctor.faults()
    finally:
        database.execute("DROP ROLE doctor_nobody")
    assert code == FAILURE and faults["schema"] == "doctor_nobody may not use humcli"


def test_the_writer_may_record_and_not_read(doctor, store, database):
    doctor.settings["DATABASE"] = database.dsn(WRITER)
    lines, code = doctor()
    assert code == FINE
    assert [text for _, topic, text in lines if topic == "events"][0].startswith("not looked at")
    lines, code = doctor("--reader", database.dsn())
    assert code == FINE and "version" in {topic for _, topic, _ in lines}


def test_sql_ascii(doctor, cluster, paths):
    name = cluster.create_database(encoding="SQL_ASCII")
    try:
        doctor.settings["DATABASE"] = cluster.dsn(name)
        faults, code = doctor.faults()
        assert code == FAILURE and faults["encoding"] == "SQL_ASCII"
    finally:
        cluster.drop_database(name)


def test_an_older_schema(doctor, database):
    database.execute("UPDATE humcli.schema_version SET version = version + 100")
    faults, code = doctor.faults()
    assert code == FAILURE and set(faults) == {"version"}


def test_a_pooler_in_transaction_mode(doctor, cluster, database):
    pooler = PgBouncer(cluster, "postgres")
    try:
        doctor.settings["DATABASE"] = (f"host=127.0.0.1 port={pooler.port} dbname={database.name}"
                                       " user=postgres")
        faults, code = doctor.faults()
    finally:
        pooler.close()
    assert code == WARNING and "not heard" in faults["notify"]


# ---- faults that the events show


def record(database, status, previous, occurred):
    database.execute(
        "SELECT * FROM humcli.record(ARRAY['task.status_changed'], ARRAY['task_x'],"
        f" ARRAY['{status}'], ARRAY['{previous}'], ARRAY[{occurred}]::timestamptz[],"
        " ARRAY[now()], ARRAY['main'], ARRAY[repeat('0', 64)], ARRAY['{}']::json[],"
        " interval '10 min', false)")


def test_silence(doctor, database):
    record(database, "ESTIMATE_PENDING", "PENDING", "now() - interval '2 d'")
    faults, code = doctor.faults()
    assert code == WARNING and faults["silence"].startswith("1 tasks are open")
    record(database, "CANCELLED", "ESTIMATE_PENDING", "now() - interval '1 d'")
    assert doctor.faults() == ({}, FINE)


def test_a_subscription_that_is_behind(doctor, database):
    database.execute("SELECT humcli.subscribe('slow', 'beginning')")
    record(database, "CANCELLED", "PENDING", "now()")
    assert doctor.faults() == ({}, FINE)
    database.execute("UPDATE humcli.events SET recorded_at = now() - interval '1 h'")
    faults, code = doctor.faults()
    assert code == WARNING and "for slow" in faults["pending"]


def test_a_pool_that_gave_up(doctor, database, paths):
    database.psql("-v", "ON_ERROR_STOP=1", "-q", "-f", str(paths.source / "sql/pool.sql"))
    database.execute("SELECT humcli.subscribe('pool', 'beginning')")
    database.execute("SELECT humcli.pool('pool', max_attempts => 1)")
    record(database, "CANCELLED", "PENDING", "now()")
    assert doctor.faults() == ({}, FINE)
    assert database.execute("SELECT humcli.fail('pool', c.id, c.claim_no, 'no') FROM"
                            " humcli.claim('pool', 'worker') c") == [("dead",)]
    assert doctor.faults() == ({"dead": "1 events were given up by their workers"}, WARNING)
    done = doctor.run("--nagios", "--web-config", doctor.web)
    assert done.returncode == WARNING
    assert done.stdout == "HUMCLI WARNING - dead: 1 events were given up by their workers\n"
    # the remedy that doctor prints works
    database.execute("SELECT humcli.redrive('pool')")
    assert doctor.faults() == ({}, FINE)


def test_a_sequence_that_is_behind(doctor, database):
    record(database, "CANCELLED", "PENDING", "now()")
    database.execute("SELECT setval(pg_get_serial_sequence('humcli.events', 'id'), 1, false)")
    assert doctor.faults() == ({"sequences": "behind their tables: events.id"}, WARNING)
    # what it says helps
    database.execute("SELECT setval(pg_get_serial_sequence('humcli.events', 'id'), max(id)) FROM humcli.events")
    assert doctor.faults() == ({}, FINE)


def test_quarantine(doctor, database):
    database.execute("SELECT humcli.quarantine_add(ARRAY[now()], ARRAY['no JSON'], ARRAY['main'],"
                     " ARRAY[repeat('0', 64)], ARRAY['x'::bytea])")
    faults, code = doctor.faults()
    assert code == WARNING and faults["quarantine"].startswith("1 signed bodies")


# ---- the web server's limits


@pytest.mark.parametrize("line", [
    "LimitRequestBody 1000", "\tFcgidMaxRequestLen 60000", "server.max-request-size = 32",
    "FcgidIOTimeout 2", "ProxyTimeout 3", "server.stream-request-body = 1",
    "SetInputFilter DEFLATE"])
def test_a_limit_that_is_too_low(doctor, line):
    doctor.web.write_text(f"# {line}\n{line}\n")
    faults, code = doctor.faults()
    assert code == WARNING and set(faults) == {"web server"}
    assert ":2: " in faults["web server"]


def test_the_shipped_limits_are_fine(doctor, paths):
    for pattern in ("apache/*", "lighttpd/*"):
        done = doctor.run("--web-config", paths.stage / "share/humcli-webhook" / pattern)
        assert done.returncode == FINE
        assert re.search(r"web server +no limit in [4-9] files", done.stdout)


# ---- a receiver by its URL


@pytest.fixture
def shop(paths, database, tmp_path):
    setup = web_server_setups.make("lighttpd-socket", paths, database.dsn())
    with contextlib.closing(setup):
        it = Doctor(paths, tmp_path, database.dsn())
        it.url = f"https://localhost:{setup.server.tls_port}/humcli"
        it.plain = f"http://localhost:{setup.server.plain_port}/humcli"
        it.certificate = setup.server.certificate
        yield it


def test_a_receiver(shop, database):
    for _ in range(2):
        # the test's certificate is valid for a day
        faults, code = shop.faults("--cacert", shop.certificate, "--http", shop.plain, shop.url)
        assert code == WARNING and set(faults) == {"tls"}
        assert re.fullmatch("the certificate holds, for [01] days", faults["tls"])
    assert database.execute("SELECT task_id FROM humcli.events") == [
        ("task_humcli_webhook_doctor",)]
    # doctor's own request leaves no open task and no gap
    assert shop.faults()[1] == FINE


def test_a_certificate_that_nobody_trusts(shop):
    faults, code = shop.faults(shop.url)
    assert code == FAILURE and "certificate" in faults["signed"]


def test_another_secret(shop):
    shop.secret.write_text("whsec_of_somebody_else")
    faults, code = shop.faults("--cacert", shop.certificate, shop.url)
    assert code == FAILURE and "Invalid signature" in faults["signed"]


class Plain(http.server.BaseHTTPRequestHandler):
    """A server without TLS that gives the same answer to all requests."""

    status = 401

    def log_message(self, *_):
        pass

    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(self.status)
        if self.status == 301:
            self.send_header("Location", "https://agent.example/")
        self.end_headers()


# A receiver that answers 401 has read the event and would accept a valid one.
@pytest.mark.parametrize("status, mark", [(401, "FAIL"), (200, "FAIL"), (301, "warn"),
                                          (403, "ok")])
def test_plain_http(shop, status, mark):
    handler = type("Handler", (Plain,), {"status": status})
    server = http.server.HTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        lines, _ = shop("--cacert", shop.certificate, "--http",
                        f"http://127.0.0.1:{server.server_port}/humcli", shop.url)
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
    found, = [line for line in lines if line[1] == "plain http"]
    assert found[0] == mark and str(status) in found[2]


def test_nobody_there(doctor):
    faults, code = doctor.faults(f"https://127.0.0.1:{free_port()}/")
    assert code == FAILURE and {"signed", "forged"} <= set(faults)


def test_wrong_use(doctor):
    done = doctor.run("--cacert", "x", "--insecure", "https://x/")
    assert done.returncode == USAGE and "not both" in done.stderr
    assert doctor.run("a", "b").returncode == USAGE


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_as_the_receivers_user(doctor):
    doctor.folder.chmod(0o755)
    lines, code = doctor("--user", "nobody")
    assert ("ok", "user", "looking as nobody") in lines
    assert code == FAILURE      # it can't read the settings
