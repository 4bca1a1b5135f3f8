"""humcli-webhook init, for an account and for the whole system."""

import contextlib
import glob
import json
import os
import re
import shlex
import shutil
import stat
import subprocess
import tempfile
from pathlib import Path

import pytest

import harness
from harness.black_hole import BlackHole
from harness.postgres import as_test_user
from harness.responder import CGI, event, on_disk, sign

OK, NEGATIVE, USAGE, NOUSER, UNAVAILABLE, NOPERM, CONFIG = 0, 1, 64, 67, 69, 77, 78
ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="for the whole system it takes root")


def mode(path):
    return stat.S_IMODE(os.stat(path).st_mode)


class Account:
    """A user named "account" whose home is a temporary folder."""

    def __init__(self, paths, folder):
        self.program = paths.stage / "bin/humcli-webhook"
        self.home = folder / "home"
        self.home.mkdir(mode=0o700)
        user = as_test_user()
        self.uid, self.gid = user.get("user", os.geteuid()), user.get("group", os.getegid())
        os.chown(self.home, self.uid, self.gid)
        folder.chmod(0o755)
        self.passwd = folder / "passwd"
        self.passwd.write_text(f"account:x:{self.uid}:{self.gid}::{self.home}:/bin/sh\n")
        self.group = folder / "group"
        self.group.write_text(f"account:x:{self.gid}:\n")
        self.environment = {"NSS_WRAPPER_PASSWD": str(self.passwd),
                            "NSS_WRAPPER_GROUP": str(self.group),
                            "LD_PRELOAD": glob.glob("/usr/lib/*/libnss_wrapper.so")[0],
                            "PATH": os.environ["PATH"]}
        self.hidden = self.home / ".humcli-webhook"
        self.user = user

    def run(self, *arguments, stdin="", program=None, wrap=(), user=None):
        done = subprocess.run([*wrap, program or self.program, *map(str, arguments)],
                              input=stdin, capture_output=True, text=True, timeout=60, cwd="/",
                              check=False, env=self.environment,
                              **(self.user if user is None else user))
        print(done.stdout, done.stderr)
        return done

    def init(self, *arguments, **others):
        return self.run("init", *arguments, **others)


@pytest.fixture
def account(paths):
    """An Account outside pytest's folder, which only root can read."""
    folder = Path(tempfile.mkdtemp(prefix="humcli-init-", dir=on_disk()))
    yield Account(paths, folder)
    shutil.rmtree(folder)


@pytest.fixture
def empty(cluster):
    """The name of an empty database."""
    name = cluster.create_database()
    yield name
    cluster.drop_database(name)


def has_schema(cluster, name):
    return cluster.execute("SELECT to_regclass('humcli.events') IS NOT NULL", name)[0][0]


# ---- one account


def test_an_account(account, cluster, empty, paths):
    dsn = cluster.dsn(empty)
    done = account.init("--home", "--database", dsn, "--url", "https://me.example/humcli/x.cgi")
    assert done.returncode == OK
    assert mode(account.hidden) == mode(account.hidden / "secrets") == 0o700
    config, secret = account.hidden / "humcli-webhook.conf", account.hidden / "secrets/main"
    assert mode(config) == mode(secret) == 0o600
    assert re.fullmatch("whsec_[0-9a-f]{64}", secret.read_text())
    assert secret.read_text() not in done.stdout + done.stderr
    assert sorted(os.listdir(account.hidden)) == ["humcli-webhook.conf", "secrets"]
    assert f"HUMCLI_WEBHOOK_DATABASE={dsn}\n" in config.read_text()
    assert has_schema(cluster, empty)
    assert '"callback_url": "https://me.example/humcli/x.cgi/main"' in done.stdout
    assert f'"callback_secret": "$(cat {secret})"' in done.stdout
    # the program is not in PATH
    assert f"\n    {account.program} doctor https://me.example/humcli/x.cgi\n" in done.stdout

    # the responder finds these files by itself, and records
    with CGI(paths.responder, dsn, environment=account.environment) as cgi:
        body = event()
        answer = cgi.post(body, signature=sign(body, secret.read_text()))
        assert answer.body == b'{"received":true}', answer.body


