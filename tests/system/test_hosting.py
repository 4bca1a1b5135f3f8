"""
The archive for hosts without a shell, installed by its INSTALL.txt. The file
system has an empty home and a shell, and no library. Apache runs the programs
with the environment that suexec leaves.
"""

import json
import os
import re
import shutil
import stat
import subprocess
import tarfile
import tempfile
import time

import pytest

from harness.hosting_bundle import cron_line, cron_lines, edit_settings
from harness.postgres import Database, as_test_user
from harness.responder import chown_to_test_user, event, on_disk, sign
from harness.web_server_setups import SUEXEC, HostedApache, HostedFastCGI

HOME = "/home/account"
# The account is root of a user namespace, so that it owns the files that it
# unpacked.
ENTER = """\
mount --rbind /proc {root}/proc && exec chroot {root} /bin/sh -c 'cd {folder} && exec "$@"' sh"""


class Host:
    """A hosting company's file system, database and Apache."""

    def __init__(self, paths, cluster, folder):
        self.root = os.path.join(folder, "root")
        self.home = self.root + HOME
        for name in ("bin", "dev", "etc", "proc", "tmp", HOME.strip("/") + "/public_html"):
            os.makedirs(os.path.join(self.root, name))
        shutil.copy("/bin/busybox", os.path.join(self.root, "bin/sh"))
        with open(os.path.join(self.root, "etc/passwd"), "w", encoding="ascii") as file:
            file.write(f"account:x:0:0::{HOME}:/bin/sh\n")
        # a file, because a device needs root
        with open(os.path.join(self.root, "dev/null"), "wb") as file:
            os.fchmod(file.fileno(), 0o666)
        for name, folders, _ in os.walk(folder):
            os.chmod(name, 0o755)
            for each in (name, *(os.path.join(name, sub) for sub in folders)):
                chown_to_test_user(each)
        # the company's mode; the archive must not change it
        os.chmod(os.path.join(self.home, "public_html"), 0o750)
        self.paths, self.cluster = paths, cluster
        self.database = Database(cluster, cluster.create_database())
        self.site = None

    def command(self, folder, *arguments):
        """Returns a command line that runs a command in the file system."""
        enter = ENTER.format(root=self.root, folder=folder)
        return ["unshare", "--user", "--map-root-user", "--mount", "sh", "-ec",
                enter + ' "$@"', "sh", *arguments]

    def cron(self, line):
        """Runs a line as cron does: by the shell, in cron's environment."""
        done = subprocess.run(
            self.command(HOME, "/bin/sh", "-c", line), capture_output=True, text=True,
            timeout=60, check=False,
            env={"HOME": HOME, "SHELL": "/bin/sh", "LOGNAME": "account",
                 "PATH": "/usr/sbin:/usr/bin:/sbin:/bin"}, **as_test_user())
        print(done.stdout, done.stderr)
        return done

    def start_apache(self, kind=HostedApache):
        words = self.command(f"{HOME}/public_html/humcli", f"./{kind.script}")
        quoted = " ".join("'" + word.replace("'", "'\\''") + "'" for word in words)
        program = SUEXEC.format(preload="", passwd="", program=quoted).replace(
            "PATH=/usr/local/bin:/usr/bin:/bin", "PATH=/usr/bin:/bin:/usr/sbin:/sbin")
        program = program.replace(" LD_PRELOAD= \\\n\tNSS_WRAPPER_PASSWD= "
                                  "NSS_WRAPPER_GROUP=/etc/group ", " ")
        assert "NSS_WRAPPER" not in program
        self.site = kind(self.paths, "htaccess", program)

    def close(self):
        if self.site:
            self.site.close()
        self.cluster.drop_database(self.database.name)


@pytest.fixture
def host(paths, cluster, archive):
    folder = tempfile.mkdtemp(prefix="humcli-host-", dir=on_disk())
    it = Host(paths, cluster, folder)
    try:
        # step 1, as the account
        with open(archive, "rb") as file:
            subprocess.run(["tar", "-xzf", "-", "-C", it.home], stdin=file, check=True,
                           **as_test_user())
        yield it
    finally:
        it.close()
        shutil.rmtree(folder)


def configure(host):
    chown_to_test_user(edit_settings(host.home, host.database))
    return os.path.join(host.home, ".humcli-webhook")


