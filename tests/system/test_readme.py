"""
Runs the command blocks of README.md and of the pages behind it in their order,
as a reader would. A block that a page before has is not run again.

A comment before each block says how it is run here:

    ci: run         by sh -e
    ci: init        by sh -e, by the reader who installs with init (root only)
    ci: by hand     by sh -e, by the reader who follows "The same by hand"
    ci: listen      in the background, while events are sent
    ci: psql        typed into psql, while events are sent
    ci: hosting     by sh -e, as the account of a shared host
    ci: not run: <why>

The comment can also name the output: "; prints <text>", several times if needed.
TASK is the task of an event that is sent in the meantime.

The reader's own values come from the environment, as the pages say: HUMCLI_URL,
HUMCLI_API, HUMCLI_API_KEY, DATABASE, USER and HOME. There are none of libpq's
variables, since no reader has them: the test's cluster has Debian's socket, in
a mount namespace. (Only where the tests do not run as root, PGHOST and PGPORT
lead to it.) /usr/local/ is the stage here, /etc/ a temporary folder, and
hooks.example.org this machine. STAND_INS replace sudo and the system's tools.
"""

import http.server
import json
import os
import pwd
import re
import shutil
import signal
import subprocess
import tempfile
import threading
import time
import warnings
from datetime import datetime, timezone

import pytest

from harness.lighttpd import Lighttpd
from harness.postgres import Cluster, wait_until
from harness.responder import chown_to_test_user, event, new_task, sign
from harness.systemd import Service
from harness.web_server_setups import SUEXEC, HostedApache

# in the order of a reader who reads everything; most blocks of README.md are also
# on a page
PAGES = ("doc/install.md", "doc/shared-hosting.md", "doc/consumers.md", "doc/humcli.md",
         "doc/operations.md", "doc/trouble.md", "README.md")
README_WORDS = 900
KINDS = ("run", "init", "by hand", "listen", "psql", "hosting", "not run")
URL = "https://localhost/humcli"
FENCE = re.compile(r"^( *)```(\w+)\n(.*?)^ *```$", re.MULTILINE | re.DOTALL)
MARK = re.compile(r"<!-- ci: (.*?) -->\n *$")
API_KEY = "ho_live_readme"
AGENT = pwd.getpwuid(os.geteuid()).pw_name
HOST_OWNER = "readme_host"

STAND_INS = {
    # root or a user of the database: here all of them are one user
    "sudo": """\
case $1 in -iu) shift 2; export PGUSER=postgres; cd / ;; esac
export PATH="$PATH:/usr/sbin:/sbin"
exec "$@"
""",
    "systemctl": "", "systemd-sysusers": "", "a2enmod": "", "a2enconf": "",
    "lighty-enable-mod": "", "usermod": "",
    # Debian's Python, which has the packages that the pages name
    "python3": 'exec /usr/bin/python3 "$@"\n',
    # the group of the responder in this test
    "chgrp": 'shift; exec /usr/bin/chgrp {group} "$@"\n',
    # The command line with the test's settings, and with the port of a server
    # that has no public name. Files that init makes get into the temporary
    # folder. init sees Debian's users; the database's users come by sudo's
    # environment.
    "humcli-webhook": """\
if [ "$1" = init ]; then
	LD_PRELOAD=$(echo /usr/lib/*/libnss_wrapper.so) NSS_WRAPPER_PASSWD={folder}/system-users \
		NSS_WRAPPER_GROUP={folder}/system-groups \
		unshare --mount sh -ec 'mount -t tmpfs none /usr/local && mkdir /usr/local/etc &&
			mount --bind {folder}/etc /usr/local/etc && mkdir -p /run/systemd/system && exec "$@"' \
		sh {stage}/bin/humcli-webhook "$@"
	exec sed -i 's:=/usr/local/etc/:={folder}/etc/:' {folder}/etc/humcli-webhook.conf
fi
export HUMCLI_WEBHOOK_CONFIG={folder}/etc/humcli-webhook.conf
# the folder that init or the unit creates
export HUMCLI_WEBHOOK_SPOOL={folder}/spool
# doctor becomes this user
[ "$1" != doctor ] || export PGUSER=humcli-webhook
if [ "$1" = send ] || [ "$1" = doctor ]; then
	set -- "$@" --cacert {folder}/certificate.pem
	for word do
		shift
		case $word in https://localhost/*)
			word=https://localhost:$(cat {folder}/tls_port)/${{word#https://localhost/}} ;;
		esac
		set -- "$@" "$word"
	done
fi
# a certificate that ends within a day is a warning
[ "$1" != doctor ] || {stage}/bin/humcli-webhook "$@" || exit 0
exec {stage}/bin/humcli-webhook "$@"
""",
}