def test_a_program_in_path(account, cluster, empty, paths):
    """init prints the command as the user typed it: by name or by path."""
    arguments = "--home", "--dry-run", "--database", "dbname=x", "--url", "https://me.example/x"
    account.environment["PATH"] = f"/usr/bin:/bin:{paths.stage}/bin"
    for typed in ("humcli-webhook", account.program):
        done = account.run("init", *arguments, program=typed)
        assert f"\n    {typed} doctor https://me.example/x\n" in done.stdout


def test_again(account, cluster, empty):
    first = account.init("--home", "--database", cluster.dsn(empty))
    assert first.returncode == OK and "made:" in first.stdout
    before = {path: (path.read_bytes(), path.stat().st_mtime_ns)
              for path in account.hidden.rglob("*") if path.is_file()}
    second = account.init("--home")
    assert second.returncode == OK
    assert {path: (path.read_bytes(), path.stat().st_mtime_ns)
            for path in account.hidden.rglob("*") if path.is_file()} == before
    assert second.stdout.count("made:") == 0    # the schema, up to date


def test_a_secret_that_is_there_is_kept(account, cluster, empty):
    assert account.init("--home", "--database", cluster.dsn(empty)).returncode == OK
    (account.hidden / "secrets/main").rename(account.hidden / "secrets/autumn")
    done = account.init("--home", "--steps")
    assert done.returncode == OK
    assert os.listdir(account.hidden / "secrets") == ["autumn"]
    assert '/secrets/autumn)"' in done.stdout


def test_only_the_plan(account, cluster, empty):
    done = account.init("--home", "--dry-run", "--database", cluster.dsn(empty))
    assert done.returncode == OK
    assert not account.hidden.exists() and not has_schema(cluster, empty)
    assert done.stdout.count("would make:") == 5
    assert "made:" not in done.stdout and "callback_secret" in done.stdout


def test_the_password_comes_by_stdin(account, cluster, empty):
    dsn = f"{cluster.dsn(empty)} password=hush_hush"
    done = account.init("--home", "--database", "-", stdin=f"{dsn}\n")
    assert done.returncode == OK
    assert dsn in (account.hidden / "humcli-webhook.conf").read_text()
    assert "hush_hush" not in done.stdout + done.stderr


def test_the_lines_to_paste(account, cluster, empty):
    """The lines for the web server work in a shell."""
    done = account.init("--home", "--database", cluster.dsn(empty))
    lines = re.findall(r"^    (.*)$", done.stdout[:done.stdout.index("\ncurl ")], re.M)
    script = "\n".join(line for line in lines if "doctor" not in line)
    ran = subprocess.run(["sh", "-ec", script], capture_output=True, text=True, timeout=60,
                         check=False, cwd="/", env={**account.environment, "HOME": account.home},
                         **account.user)
    assert ran.returncode == 0, ran.stderr
    assert "secret: main" in ran.stdout
    folder = account.home / "public_html/humcli"
    assert mode(folder) == mode(folder / "webhook.cgi") == 0o755
    assert "AddHandler" in (folder / ".htaccess").read_text()


def test_the_curl(account, cluster, empty):
    done = account.init("--home", "--database", cluster.dsn(empty), "--url", "https://me.example/")
    command = done.stdout[done.stdout.index("curl -sS"):]
    fake = account.home / "curl"
    fake.write_text("#!/bin/sh\ncat\n")
    fake.chmod(0o755)
    ran = subprocess.run(["sh", "-ec", command], capture_output=True, text=True, timeout=60,
                         check=True, env={**account.environment,
                                          "PATH": f"{account.home}:{os.environ['PATH']}"})
    sent = json.loads(ran.stdout)
    assert sent["callback_url"] == "https://me.example/main"
    assert sent["callback_secret"] == (account.hidden / "secrets/main").read_text()
    assert {"title", "description", "reward_usd", "deadline", "proof_requirements",
            "task_type"} < set(sent)


@pytest.mark.parametrize("database, code, said", [
    (None, USAGE, "--database is missing"),
    ("host=/nowhere dbname=x", UNAVAILABLE, "can't connect"),
    ("x y z", CONFIG, "can't parse"),
])
def test_no_database(account, database, code, said):
    done = account.init("--home", *(["--database", database] if database else []))
    assert done.returncode == code and said in done.stderr


