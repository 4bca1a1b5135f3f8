"""Runs Caddy without the distribution's configuration."""

from harness.webserver import WebServer, substitute

BASE = """\
{{
	admin off
	auto_https disable_redirects
	storage file_system {folder}/run
	https_port {tls}
	http_port {plain}
	default_bind 127.0.0.1
}}
"""


class Caddy(WebServer):
    samples = "caddy"

    def configure(self):
        snippet = self.write("humcli-webhook.conf", substitute(
            self.sample, {"/run/humcli-webhook/sock": self.values["socket"]}))
        tls = substitute(self.samples_folder / "tls.conf", {
            "\nimport /etc/caddy/humcli-webhook.conf": f"\nimport {snippet}",
            "https://hooks.example.org {": f"https://localhost:{self.tls_port} {{\n"
                                           f"\ttls {self.certificate} {self.key}",
            "http://hooks.example.org {": f"http://localhost:{self.plain_port} {{"})
        return self.write("Caddyfile", BASE.format(
            folder=self.folder, tls=self.tls_port, plain=self.plain_port) + tls)

    def command(self, configuration, check=None):
        return ["/usr/bin/caddy", "validate" if check else "run",
                "--adapter", "caddyfile", "--config", configuration]