class Block:
    def __init__(self, page, text, match):
        self.page = page
        indent, self.language, code = match.groups()
        self.line = text.count("\n", 0, match.start()) + 1
        self.code = re.sub(f"^{indent}", "", code, flags=re.MULTILINE)
        mark = MARK.search(text, 0, match.start())
        assert mark, f"{page}:{self.line}: a block without a mark"
        self.kind, *self.prints = re.split(r"; prints ", mark[1])
        self.kind, _, self.reason = self.kind.partition(": ")
        assert self.kind in KINDS, f"{page}:{self.line}: {mark[1]}"

    def __str__(self):
        return f"{self.page}:{self.line} ({self.language}):\n{self.code}"


def blocks(paths):
    """Returns the blocks of all pages, each once."""
    found = []
    for page in PAGES:
        text = (paths.source / page).read_text(encoding="utf-8")
        before = {block.code for block in found}
        here = [Block(page, text, match) for match in FENCE.finditer(text)]
        assert text.count("```") == 2 * len(here), page
        found += [block for block in here if block.code not in before]
    return found


def followed(paths, way):
    """Returns the blocks that the reader of one way follows, in order. Blocks
    by hand replace those of init."""
    all_of_them = [block for block in blocks(paths) if block.kind != "not run"]
    for block in all_of_them:
        if block.kind == "init":
            yield from (each for each in all_of_them if each.kind == way)
        elif block.kind != "by hand":
            yield block


class HumCLI(http.server.BaseHTTPRequestHandler):
    """A server for POST /api/v1/tasks, as HumCLI documents it."""

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.tasks.append((self.path, self.headers["X-API-Key"], body))
        answer = b'{"task_id":"task_readme_created","status":"PENDING"}'
        self.send_response(201)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *_):
        pass