def test_settings_of_the_database_change_nothing(account, cluster, empty):
    cluster.execute(f"ALTER DATABASE {empty} SET default_transaction_read_only = on")
    cluster.execute(f"ALTER DATABASE {empty} SET default_transaction_isolation = serializable")
    cluster.execute(f"ALTER DATABASE {empty} SET statement_timeout = '10ms'")
    cluster.execute(f"ALTER DATABASE {empty} SET search_path = nowhere")
    done = account.init("--home", "--database", cluster.dsn(empty))
    assert done.returncode == OK and has_schema(cluster, empty)


def test_a_server_that_does_not_answer(account, cluster, empty):
    """Each address has its time, and the next one is tried."""
    with BlackHole(f"{cluster.folder}/.s.PGSQL.{cluster.port}") as hole:
        done = account.init("--home", "--database", f"host=127.0.0.1,{cluster.folder} port={hole.port},"
                            f"{cluster.port} dbname={empty} user=postgres")
    assert done.returncode == OK and has_schema(cluster, empty)


def test_another_database_than_before(account, cluster, empty):
    assert account.init("--home", "--database", cluster.dsn(empty)).returncode == OK
    done = account.init("--home", "--database", "dbname=other")
    assert done.returncode == CONFIG and "names another database" in done.stderr


def test_bad_settings_are_left_alone(account):
    account.hidden.mkdir(mode=0o700)
    config = account.hidden / "humcli-webhook.conf"
    config.write_text("HUMCLI_WEBHOOK_COLOUR=red\n")
    for path in (account.hidden, config):
        os.chown(path, account.uid, account.gid)
    done = account.init("--home")
    assert done.returncode == CONFIG and "COLOUR" in done.stderr
    assert config.read_text() == "HUMCLI_WEBHOOK_COLOUR=red\n"


@pytest.mark.parametrize("arguments, said", [
    (["--server", "iis"], "--server is apache, lighttpd, nginx or caddy"),
    (["--server", "nginx", "--user", "www-data"], "leave out --user"),
    (["--url", "http://x/"], "has to start with https://"),
    (["x"], "unexpected argument"),
])
def test_wrong_use(account, arguments, said):
    done = account.init(*arguments)
    assert done.returncode == USAGE and said in done.stderr


@ROOT
def test_not_as_root(account):
    done = account.init()
    assert done.returncode == NOPERM and "sudo" in done.stderr and "--home" in done.stderr


# ---- faults


@pytest.fixture
def faults(account):
    """Loads init_faults.c into init."""
    source = Path(harness.__path__[0]) / "init_faults.c"
    library = account.home.parent / "init_faults.so"
    subprocess.run(["cc", "-shared", "-fPIC", "-o", library, source], check=True)
    account.environment["LD_PRELOAD"] = f"{library}:{account.environment['LD_PRELOAD']}"
    return account.environment


def test_no_role_without_the_password_that_was_given(account, cluster, empty, faults):
    """A role that anybody could log in as is worse than none."""
    faults["NO_HASH"] = "1"
    role = f"init_{os.getpid()}"
    done = account.init("--home", "--admin", cluster.dsn(empty), "--database",
                        f"{cluster.dsn(empty)} user={role} password=hush_hush")
    assert done.returncode == UNAVAILABLE and "can't hash the role's password" in done.stderr
    assert "hush_hush" not in done.stdout + done.stderr
    assert not cluster.execute(f"SELECT 1 FROM pg_roles WHERE rolname = '{role}'")


def test_a_name_that_cannot_be_quoted(account, cluster, empty):
    """Not valid in UTF-8."""
    done = subprocess.run(
        [account.program, "init", "--home", "--admin", cluster.dsn(empty), "--database",
         cluster.dsn(empty).encode() + b" user=\xff"], capture_output=True, timeout=60, cwd="/",
        check=False, env=account.environment, **account.user)
    assert done.returncode == UNAVAILABLE and b"can't " in done.stderr, done.stderr
    assert b"(null)" not in done.stdout + done.stderr


def test_new_names_are_synced(account, cluster, empty, faults):
    """The folder of each file and folder, or a crash could lose the name."""
    synced = account.home / "synced"
    faults["SYNCED"] = str(synced)
    assert account.init("--home", "--database", cluster.dsn(empty)).returncode == OK
    assert set(synced.read_text().split()) == {
        str(account.home), str(account.hidden), str(account.hidden / "secrets")}


# ---- the whole system


