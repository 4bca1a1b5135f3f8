"""The ways to run the responder behind a web server. Each uses the samples as
they are shipped."""

import glob
import os
import pwd
import shutil

from harness.apache import Apache
from harness.caddy import Caddy
from harness.lighttpd import Lighttpd
from harness.nginx import Nginx
from harness.responder import Responder, chown_to_test_user
from harness.systemd import Service
from harness.webserver import URL


class WebServerSetup:
    """
    A web server, and the parts that the sample leaves to the user: settings, a
    secret and, for a sample with a socket, the service behind the socket.
    """

    def __init__(self, paths, conninfo, kind, sample, **settings):
        self.service = None
        self.server = None
        # This makes only a folder, settings and a secret. The web server
        # starts the program.
        self.responder = Responder(paths.responder, conninfo, **settings)
        try:
            self.config = self.responder.write(
                "humcli-webhook.conf",
                self.lines(*{"DATABASE", "SECRET_DIR", "SPOOL", "LOG", *settings}))
            self.start(paths, kind, sample)
        except BaseException:
            self.close()
            raise

    def lines(self, *names):
        """Returns the lines of a settings file for these settings."""
        return "".join(f"HUMCLI_WEBHOOK_{name} = {self.responder.settings[name]}\n"
                       for name in names)

    def start(self, paths, kind, sample):
        raise NotImplementedError

    def socket_path(self):
        return os.path.join(self.responder.folder, "sock")

    def logs(self):
        """Returns the logs of the web server and of the responder."""
        server = self.server.log() if self.server else ""
        return (f"-- web server\n{server}\n-- standard error\n"
                f"{self.responder.read(self.responder.stderr_file)}\n"
                f"-- responder\n{self.responder_log()}\n")

    def responder_log(self):
        return self.responder.log()

    def close(self):
        try:
            if self.server is not None:
                self.server.close()
            if self.service is not None:
                self.service.close()
        finally:
            self.responder.close()


class Socket(WebServerSetup):
    """systemd listens on the socket, and the service accepts from it."""

    def run_service(self, *arguments):
        return Service(*arguments)

    def start(self, paths, kind, sample):
        self.service = self.run_service(paths, self.socket_path(), self.responder.stderr_file,
                                        {"HUMCLI_WEBHOOK_CONFIG": self.config})
        name = {Apache: "HUMCLI_SOCKET", Lighttpd: "humcli_socket"}.get(kind, "socket")
        self.server = kind(paths, sample, {name: self.socket_path()})


class Started(WebServerSetup):
    """The web server starts the program, by FastCGI or by CGI."""

    def start(self, paths, kind, sample):
        values = {"program": paths.responder, "config": self.config}
        if sample == "spawn.conf":
            values["socket"] = self.socket_path()
        case = str.upper if issubclass(kind, Apache) else str.lower
        self.server = kind(paths, sample,
                           {case(f"humcli_{name}"): value for name, value in values.items()})


# A stand-in for suexec. It keeps the variables of the real one (safe_env_lst
# in support/suexec.c) and starts the program. nss_wrapper gives getpwuid() the
# account's home.
SUEXEC = """\
#!/bin/sh
set --
for name in $(env | sed -n 's/^\\(HTTP_[A-Z0-9_]*\\|SSL_[A-Z0-9_]*\\)=.*/\\1/p') \\
	AUTH_TYPE CONTENT_LENGTH CONTENT_TYPE CONTEXT_DOCUMENT_ROOT CONTEXT_PREFIX \\
	DATE_GMT DATE_LOCAL DOCUMENT_NAME DOCUMENT_PATH_INFO DOCUMENT_ROOT \\
	DOCUMENT_URI GATEWAY_INTERFACE HTTPS LAST_MODIFIED PATH_INFO \\
	PATH_TRANSLATED QUERY_STRING QUERY_STRING_UNESCAPED REMOTE_ADDR \\
	REMOTE_HOST REMOTE_IDENT REMOTE_PORT REMOTE_USER REDIRECT_ERROR_NOTES \\
	REDIRECT_HANDLER REDIRECT_QUERY_STRING REDIRECT_REMOTE_USER \\
	REDIRECT_SCRIPT_FILENAME REDIRECT_STATUS REDIRECT_URL REQUEST_METHOD \\
	REQUEST_SCHEME REQUEST_URI SCRIPT_FILENAME SCRIPT_NAME SCRIPT_URI \\
	SCRIPT_URL SERVER_ADMIN SERVER_NAME SERVER_ADDR SERVER_PORT \\
	SERVER_PROTOCOL SERVER_SIGNATURE SERVER_SOFTWARE UNIQUE_ID USER_NAME TZ
do
	eval "[ -z \\"\\${{$name+x}}\\" ] || set -- \\"\\$@\\" \\"$name=\\$$name\\""
done
exec env -i PATH=/usr/local/bin:/usr/bin:/bin "$@" LD_PRELOAD={preload} \\
	NSS_WRAPPER_PASSWD={passwd} NSS_WRAPPER_GROUP=/etc/group {program}
"""


