"""
The archive for hosts without a shell under Apache's real suexec: started by
root, running as www-data, it becomes the account for its CGI programs. The
account, suexec's settings and its log are in a mount namespace of the test's.
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
ACCOUNT = 61235     # suexec takes none below 100
CRON = {"SHELL": "/bin/sh", "LOGNAME": "account", "PATH": "/usr/bin:/bin"}


def why_not():
    """What keeps this test from running; None: nothing."""
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
    """The host's server; its customer's home is not below its own folders."""

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
                # the host's own; what it sets would be an error if it arrived
                'SetEnv HUMCLI_WEBHOOK_CONFIG "/nowhere"\n')

    def command(self, configuration, check=None):
        return self.host.inside(*super().command(configuration, check))


class Host:
    """An account, and what tells suexec of it."""

    def __init__(self, folder, database):
        self.folder, self.database, self.site = folder, database, None
        self.home = os.path.join(folder, "account")
        os.chmod(folder, 0o755)
        os.makedirs(self.path("log/apache2"))
        self.write("passwd", "/etc/passwd",
                   f"account:x:{ACCOUNT}:{ACCOUNT}::{self.home}:/usr/sbin/nologin\n")
        self.write("group", "/etc/group", f"account:x:{ACCOUNT}:\n")
        self.write("suexec", None, f"{folder}\npublic_html\n")
        # As hosts have it: the web server comes in, other accounts don't.
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
        """As the account."""
        become = ["setpriv", f"--reuid={ACCOUNT}", f"--regid={ACCOUNT}", "--clear-groups"]
        done = subprocess.run(self.inside(*become, *command), capture_output=True, timeout=60,
                              check=False, cwd=self.home, env={"HOME": self.home, **CRON}, **others)
        print(done.stdout, done.stderr)
        return done

    def cron(self, line):
        return self.run("/bin/sh", "-c", line, text=True)

    def log(self):
        """suexec's own, and the web server's."""
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
        # a document root as it is found in the field
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
    # what it made is the account's alone
    for name in ("log", "spool"):
        made = os.stat(os.path.join(host.home, ".humcli-webhook", name))
        assert (made.st_uid, made.st_mode & 0o077) == (ACCOUNT, 0)


@pytest.mark.parametrize("path, mode, reason", [
    ("webhook.cgi", 0o775, "file is writable by others"),
    ("", 0o775, "directory is writable by others"),
    ("webhook.cgi", 0o644, "file has no execute permission")])
def test_a_mode_that_it_refuses(host, path, mode, reason):
    """500, as INSTALL.txt and README say; and right again with 0755."""
    place = os.path.join(host.home, "public_html/humcli", path)
    os.chmod(place, mode)
    assert host.site.https.get("/health").status == 500
    assert re.search(reason, host.log())
    os.chmod(place, 0o755)
    assert host.site.https.get("/health").status == 200