@contextlib.contextmanager
def system(account, cluster, paths):
    """
    A mount namespace in which the stage is /usr/local, so that all paths are
    those of an installation. Its settings and its spool are folders of the
    test's, /run is empty, and the users are those of nss_wrapper.
    """
    folder = account.home.parent
    for name in ("etc", "var", "init.d"):
        (folder / name).mkdir()
    account.passwd.write_text(
        "root:x:0:0::/root:/bin/sh\n"
        f"postgres:x:{account.uid}:{account.gid}::/nonexistent:/bin/sh\n"
        "humcli-webhook:x:61234:61234::/nonexistent:/bin/sh\n"
        "www-data:x:61235:61235::/nonexistent:/bin/sh\n")
    account.group.write_text("root:x:0:\nhumcli-webhook:x:61234:\nwww-data:x:61235:\n")
    mounts = (f"mount -t tmpfs none /mnt; mkdir /mnt/upper /mnt/work; mount -t overlay overlay"
              f" -o lowerdir={paths.stage},upperdir=/mnt/upper,workdir=/mnt/work /usr/local;"
              f" mkdir -p /usr/local/etc /usr/local/var;"
              f" mount --bind {folder}/etc /usr/local/etc;"
              f" mount --bind {folder}/var /usr/local/var;"
              f" mount --bind {folder}/init.d /etc/init.d;"
              " mount -t tmpfs -o mode=755 none /run; mount -t tmpfs none /var/log;"
              " test -z \"$SYSTEMD\" || mkdir -p /run/systemd/system;")

    def run(*arguments, script=None, before=(), spaces=(), **others):
        script = script or f'exec {shlex.join(before)} "$0" "$@"'
        return account.run("-ec", mounts + script, "/usr/local/bin/humcli-webhook", *arguments,
                           program="sh", wrap=["unshare", "--mount", *spaces], user={}, **others)

    run.etc, run.var = folder / "etc", folder / "var"
    yield run
    for role in ("humcli-webhook", "www-data"):
        cluster.execute(f'DROP ROLE IF EXISTS "{role}"')


def check_verbs(run, account):
    """After init, root reads and purges, though root is no role. Another
    account is told which command does it."""
    assert run("events").returncode == OK
    assert run("task", "none").returncode == NEGATIVE
    for verb in ("tasks", "gaps", "subscriptions", "quarantine list", "dead list", "purge --tests"):
        done = run(*verb.split())
        assert (done.returncode, done.stderr) == (OK, ""), done
    spool = account.home.parent / "spool"
    with open(run.etc / "humcli-webhook.conf", "a", encoding="ascii") as config:
        config.write(f"HUMCLI_WEBHOOK_SPOOL={spool}\n")
    for folder in (spool, *(spool / each for each in ("tmp", "new", "failed"))):
        folder.mkdir(mode=0o700)
        os.chown(folder, 61234, 61234)
    done = run("purge", "--older-than", "2 days")
    assert (done.returncode, done.stdout) == (OK, "0 tasks purged\n")
    waiting = spool / "new" / ("0" * 64)
    waiting.write_bytes(b"x")
    os.chown(waiting, 61234, 61234)
    done = run("purge", "--older-than", "2 days")
    assert (done.returncode, done.stdout) == (75, "")
    assert "nothing was purged: 1 event is still in spool" in done.stderr
    assert run("spool", "list").stdout.count("\n") == 2
    metrics = run("metrics")
    assert 'humcli_spool_files{folder="new"} 1' in metrics.stdout and "humcli_up 1" in metrics.stdout
    assert {each.stat().st_uid for each in (spool, *spool.iterdir())} == {61234}
    waiting.unlink()
    other = ["setpriv", f"--reuid={account.uid}", "--regid=61234", "--clear-groups"]
    done = run("purge", "--older-than", "2 days", before=other)
    assert (done.returncode, done.stdout) == (NOPERM, "")
    assert re.search("nothing was purged: the spool .* belongs to humcli-webhook, .*"
                     "run: sudo .* purge --older-than '2 days'", done.stderr)
    other[2] = f"--regid={account.gid}"
    done = run("purge", "--older-than", "2 days", before=other)
    assert (done.returncode, done.stdout) == (CONFIG, "")
    assert "Permission denied" in done.stderr and "run it with sudo" in done.stderr