def test_the_archive(archive):
    """The archive has the modes that suexec and the secrets need."""
    with tarfile.open(archive) as tar:
        members = {member.name: member for member in tar}
    assert "public_html" not in members     # its mode belongs to the company
    for name, member in members.items():
        assert not member.mode & 0o022 and not member.issym(), name
        assert name.startswith(("public_html/humcli", ".humcli-webhook", "INSTALL.txt")), name
        if name.startswith(".humcli-webhook"):
            assert not member.mode & 0o077, name
    for name in ("public_html/humcli", "public_html/humcli/webhook.cgi",
                 "public_html/humcli/webhook.fcgi"):
        assert members[name].mode == 0o755
    assert {"INSTALL.txt", ".humcli-webhook/humcli.sql", ".humcli-webhook/manual/trouble.md",
            ".humcli-webhook/secrets", ".humcli-webhook/lib/libc.so.6"} <= set(members)
    # plain text that has each key of the settings
    with tarfile.open(archive) as tar:
        manual = tar.extractfile(".humcli-webhook/manual/humcli-webhook.conf.txt").read().decode()
    assert re.search("^     HUMCLI_WEBHOOK_IDLE_DISCONNECT=", manual, re.M) and "\b" not in manual
    # the owner's files are not in the archive, because an upgrade would
    # overwrite them
    assert ".humcli-webhook/humcli-webhook.conf" not in members
    assert not [name for name in members if name.startswith(".humcli-webhook/secrets/")]
    print(f"{archive.stat().st_size / 1e6:.1f} MB")


def test_by_its_own_instructions(paths, host):
    hidden = configure(host)
    done = host.cron(cron_line(paths, "init"))
    assert done.returncode == 0 and done.stderr == ""
    assert "0 failures" in done.stdout
    secret_file = os.path.join(hidden, "secrets/main")
    with open(secret_file, encoding="ascii") as file:
        secret = file.read()
    assert stat.S_IMODE(os.stat(secret_file).st_mode) == 0o600
    assert "callback_url:    https://you.example/humcli/webhook.cgi/main\n" in done.stdout
    assert f"callback_secret: the text in {HOME}/.humcli-webhook/secrets/main\n" in done.stdout
    assert "<<END" not in done.stdout
    assert "public_html/humcli/webhook.cgi exists" in done.stdout
    # the printed command works
    doctor = re.search(r"^    (\S*humcli-webhook doctor) https://you.example/humcli/webhook.cgi$",
                       done.stdout, re.M)[1]
    assert host.cron(doctor).returncode == 0

    host.start_apache()
    web = host.site
    with open(web.path("www/humcli/.htaccess"), encoding="ascii") as ours, \
            open(os.path.join(host.home, "public_html/humcli/.htaccess"),
                 encoding="ascii") as packed:
        # but for the steps at the top
        assert ours.read().partition("\n\n")[2] == packed.read().partition("\n\n")[2] != ""
    body = event()
    start = time.monotonic()
    answer = web.https.post(body, [sign(body, secret)])
    print(f"cold: {(time.monotonic() - start) * 1000:.0f} ms")
    assert (answer.status, answer.body) == (200, b'{"received":true}'), (answer, web.log())
    assert web.https.post(body, [sign(body)]).status == 401
    assert web.https.get("/health").body == b'{"status":"ok"}'
    assert host.database.execute("SELECT payload::text FROM humcli.events") == [(body.decode(),)]
    assert web.http.post(body, [sign(body, secret)]).status == 403
    # other users can read nothing else in the folder
    for name in ("webhook.fcgi", ".htaccess", ""):
        web.write(f"www/humcli/{name}" if name == "webhook.fcgi" else "www/x", "x")
        url = web.https.url
        web.https.url = f"/humcli/{name}"
        try:
            assert web.https.get("").status == 403, name
        finally:
            web.https.url = url
    with open(os.path.join(hidden, "log"), encoding="utf-8") as log:
        assert "outcome=recorded" in log.read()


def test_the_cron_jobs(paths, host):
    configure(host)
    assert host.cron(cron_line(paths, "init")).returncode == 0
    host.start_apache()
    shutil.copy(host.site.certificate, os.path.join(host.home, "ca.pem"))
    url = f"https://localhost:{host.site.tls_port}{host.site.https.url}"
    # a whole life of a task, so that doctor finds no gap
    sent = host.cron("$HOME/.humcli-webhook/bin/humcli-webhook send --lifecycle main"
                     f" --cacert ca.pem {url}")
    assert sent.returncode == 0 and '{"received":true}' in sent.stdout
    verbs = host.cron("$HOME/.humcli-webhook/bin/humcli-webhook --help").stdout
    for line in cron_lines(paths):
        verb = re.search(r"/humcli-webhook (\S+)", line)[1]
        if verb == "--help":
            continue
        assert f"  {verb} " in verbs, f"INSTALL.txt: {line}"
    doctor = cron_line(paths, "doctor")
    # this host has no grep; a certificate that ends within a day is a warning
    doctor = doctor.split(" |")[0].replace("https://you.example/humcli/webhook.cgi",
                                           f"--cacert ca.pem {url}")
    done = host.cron(doctor)
    assert re.fullmatch(r"HUMCLI WARNING - tls: the certificate is valid for [01] more days?\n",
                        done.stdout)
    assert host.cron(cron_line(paths, "spool drain")).returncode == 0
    probe = host.cron(f"$HOME/.humcli-webhook/bin/humcli-webhook probe --json --cacert ca.pem {url}")
    assert probe.returncode == 0
    assert len([json.loads(line) for line in probe.stdout.splitlines()]) > 40


