"""
The archive for hosts without a shell under Apache's real suexec. Apache runs as
www-data and suexec runs the CGI programs as the account. The account, suexec's
settings and its log are in the test's mount namespace. Needs root.
"""

import grp
import os
import re
import shutil
import stat
import subprocess
import tempfile

import pytest

from harness.apache import FRONT
from harness.hosting_bundle import cron_line, edit_settings
from harness.responder import event, on_disk, sign
from harness.web_server_setups import HostedApache

SUEXEC = "/usr/lib/apache2/suexec"
WEB = "www-data"
ACCOUNT = 61235     # suexec refuses ids below 100
CRON = {"SHELL": "/bin/sh", "LOGNAME": "account", "PATH": "/usr/bin:/bin"}


def why_not():
    """Returns the reason why this test can't run; None if it can."""
    if os.geteuid() != 0:
        return "suexec and its Apache take root"
    if not os.path.realpath(SUEXEC).endswith("/suexec-custom"):
        return "there is no apache2-suexec-custom"
    if not os.stat(SUEXEC).st_mode & stat.S_ISUID or \
            os.statvfs(SUEXEC).f_flag & os.ST_NOSUID:
        return "set-user-ID programs don't work here"
    if subprocess.run(["unshare", "--mount", "true"], capture_output=True, check=False).returncode:
        return "there are no mount namespaces here"
    return None


pytestmark = pytest.mark.skipif(why_not() is not None, reason=str(why_not()))


class SuexecApache(HostedApache):
    """The hosting company's Apache. The customer's home is outside of its
    folder."""

    def __init__(self, paths, host):
        self.host = host
        super().__init__(paths, "htaccess", "")

    def user(self):
        return {}

    def modules(self):
        return ["suexec", "cgid"]

    def adapted(self):
        return (f"User {WEB}\nGroup {WEB}\nSuexecUserGroup account account\n"
                f'DocumentRoot "{self.host.home}/public_html"\n'
                f'<Directory "{self.host.home}/public_html">\n'
                "\tOptions Indexes SymLinksIfOwnerMatch\n"
                f"\tAllowOverride {self.override}\n\tRequire all granted\n</Directory>\n"
                # the company's own setting; the receiver would fail if it
                # arrived
                'SetEnv HUMCLI_WEBHOOK_CONFIG "/nowhere"\n')

    def command(self, configuration, check=None):
        return self.host.inside(*super().command(configuration, check))


class Host:
    """An account, and the files by which suexec knows it."""

    def __init__(self, folder, database):
        self.folder, self.database, self.site = folder, database, None
        self.home = os.path.join(folder, "account")
        os.chmod(folder, 0o755)
        os.makedirs(self.path("log/apache2"))
        self.write("passwd", "/etc/passwd",
                   f"account:x:{ACCOUNT}:{ACCOUNT}::{self.home}:/usr/sbin/nologin\n")
        self.write("group", "/etc/group", f"account:x:{ACCOUNT}:\n")
        self.write("suexec", None, f"{folder}\npublic_html\n")
        # As hosts do it: the web server may enter, other accounts may not.
        for path in (self.home, os.path.join(self.home, "public_html")):
            os.mkdir(path)
            os.chown(path, ACCOUNT, grp.getgrnam(WEB).gr_gid)
            os.chmod(path, 0o750)

    def path(self, name):
        return os.path.join(self.folder, name)

    def write(self, name, base, text):
        if base:
            shutil.copy(base, self.path(name))
        with open(self.path(name), "a", encoding="utf-8") as file:
            file.write(text)

    def inside(self, *command):
        mounts = {"passwd": "/etc/passwd", "group": "/etc/group",
                  "suexec": "/etc/apache2/suexec/www-data", "log": "/var/log"}
        script = "".join(f"mount --bind {self.path(name)} {place} && "
                         for name, place in mounts.items())
        return ["unshare", "--mount", "sh", "-c", script + 'exec "$@"', "sh", *command]

    def run(self, *command, **others):
        """Runs a command as the account."""
        become = ["setpriv", f"--reuid={ACCOUNT}", f"--regid={ACCOUNT}", "--clear-groups"]
        done = subprocess.run(self.inside(*become, *command), capture_output=True, timeout=60,
                              check=False, cwd=self.home, env={"HOME": self.home, **CRON}, **others)
        print(done.stdout, done.stderr)
        return done

    def cron(self, line):
        return self.run("/bin/sh", "-c", line, text=True)

    def log(self):
        """Returns the logs of suexec and of the web server."""
        with open(self.path("log/apache2/suexec.log"), encoding="utf-8") as file:
            return file.read() + self.site.log()

    def close(self):
        if self.site:
            self.site.close()
        shutil.rmtree(self.folder)


@pytest.fixture
def host(paths, database, archive):
    it = Host(tempfile.mkdtemp(prefix="humcli-suexec-", dir=on_disk()), database)
    try:
        with open(archive, "rb") as file:
            assert it.run("tar", "-xzf", "-", stdin=file).returncode == 0
        # the document root of a usual site
        assert it.run("tee", "public_html/.htaccess", input=FRONT.encode()).returncode == 0
        os.chown(edit_settings(it.home, database), ACCOUNT, ACCOUNT)
        assert it.cron(cron_line(paths, "init")).returncode == 0
        it.site = SuexecApache(paths, it)
        yield it
    finally:
        it.close()


def test_an_event(host):
    web = host.site
    with open(os.path.join(host.home, ".humcli-webhook/secrets/main"), encoding="ascii") as file:
        secret = file.read()
    body = event()
    answer = web.https.post(body, [sign(body, secret)])
    assert (answer.status, answer.body) == (200, b'{"received":true}'), (answer, host.log())
    assert f"uid: ({ACCOUNT}/account) gid: ({ACCOUNT}/account) cmd: webhook.cgi" in host.log()
    assert web.https.get("/health").body == b'{"status":"ok"}'
    assert web.https.post(body, [sign(body)]).status == 401
    assert web.http.post(body, [sign(body, secret)]).status == 403
    assert host.database.execute("SELECT payload::text FROM humcli.events") == [(body.decode(),)]
    # only the account can read the files that it made
    for name in ("log", "spool"):
        made = os.stat(os.path.join(host.home, ".humcli-webhook", name))
        assert (made.st_uid, made.st_mode & 0o077) == (ACCOUNT, 0)


@pytest.mark.parametrize("path, mode, reason", [
    ("webhook.cgi", 0o775, "file is writable by others"),
    ("", 0o775, "directory is writable by others"),
    ("webhook.cgi", 0o644, "file has no execute permission")])
def test_a_mode_that_it_refuses(host, path, mode, reason):
    """With a wrong mode suexec answers 500, as INSTALL.txt and doc/trouble.md say. With
    0755 it works again."""
    place = os.path.join(host.home, "public_html/humcli", path)
    os.chmod(place, mode)
    assert host.site.https.get("/health").status == 500
    assert re.search(reason, host.log())
    os.chmod(place, 0o755)
    assert host.site.https.get("/health").status == 200