class Reader:
    """A reader of the pages and the reader's machine."""

    def __init__(self, paths, way):
        self.paths, self.way = paths, way
        self.service = self.site = self.hosting = None
        self.api = None
        self.folder = tempfile.mkdtemp(prefix="humcli-readme-", dir="/tmp")
        try:
            self.cluster = Cluster()
        except BaseException:
            shutil.rmtree(self.folder)
            raise
        try:
            self.prepare()
        except BaseException:
            self.close()
            raise

    def path(self, *names):
        return os.path.join(self.folder, *names)

    def prepare(self):
        os.chmod(self.folder, 0o755)
        for name in ("bin", "home", "sockets", "etc/apache2/conf-available", "etc/lighttpd/conf-available",
                     "etc/nginx/snippets", "etc/caddy"):
            os.makedirs(self.path(name))
        chown_to_test_user(self.path("etc"))
        os.symlink(os.path.join(self.cluster.folder, f".s.PGSQL.{self.cluster.port}"),
                   self.path("sockets/.s.PGSQL.5432"))
        values = {"folder": self.folder, "stage": self.paths.stage,
                  "group": os.stat(self.path("etc")).st_gid}
        user = pwd.getpwuid(os.stat(self.path("etc")).st_uid)
        self.write("system-users", "root:x:0:0::/root:/bin/sh\n" + "".join(
            f"{name}:x:{user.pw_uid}:{user.pw_gid}::/nonexistent:/bin/sh\n"
            for name in ("postgres", "humcli-webhook")))
        self.write("system-groups", f"root:x:0:\nhumcli-webhook:x:{user.pw_gid}:\n")
        for name, text in STAND_INS.items():
            self.write(f"bin/{name}", "#!/bin/sh\n" + text.format(**values)
                       if "{" in text else "#!/bin/sh\n" + text)
            os.chmod(self.path("bin", name), 0o755)
        os.symlink(self.paths.stage, self.path("home/.local"))
        self.cluster.execute(f"CREATE ROLE {HOST_OWNER} LOGIN")
        self.cluster.execute(f"CREATE DATABASE {HOST_OWNER} OWNER {HOST_OWNER} "
                             "TEMPLATE template0 ENCODING 'UTF8'")
        self.api = http.server.ThreadingHTTPServer(("127.0.0.1", 0), HumCLI)
        self.api.tasks = []
        threading.Thread(target=self.api.serve_forever, kwargs={"poll_interval": 0.05}).start()

    def write(self, name, text):
        with open(self.path(name), "w", encoding="utf-8") as file:
            file.write(text)

    @property
    def environment(self):
        kept = {k: v for k, v in os.environ.items() if k.endswith("SAN_OPTIONS")}
        if os.geteuid() != 0:
            kept.update(PGHOST=self.cluster.folder, PGPORT=str(self.cluster.port))
        return {**kept, "PATH": self.path("bin") + ":/usr/local/bin:/usr/bin:/bin",
                "LC_ALL": "C.UTF-8", "HOME": self.path("home"), "USER": AGENT,
                "HUMCLI_URL": URL, "HUMCLI_API_KEY": API_KEY,
                "HUMCLI_API": f"http://127.0.0.1:{self.api.server_address[1]}/api/v1",
                "DATABASE": self.cluster.dsn(HOST_OWNER, HOST_OWNER)}

    @property
    def account(self):
        """The environment in which getpwuid() returns the reader's home."""
        user = pwd.getpwuid(os.stat(self.path("etc")).st_uid)
        entries = {os.geteuid(): "me", user.pw_uid: "host"}
        self.write("passwd", "".join(
            f"{name}:x:{uid}:{user.pw_gid}::{self.path('home')}:/bin/sh\n"
            for uid, name in entries.items()))
        preload = subprocess.run(["sh", "-c", "echo /usr/lib/*/libnss_wrapper.so"], check=True,
                                 capture_output=True, text=True).stdout.strip()
        return {"LD_PRELOAD": preload, "NSS_WRAPPER_PASSWD": self.path("passwd"),
                "NSS_WRAPPER_GROUP": "/etc/group"}

    def adapted(self, code):
        return (code.replace("/usr/local/", f"{self.paths.stage}/")
                .replace("/etc/", self.path("etc") + "/")
                .replace("https://hooks.example.org/humcli", URL))

    def with_socket(self, command):
        """Returns the command that runs where the cluster has Debian's socket."""
        if os.geteuid() != 0:
            return command
        return ["unshare", "--mount", "sh", "-ec",
                "mount -t tmpfs none /run && mkdir /run/postgresql && "
                'mount --bind "$1" /run/postgresql && shift && exec "$@"',
                "sh", self.path("sockets"), *command]

    def own(self, folder):
        """Gives a folder that root made, and its files, to the reader."""
        for name, _, files in os.walk(folder, followlinks=False):
            for each in (name, *(os.path.join(name, file) for file in files)):
                chown_to_test_user(each)

    def run(self, block):
        more = self.account if block.kind == "hosting" else {}
        done = subprocess.run(self.with_socket(["sh", "-e", "-c", self.adapted(block.code)]),
                              cwd=self.path("home"), env={**self.environment, **more},
                              stdin=subprocess.DEVNULL, text=True,
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                              timeout=60, check=False)
        assert done.returncode == 0, f"{block}\n{done.stdout}\n{self.logs()}"
        if block.kind == "init" or re.search(r"humcli-webhook(.secrets| secret add)", block.code):
            # keeps the group, which setgid set
            self.own(self.path("etc"))
        return done.stdout

    def start_site(self):
        """Starts the socket and the web server after they are set up."""
        self.service = Service(self.paths, self.path("sock"), self.path("journal"), {
            "HUMCLI_WEBHOOK_CONFIG": self.path("etc/humcli-webhook.conf"),
            "HUMCLI_WEBHOOK_SPOOL": "", "PGHOST": self.cluster.folder,
            "PGPORT": str(self.cluster.port), "PGUSER": "humcli-webhook",
            **{k: v for k, v in os.environ.items() if k.endswith("SAN_OPTIONS")}})
        self.site = Lighttpd(self.paths,
                             self.path("etc/lighttpd/conf-available/60-humcli-webhook.conf"),
                             {"humcli_socket": self.path("sock")})
        shutil.copy(self.site.certificate, self.path("certificate.pem"))
        self.write("tls_port", str(self.site.tls_port))
        self.write("home/.curlrc", f"""\
cacert = "{self.path('certificate.pem')}"
connect-to = "localhost:443:127.0.0.1:{self.site.tls_port}"
connect-to = "localhost:80:127.0.0.1:{self.site.plain_port}"
""")

    def secret(self):
        folder = self.path("etc/humcli-webhook.secrets")
        name, = os.listdir(folder)
        with open(os.path.join(folder, name), encoding="ascii") as file:
            return file.read()

    def deliver(self, task, secret=None):
        body = event(task_id=task)
        signature = sign(body, secret or self.secret())
        answer = self.site.https.request(
            "POST", "", [("Content-Type", "application/json"), ("X-Signature", signature)],
            [body], len(body))
        assert answer.body == b'{"received":true}', f"{answer}\n{self.logs()}"

    def listen(self, block):
        """Runs a program that keeps running, until it has printed the text."""
        command = {"sh": ["sh", "-e"], "python": ["python3", "-"],
                   "sql": ["psql", "-X", "humcli"]}[block.language]
        if block.language == "sql":
            code = "\\set ON_ERROR_STOP on\n" + block.code
        else:
            code = self.adapted(block.code)
        self.write("program", code)
        with open(self.path("program"), encoding="utf-8") as stdin, \
                open(self.path("output"), "w", encoding="utf-8") as out:
            process = subprocess.Popen(
                self.with_socket(command), stdin=stdin, stdout=out, stderr=subprocess.STDOUT,
                cwd=self.path("home"), env=self.environment, start_new_session=True)
        sent = [time.monotonic()]
        tasks = []

        def printed():
            with open(self.path("output"), encoding="utf-8") as file:
                output = file.read()
            assert process.poll() is None, f"{block}\nended: {output}"
            # notifications before it listens are lost
            if time.monotonic() - sent[-1] > 0.3:
                sent.append(time.monotonic())
                tasks.append(new_task())
                self.deliver(tasks[-1])
            return any(all(text.replace("TASK", task) in output for text in block.prints)
                       for task in tasks)

        try:
            wait_until(printed, f"{block.prints} of {block}", limit=20)
        finally:
            os.killpg(process.pid, signal.SIGTERM)
            process.wait()

    def logs(self):
        out = [self.cluster.log[-3000:]]
        for name in ("journal", "output", "home/.humcli-webhook/log"):
            if os.path.exists(self.path(name)):
                with open(self.path(name), encoding="utf-8", errors="replace") as file:
                    out.append(f"-- {name}\n{file.read()[-3000:]}")
        return "\n".join(out)

    def host(self):
        """Starts an Apache of a hosting company that serves the account's
        folder."""
        home = self.path("home")
        for folder in ("public_html", ".humcli-webhook"):
            self.own(os.path.join(home, folder))
        folder = os.path.join(home, "public_html/humcli")
        for name, mode in {"public_html/humcli/.htaccess": 0o644,
                           "public_html/humcli/webhook.cgi": 0o755,
                           ".humcli-webhook/humcli-webhook.conf": 0o600,
                           ".humcli-webhook/secrets/main": 0o600}.items():
            assert os.stat(os.path.join(home, name)).st_mode & 0o777 == mode, name
        account = self.account
        self.hosting = HostedApache(
            self.paths, os.path.join(folder, ".htaccess"),
            SUEXEC.format(preload=account["LD_PRELOAD"], passwd=account["NSS_WRAPPER_PASSWD"],
                          program=os.path.join(folder, "webhook.cgi")))
        with open(os.path.join(home, ".humcli-webhook/secrets/main"), encoding="ascii") as file:
            secret = file.read()
        body = event(task_id="task_hosted")
        answer = self.hosting.https.post(body, [sign(body, secret)])
        assert answer.body == b'{"received":true}', \
            f"{answer}\n{self.hosting.log()}\n{self.logs()}"
        assert self.cluster.execute("SELECT task_id, secret_name FROM humcli.events",
                                    HOST_OWNER, HOST_OWNER) == [("task_hosted", "main")]

    def close(self):
        if self.api:
            self.api.shutdown()
            self.api.server_close()
        for each in (self.site, self.hosting, self.service):
            if each:
                each.close()
        self.cluster.remove()
        shutil.rmtree(self.folder)