@ROOT
def test_the_system(account, cluster, paths):
    name = f"init_{os.getpid()}"
    dsn = f"host={cluster.folder} port={cluster.port} dbname={name}"
    with system(account, cluster, paths) as run:
        try:
            done = run("init", "--database", dsn, "--server", "lighttpd")
            assert done.returncode == OK
            config, secrets = run.etc / "humcli-webhook.conf", run.etc / "humcli-webhook.secrets"
            assert (mode(config), mode(secrets)) == (0o640, 0o2750)
            assert mode(secrets / "main") == 0o640
            for path in (config, secrets, secrets / "main"):
                assert (path.stat().st_uid, path.stat().st_gid) == (0, 61234)
            assert "SECRET_DIR=/usr/local/etc/humcli-webhook.secrets" in config.read_text()
            assert cluster.execute("SELECT pg_has_role('humcli-webhook', 'humcli_writer',"
                                   " 'USAGE'), rolsuper FROM pg_roles"
                                   " WHERE rolname = 'humcli-webhook'") == [(True, False)]
            assert cluster.execute("SELECT pg_encoding_to_char(encoding) FROM pg_database"
                                   f" WHERE datname = '{name}'") == [("UTF8",)]
            # init can't know the receiver's own role
            assert f"{name} as humcli-webhook" in done.stdout
            assert "\n    lighty-enable-mod humcli-webhook" in done.stdout
            assert "\n    /usr/local/bin/humcli-webhook doctor https" in done.stdout
            assert "a2enmod" not in done.stdout and "sudo" not in done.stdout
            spool = run.var / "spool/humcli-webhook"
            assert mode(spool) == 0o700 and spool.stat().st_uid == 61234
            again = run("init", "--server", "lighttpd")
            assert again.returncode == OK and again.stdout.count("made:") == 0
            assert again.stderr == ""
            # not the installation once more
            assert "lighty-enable-mod" not in again.stdout and "curl" not in again.stdout
            assert "\n    /etc/init.d/humcli-webhook restart\n" in again.stdout
            account.environment["SYSTEMD"] = "1"
            again = run("init", "--server", "lighttpd")
            assert "\n    systemctl try-restart humcli-webhook.service\n" in again.stdout
            again = run("init", "--server", "lighttpd", "--steps")
            assert "lighty-enable-mod" in again.stdout and "\ncurl " in again.stdout
            looked = run("doctor")
            assert "ok    user         checking as humcli-webhook" in looked.stdout
            # the events by postgres, since the receiver may only record
            assert "ok    version      the schema has version" in looked.stdout
            assert "ok    gaps         " in looked.stdout
            assert "FAIL" not in looked.stdout
            check_verbs(run, account)
            # a database that the environment names is used as it says
            account.environment["HUMCLI_WEBHOOK_DATABASE"] = f"{dsn} user=humcli_nobody"
            assert "humcli_nobody" in run("events").stderr
        finally:
            cluster.drop_database(name)


@ROOT
def test_secrets_of_the_system(account, cluster, paths):
    """As init: the receiver's group may read the file, and nobody else."""
    name = f"secret_{os.getpid()}"
    dsn = f"host={cluster.folder} port={cluster.port} dbname={name}"
    with system(account, cluster, paths) as run:
        try:
            assert run("init", "--database", dsn).returncode == OK
            folder = run.etc / "humcli-webhook.secrets"
            done = run("secret", "add", "agent", "--url", "https://agent.example/humcli")
            assert (done.returncode, done.stderr) == (OK, "")
            status = (folder / "agent").stat()
            assert (status.st_uid, status.st_gid, mode(folder / "agent")) == (0, 61234, 0o640)
            # a folder that somebody made by hand
            os.chown(folder, 0, 0)
            folder.chmod(0o755)
            assert run("secret", "add", "second").returncode == OK
            status = (folder / "second").stat()
            assert (status.st_gid, mode(folder / "second")) == (61234, 0o640)
            # of a file that root alone can read the receiver's user knows
            os.chown(folder / "agent", 0, 0)
            listed = {one["name"]: one["problem"] for one in map(
                json.loads, run("secret", "list", "--json").stdout.splitlines())}
            assert listed == {"agent": "Permission denied", "main": None, "second": None}
            other = ["setpriv", f"--reuid={account.uid}", "--regid=61234", "--clear-groups"]
            done = run("secret", "add", "third", before=other)
            assert (done.returncode, done.stdout) == (NOPERM, "")
            assert "run it with sudo" in done.stderr
            done = run("secret", "remove", "second", before=other)
            assert (done.returncode, done.stdout) == (NOPERM, "")
            assert run("secret", "remove", "second").returncode == OK
        finally:
            cluster.drop_database(name)


