"""Runs Apache with its own ServerRoot. Of the distribution it uses only the
modules, none of the configuration."""

import re

from harness.webserver import WebServer, adapt

MODULES = "/usr/lib/apache2/modules"
# The modules that Debian enables by default. The samples name the others.
COMMON = ("mpm_event authz_core authz_host alias autoindex deflate dir env filter"
          " mime negotiation reqtimeout setenvif socache_shmcb").split()

BASE = """\
ServerRoot "{folder}"
DefaultRuntimeDir "{folder}/run"
PidFile "{folder}/run/pid"
ErrorLog "{folder}/error.log"
ServerName localhost
{protocols}
TypesConfig /dev/null
Listen 127.0.0.1:{plain}
Listen 127.0.0.1:{tls}
{modules}
<IfModule cgid_module>
	ScriptSock "{folder}/run/cgisock"
</IfModule>
<IfModule fcgid_module>
	FcgidIPCDir "{folder}/run"
	FcgidProcessTableFile "{folder}/run/fcgid_shm"
</IfModule>
# Debian's apache2.conf
<Directory />
	Options FollowSymLinks
	AllowOverride None
	Require all denied
</Directory>
AccessFileName .htaccess
DocumentRoot "{folder}/www"
<Directory "{folder}/www">
	Options Indexes FollowSymLinks
	AllowOverride {override}
	Require all granted
</Directory>
Include sample.conf
Include tls.conf
"""

# The .htaccess of a usual site: a redirect to https, and a front controller for
# all paths.
FRONT = """\
RewriteEngine On
RewriteCond %{HTTPS} off
RewriteRule ^ https://%{HTTP_HOST}%{REQUEST_URI} [R=301,L]
RewriteCond %{REQUEST_FILENAME} !-f
RewriteRule . /index.html [L]
"""


def modules_of(sample):
    """Returns the modules that the sample's comment enables: `a2enmod ...`."""
    with open(sample, encoding="ascii") as file:
        found = re.findall(r"^#\s+a2enmod ([a-z_ ]+)$", file.read(), re.MULTILINE)
    return [name for line in found for name in line.split()]


class Apache(WebServer):
    samples = "apache"
    override = "All"
    # With mod_http2 a graceful restart breaks connections, HTTP/1.1 ones too.
    http2 = False

    def configure(self):
        self.write("www/.htaccess", FRONT)
        self.write("www/index.html", "the front controller\n")
        tls = self.samples_folder / "tls.conf"
        modules = list(dict.fromkeys(
            [*COMMON, "rewrite", *modules_of(self.sample), *modules_of(tls), *self.modules(),
             *(["http2"] if self.http2 else [])]))
        self.write("sample.conf", self.adapted())
        self.write("tls.conf", adapt(tls, {
            "HUMCLI_HOST": "localhost", "HUMCLI_PORT": self.tls_port,
            "HUMCLI_CERTIFICATE": self.certificate, "HUMCLI_KEY": self.key}))
        return self.write("apache2.conf", BASE.format(
            folder=self.folder, plain=self.plain_port, tls=self.tls_port,
            override=self.override,
            protocols="Protocols h2 http/1.1" if self.http2 else "",
            modules="\n".join(f"LoadModule {name}_module {MODULES}/mod_{name}.so"
                              for name in self.modules_loaded(modules))))

    def modules_loaded(self, modules):
        return modules

    def modules(self):
        return []

    def adapted(self):
        return adapt(self.sample, self.values)

    def command(self, configuration, check=None):
        return ["/usr/sbin/apache2", "-d", self.folder, "-f", configuration,
                *([check] if check else ["-DFOREGROUND"])]