@pytest.fixture(params=[
    pytest.param("init", marks=pytest.mark.skipif(
        os.geteuid() != 0, reason="init sets up the system as root only")),
    "by hand"])
def reader(paths, request):
    it = Reader(paths, request.param)
    yield it
    it.close()


def test_blocks_do_what_the_pages_say(reader, paths):
    for block in followed(paths, reader.way):
        if "php consumer.php" in block.code and not shutil.which("php"):
            warnings.warn("no php here: the PHP of doc/consumers.md was not run")
            continue
        if "HUMCLI_URL" in block.code and block.kind == "run" and not reader.site:
            reader.start_site()
        if block.kind in ("listen", "psql"):
            reader.listen(block)
            continue
        output = reader.run(block)
        if block.kind == "init":
            check_advice(paths, output)
        for text in block.prints:
            assert text in output, f"{block}\nprinted:\n{output}\nand not {text}\n{reader.logs()}"
        if "humcli-webhook doctor" in block.code:
            # a user who may read the events would have found no fault, either
            assert reader.cluster.execute("SELECT task_id FROM humcli.gaps", "humcli") == []
        if block.kind == "hosting":
            reader.host()
    check_task(reader)


def check_advice(paths, output):
    """Checks that install.md has the lines that init prints for each web server
    that is installed."""
    enable = "systemctl enable --now humcli-webhook.socket"
    advice = words("\n".join(re.findall("^    (.*)$", output, re.MULTILINE)))
    advised = [block for block in blocks(paths)
               if block.page == "doc/install.md" and enable in block.code
               and words(re.search("^systemctl.*(?=^END)", block.code, re.M | re.S)[0]
                         .replace("/usr/local/", f"{paths.stage}/")) in advice]
    assert len(advised) == output.count(enable) >= 2, output