@ROOT
def test_without_systemd(account, cluster, paths):
    """The printed commands start the receiver, and doctor finds nothing wrong."""
    name = f"init_{os.getpid()}"
    dsn = f"host={cluster.folder} port={cluster.port} dbname={name}"
    script = """
        "$0" init --database "$1" --server lighttpd >/mnt/steps
        sed -n '/^lighttpd:/,/^Then this/s/^    //p' /mnt/steps |
            grep -v -e lighttpd -e lighty -e update-rc.d -e doctor >/mnt/commands
        cat /mnt/commands
        sh -ex /mnt/commands
        stat -c '%a %U %G' /run/humcli-webhook/sock
        "$0" doctor || true
        /etc/init.d/humcli-webhook status
        /etc/init.d/humcli-webhook restart
        "$0" doctor | grep socket
        /etc/init.d/humcli-webhook stop
        ! /etc/init.d/humcli-webhook status
        test ! -e /run/humcli-webhook/sock
        cat /var/log/humcli-webhook.log
    """
    with system(account, cluster, paths) as run:
        try:
            done = run(dsn, script=script)
        finally:
            cluster.drop_database(name)
    assert done.returncode == OK, done.stderr
    assert "\n660 humcli-webhook www-data\n" in done.stdout
    assert done.stdout.count("ok    socket       the receiver answers: ok") == 2
    assert "FAIL" not in done.stdout and "systemctl" not in done.stdout
    assert done.stdout.count("serves FastCGI") == 2


# a site with TLS as the user has it; the lines that init prints go where it says
SITES = {
    "nginx": ("nginx", """\
        cp -r /etc/nginx /mnt/nginx
        mount --bind /mnt/nginx /etc/nginx
        rm -f /etc/nginx/sites-enabled/* /etc/nginx/modules-enabled/*
        cat >/etc/nginx/sites-enabled/site <<'END'
server {
	listen 443 ssl;
	server_name localhost;
	ssl_certificate /mnt/site.pem;
	ssl_certificate_key /mnt/key.pem;
	# LINE1
	location / { return 404; }
}
END
        mkdir /var/log/nginx
        nginx
        site=/etc/nginx/sites-enabled/site
    """),
    "caddy": ("Caddy", """\
        cp -r /etc/caddy /mnt/caddy
        mount --bind /mnt/caddy /etc/caddy
        cat >/etc/caddy/Caddyfile <<'END'
# LINE1
https://localhost {
	tls /mnt/site.pem /mnt/key.pem
	# LINE2
	respond 404
}
END
        caddy start --config /etc/caddy/Caddyfile
        site=/etc/caddy/Caddyfile
    """)}


@ROOT
@pytest.mark.parametrize("server", SITES)
def test_a_server_with_its_own_file(account, cluster, paths, server):
    """The printed commands and lines make nginx and Caddy pass events on."""
    name = f"init_{os.getpid()}"
    dsn = f"host={cluster.folder} port={cluster.port} dbname={name}"
    title, site = SITES[server]
    script = f"""
        ip link set lo up
        export HOME=/mnt SSL_CERT_FILE=/mnt/site.pem
        openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 \
            -subj /CN=localhost -addext subjectAltName=DNS:localhost \
            -keyout /mnt/key.pem -out /mnt/site.pem
        {site}
        "$0" init --database "$1" --server {server} --url https://localhost/humcli >/mnt/steps
        sed -n '/^{title}:/,/^Then this/s/^    //p' /mnt/steps >/mnt/commands
        sed -n 's/^#     //p' /mnt/commands | while IFS= read -r line; do
            number=$((number + 1))
            sed -i "s|# LINE$number|$line|" "$site"
        done
        grep -v -e update-rc.d -e usermod /mnt/commands | sh -ex
        for try in $(seq 100); do    # the reload goes on in the background
            curl -sf https://localhost/humcli/health && break || sleep 0.1
        done
        "$0" send --cacert /mnt/site.pem https://localhost/humcli
        "$0" doctor --cacert /mnt/site.pem https://localhost/humcli || :
    """
    with system(account, cluster, paths) as run:
        try:
            done = run(dsn, script=script, spaces=["--net", "--pid", "--fork", "--kill-child", "--mount-proc"])
        finally:
            cluster.drop_database(name)
    assert done.returncode == OK, done.stderr
    assert '{"received":true}' in done.stdout
    assert "FAIL" not in done.stdout and "none of its" not in done.stdout
    assert "ok    web server   no limit in" in done.stdout