@pytest.mark.parametrize("name, mode, arguments, needed", [
    ("webhook.cgi", None, [], False),
    ("webhook.cgi", "require", [], False),
    ("webhook.cgi", "verify-full", [], True),
    ("webhook.cgi", None, ["sslmode=verify-full"], False),  # a query of anybody
    ("humcli-webhook", None, ["init", "--database", "sslmode=verify-ca"], True)])
def test_certificates_for_libpq(paths, tmp_path, name, mode, arguments, needed):
    """With PGSSLROOTCERT, libpq refuses a server's self-signed certificate, and says
    so before it says that the password is wrong."""
    base = tmp_path / ".humcli-webhook"
    (base / "lib").mkdir(parents=True)
    (base / "lib/loader").write_text('#!/bin/sh\necho "${PGSSLROOTCERT-none}"\n')
    start = shutil.copy(paths.source / "hosting/start", tmp_path / name)
    if mode:
        (base / "humcli-webhook.conf").write_text(
            "# HUMCLI_WEBHOOK_DATABASE=postgresql://x/y?sslmode=verify-full\n"
            f"HUMCLI_WEBHOOK_DATABASE=host=db dbname=x sslmode={mode}")
    for file in (base / "lib/loader", start):
        os.chmod(file, 0o755)
    done = subprocess.run([start, *arguments], env={"PATH": "/usr/bin:/bin"}, check=True,
                          capture_output=True, text=True)
    assert done.stderr == ""
    assert done.stdout == (f"{base}/share/certificates.pem\n" if needed else "none\n")


def test_as_fastcgi(host):
    """With the FastCGI lines of the .htaccess, one process serves several
    requests."""
    hidden = configure(host)
    assert host.cron("$HOME/.humcli-webhook/bin/humcli-webhook init --home").returncode == 0
    with open(os.path.join(hidden, "secrets/main"), encoding="ascii") as file:
        secret = file.read()
    host.start_apache(HostedFastCGI)
    for _ in range(3):
        body = event()
        answer = host.site.https.post(body, [sign(body, secret)])
        assert answer.body == b'{"received":true}', (answer, host.site.log())
    with open(os.path.join(hidden, "log"), encoding="utf-8") as log:
        lines = [line for line in log if "outcome=recorded" in line]
    assert len(lines) == 3 and len({re.search(r"pid=(\d+)", line)[1] for line in lines}) == 1


def test_a_root_of_another_name(paths, host):
    """The program finds its libraries in a folder that was moved."""
    hidden = configure(host)
    assert host.cron("$HOME/.humcli-webhook/bin/humcli-webhook init --home").returncode == 0
    os.makedirs(os.path.join(host.home, "domains/you.example"))
    os.rename(os.path.join(host.home, "public_html"),
              os.path.join(host.home, "domains/you.example/html"))
    done = host.cron("cd domains/you.example/html/humcli && ./webhook.cgi --check-config")
    assert done.returncode == 0 and "secret: main" in done.stdout
    # without them, it says so
    os.rename(hidden, hidden + ".away")
    done = host.cron("cd domains/you.example/html/humcli && ./webhook.cgi")
    assert done.stdout.startswith("Status: 503") and "no .humcli-webhook" in done.stderr


def test_secrets_below_the_document_root(host):
    """doctor reports secrets below the document root."""
    hidden = configure(host)
    assert host.cron("$HOME/.humcli-webhook/bin/humcli-webhook init --home").returncode == 0
    public = os.path.join(host.home, "public_html")
    shutil.move(os.path.join(hidden, "secrets"), os.path.join(public, "secrets"))
    with open(os.path.join(hidden, "humcli-webhook.conf"), "a", encoding="ascii") as file:
        file.write(f"HUMCLI_WEBHOOK_SECRET_DIR={HOME}/public_html/secrets\n")
    done = host.cron("$HOME/.humcli-webhook/bin/humcli-webhook doctor")
    assert done.returncode == 2
    assert "SECRET_DIR is in a document root" in done.stdout