def words(commands):
    return " ".join(commands.replace("\\\n", " ").split())


def check_task(reader):
    """Checks the create-task request, and that HumCLI could call back now."""
    (path, key, body), = reader.api.tasks
    task = json.loads(body)
    assert (path, key) == ("/api/v1/tasks", API_KEY)
    assert {"title", "description", "reward_usd", "deadline", "proof_requirements",
            "task_type"} <= set(task)
    deadline = datetime.fromisoformat(task["deadline"].replace("Z", "+00:00"))
    assert deadline > datetime.now(timezone.utc)
    assert task["callback_url"] == URL
    # made with the first secret, which humcli.md has removed since
    assert re.fullmatch(r"whsec_[0-9a-f]{64}", task["callback_secret"])
    assert task["callback_secret"] != reader.secret()
    reader.deliver("task_readme_end")


def test_what_is_not_run_says_why(paths):
    for block in blocks(paths):
        assert (block.kind == "not run") == bool(block.reason), block
        if block.language == "sh":
            subprocess.run(["sh", "-n"], input=block.code, text=True, check=True)


def test_the_packages_are_those_of_the_scripts(paths):
    text = (paths.source / "doc/install.md").read_text(encoding="utf-8")
    command = re.search(r"apt-get install (gcc(?:.*\\\n)*.*)\n", text)[1]
    scripts = (paths.source / "scripts/packages").read_text(encoding="utf-8")
    build = re.search(r'^BUILD="([^"]*)"', scripts, re.MULTILINE)[1]
    assert sorted(command.replace("\\", " ").split()) == sorted(build.split())