@ROOT
def test_for_the_web_servers_user(account, cluster, paths):
    """apache/fcgid.conf: the web server starts the receiver as its own user."""
    name = f"init_{os.getpid()}"
    dsn = f"host={cluster.folder} port={cluster.port} dbname={name}"
    with system(account, cluster, paths) as run:
        try:
            done = run("init", "--database", dsn, "--server", "apache", "--user", "www-data")
            assert done.returncode == OK
            assert f"{name} as www-data" in done.stdout
            config, spool = run.etc / "humcli-webhook.conf", run.var / "spool/humcli-webhook"
            assert config.stat().st_gid == spool.stat().st_uid == 61235
            assert "fcgid.conf" in done.stdout and "a2enmod -q alias fcgid rewrite ssl" in done.stdout
            assert "humcli-webhook.socket" not in done.stdout and "init.d" not in done.stdout
            looked = run("doctor")
            assert "ok    user         checking as www-data" in looked.stdout
            assert "FAIL" not in looked.stdout
        finally:
            cluster.drop_database(name)


@ROOT
def test_a_user_is_created_without_systemd(account, cluster, paths):
    """By useradd, where systemd-sysusers is missing."""
    with system(account, cluster, paths) as run:
        line, = [line for line in account.passwd.read_text().splitlines()
                 if line.startswith("humcli-webhook")]
        account.passwd.write_text(account.passwd.read_text().replace(line + "\n", ""))
        tools = account.home.parent / "tools"
        tools.mkdir()
        (tools / "useradd").write_text(f"#!/bin/sh\necho useradd $*\n"
                                       f"echo {line} >>{account.passwd}\n")
        (tools / "systemd-sysusers").write_text("#!/bin/sh\nexit 1\n")
        for tool in tools.iterdir():
            tool.chmod(0o755)
        os.utime(account.passwd, (0, 0))    # nss_wrapper sees the change
        account.environment["PATH"] = f"{tools}:{os.environ['PATH']}"
        done = run("init", "--database", "host=/nowhere dbname=x")
        assert "useradd --system --user-group --home-dir /var/lib/humcli-webhook" in done.stdout
        assert (run.etc / "humcli-webhook.secrets/main").exists()
        done = run("init", "--user", "nobody_there")
        assert done.returncode == NOUSER and "can't find the user nobody_there" in done.stderr


@ROOT
def test_the_plan_for_the_system(account, cluster, paths):
    with system(account, cluster, paths) as run:
        done = run("init", "--dry-run", "--server", "apache")
        assert done.returncode == OK
        assert list(run.etc.iterdir()) == []
        assert "would make: the role humcli-webhook" in done.stdout
        sample = re.search(r"    cp /usr/local/(\S+/apache/proxy_fcgi\.conf)", done.stdout)[1]
        assert (paths.stage / sample).exists()


def test_for_one_with_sudo(account):
    """A user who ran init by sudo can type each printed line."""
    account.environment["SUDO_USER"] = "account"
    done = account.init("--dry-run", "--server", "apache", "--url", "https://me.example/x")
    assert done.returncode == OK
    commands = done.stdout[done.stdout.index("Apache"):done.stdout.index("\ncurl ")]
    lines = [line for line in re.findall("^    (.*)$", commands.replace("\\\n", ""), re.M)]
    assert len(lines) > 5 and all(line.startswith("sudo ") for line in lines)
    assert f"sudo {account.program} doctor https://me.example/x" in lines
    assert '"callback_secret": "$(sudo cat ' in done.stdout


@ROOT
def test_no_postgres_here(account, cluster, paths):
    with system(account, cluster, paths) as run:
        account.passwd.write_text(re.sub("postgres.*\n", "", account.passwd.read_text()))
        done = run("init")
        assert done.returncode != OK and "--admin CONNINFO" in done.stderr