class HostedApache(Apache):
    """An Apache that is configured by a hosting company. The customer has a
    folder below the document root with a .htaccess and the program in it."""

    override = "Options FileInfo AuthConfig Limit"
    module = "cgid"
    script = "webhook.cgi"

    def __init__(self, paths, sample, program):
        """program: the text of the script."""
        self.program = program
        super().__init__(paths, sample, {}, url=f"{URL}/{self.script}")

    def modules(self):
        return [self.module]

    def htaccess(self):
        with open(self.sample, encoding="ascii") as file:
            return file.read()

    def adapted(self):
        folder = self.path("www", URL.strip("/"))
        os.makedirs(folder, exist_ok=True)
        self.write(os.path.join(folder, ".htaccess"), self.htaccess())
        os.chmod(self.write(os.path.join(folder, self.script), self.program), 0o755)
        # The company's own setting. The receiver would fail if suexec passed
        # it.
        return 'SetEnv HUMCLI_WEBHOOK_CONFIG "/nowhere"\n'


class HostedFastCGI(HostedApache):
    """A HostedApache with the FastCGI lines of the .htaccess, which are
    comments in the sample."""

    module = "fcgid"
    script = "webhook.fcgi"

    def htaccess(self):
        text = super().htaccess()
        for old, new in (("AddHandler cgi-script .cgi\n", ""),
                                ("# AddHandler fcgid", "AddHandler fcgid"),
                                (r"webhook\.cgi$", r"webhook\.fcgi$")):
            assert text.count(old) == 1, old
            text = text.replace(old, new)
        return text


class Hosted(WebServerSetup):
    """Settings and secret are in ~/.humcli-webhook, found by the account's home
    alone."""

    def start(self, paths, kind, sample):
        responder = self.responder
        home = os.path.join(responder.folder, "home")
        self.hidden = os.path.join(home, ".humcli-webhook")
        os.mkdir(home)
        os.mkdir(self.hidden)
        shutil.move(responder.secret_dir, self.hidden)
        with open(os.path.join(self.hidden, "humcli-webhook.conf"), "w",
                  encoding="utf-8") as file:
            file.write(self.lines("DATABASE", "SPOOL"))
        for path in (home, self.hidden, file.name):
            os.chmod(path, 0o600 if path == file.name else 0o700)
            chown_to_test_user(path)
        user = pwd.getpwuid(os.stat(home).st_uid)
        passwd = responder.write("passwd", f"{user.pw_name}:x:{user.pw_uid}:{user.pw_gid}:"
                                           f"account:{home}:/bin/sh\n")
        preload, = glob.glob("/usr/lib/*/libnss_wrapper.so")
        self.server = kind(paths, sample, SUEXEC.format(
            preload=preload, passwd=passwd, program=paths.responder))

    def responder_log(self):
        return self.responder.read(os.path.join(self.hidden, "log"))


SETUPS = {
    "apache-proxy_fcgi": (Socket, Apache, "proxy_fcgi.conf"),
    "apache-fcgid": (Started, Apache, "fcgid.conf"),
    "apache-cgi": (Started, Apache, "cgi.conf"),
    "apache-htaccess": (Hosted, HostedApache, "htaccess"),
    "lighttpd-socket": (Socket, Lighttpd, "socket.conf"),
    "lighttpd-spawn": (Started, Lighttpd, "spawn.conf"),
    "lighttpd-cgi": (Started, Lighttpd, "cgi.conf"),
    "nginx": (Socket, Nginx, "socket.conf"),
    "caddy": (Socket, Caddy, "socket.conf"),
}


def make(name, paths, conninfo, **settings):
    setup, kind, sample = SETUPS[name]
    it = setup(paths, conninfo, kind, sample, **settings)
    it.name = name
    return it