def test_installation_can_replace_the_prefix(paths):
    """make install writes its own prefix for /usr/local/ into the pages."""
    for page in PAGES:
        text = (paths.source / page).read_text(encoding="utf-8")
        assert not re.search("/usr/local(?!/)", text), page


def test_readme_is_short(paths):
    """It is a door. What takes more words is on a page."""
    text = (paths.source / "README.md").read_text(encoding="utf-8")
    words_of_readme = len(re.sub(r"<!--.*?-->", "", text).split())
    assert words_of_readme <= README_WORDS, f"README.md has {words_of_readme} words"


@pytest.mark.parametrize("question, row, place, text", [
    ("my answer is 401", "401", "doc/trouble.md", "The answer is 401"),
    ("how do I get every event in Python", "Python", "doc/consumers.md", "In Python"),
    ("my host has no shell", "without a shell", "doc/shared-hosting.md", "Without a shell"),
    ("PostgreSQL was down", "PostgreSQL was down", "doc/operations.md", "When PostgreSQL is or was down"),
    ("how do I upgrade", "upgrade", "doc/install.md", "Upgrade"),
    ("what does a visit mean", "visit", "doc/consumers.md#glossary", "| visit |")])
def test_readme_leads_to_the_page(paths, question, row, place, text):
    """The table of pages has the question's word in one row, and its page has
    the answer where a reader looks: a heading, or the first column of a table."""
    readme = (paths.source / "README.md").read_text(encoding="utf-8")
    table = readme[readme.index("## Pages"):readme.index("## Status")]
    line, = (line for line in table.splitlines() if row in line)
    assert f"({place})" in line, question
    page = (paths.source / place.split("#")[0]).read_text(encoding="utf-8")
    assert re.search(rf"^(#.*|\| ?(<a id=.*></a>)?){re.escape(text)}" if text[0] != "|"
                     else rf"^{re.escape(text)}", page, re.MULTILINE), question


def anchors(text):
    """Returns the anchors of a page: those of its headings, as GitHub makes
    them, and those that are written out."""
    found = set(re.findall(r'<a id="([^"]+)"', text))
    for heading in re.findall(r"^#+ (.*)$", FENCE.sub("", text), re.MULTILINE):
        anchor = re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-")
        assert anchor not in found, f"two of {anchor}"
        found.add(anchor)
    return found


def test_links_lead_somewhere(paths):
    for document in (*PAGES, "NEWS.md", "SECURITY.md", "CONTRIBUTING.md", "doc/design.md",
                     "doc/humcli-facts.md", "tests/bench/README.md", "tests/vectors/README.md"):
        path = paths.source / document
        text = path.read_text(encoding="utf-8")
        for target in re.findall(r"\]\(([^)]+)\)", FENCE.sub("", text)):
            if "://" in target:
                continue
            name, _, anchor = target.partition("#")
            other = path.parent / name if name else path
            assert other.exists(), f"{document}: {target}"
            if anchor:
                assert anchor in anchors(other.read_text(encoding="utf-8")), \
                    f"{document}: {target}"


def arguments(code, start):
    """Returns the arguments of a call in C, whose list begins at start."""
    found, depth = [""], 0
    for token in re.finditer(r'"(?:[^"\\]|\\.)*"|.', code[start:], re.DOTALL):
        text = token[0]
        if text in "([{":
            depth += 1
        elif text in ")]}":
            depth -= 1
        if depth < 0:
            break
        if text == "," and not depth:
            found.append("")
        else:
            found[-1] += text
    return found


def test_each_finding_of_doctor_is_explained(paths):
    """doctor prints the anchor of its topic in doc/trouble.md."""
    topics = set()
    for file in (*paths.source.glob("src/cli/doctor/*.c"), paths.source / "src/cli/verbs/doctor.c"):
        code = file.read_text(encoding="utf-8")
        for call in re.finditer(
                r"\b(report_finding|doctor_connect|doctor_error_lines|doctor_query_error)\(", code):
            place = 2 if call[1] == "report_finding" else 1
            topics |= set(re.findall(r'"([^"]+)"', arguments(code, call.end())[place]))
        for table in re.findall(r"struct query_check \w+\[\] = \{(.*?)\n\};", code, re.DOTALL):
            topics |= set(re.findall(r'^\t\{ "([^"]+)"', table, re.MULTILINE))
        topics |= set(re.findall(r'struct query_check \w+ = \{\s*"([^"]+)"', code))
    assert len(topics) > 25, topics
    page = (paths.source / "doc/trouble.md").read_text(encoding="utf-8")
    missing = {topic.replace(" ", "-") for topic in topics} - anchors(page)
    assert not missing
    explained = re.findall("^### (.*)$", page, re.MULTILINE)
    unused = set(explained) - topics
    assert not unused


def test_each_reason_of_a_401_is_explained(paths):
    page = (paths.source / "doc/trouble.md").read_text(encoding="utf-8")
    section = page[page.index("## The answer is 401"):page.index("## Answers of others")]
    code = (paths.source / "src/event/signature.c").read_text(encoding="utf-8")
    code = code[code.index("const char *signature_verdict_text("):]
    reasons = set(re.findall(r'return "([^"]+)";', re.sub(r'"\s*"', "", code[:code.index("\n}")])))
    assert set(re.findall(r"^\| `([^`=]+)` \|", section, re.MULTILINE)) == \
        reasons - {"signature matches", "too many secrets to try in time", "unknown"}


def test_the_manuals_as_html(paths, tmp_path):
    if not shutil.which("mandoc"):
        pytest.skip("there is no mandoc")
    subprocess.run([paths.source / "scripts/html", tmp_path], check=True)
    for manual in paths.source.glob("doc/*.[158]"):
        page = (tmp_path / f"{manual.name}.html").read_text(encoding="utf-8")
        assert "<script" not in page and len(page) > manual.stat().st_size
        assert re.findall('<link rel="stylesheet" href="(.*?)"', page) == ["manual.css"]
        for target in re.findall('href="([^"]+)"', page):
            if target.startswith("#"):
                assert f'id="{target[1:]}"' in page, f"{manual.name}: {target}"
            elif "://" not in target:
                assert (tmp_path / target).exists(), f"{manual.name}: {target}"
            else:
                assert "humcli" not in target, f"{manual.name}: {target}"


def test_design_has_the_sections_that_the_code_names(paths):
    text = (paths.source / "doc/design.md").read_text(encoding="utf-8")
    headings = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    named = []
    for file in paths.source.glob("src/**/*.[ch]"):
        # a comment may break the line at any place
        flat = re.sub(r"\s*\n\s*\*?\s*", " ", file.read_text(encoding="utf-8"))
        named += re.findall(r'doc/design\.md, "([^"]+)"', flat)
    assert named
    assert not set(named) - set(headings)
