"""Runs lighttpd without the distribution's configuration."""

from harness.webserver import WebServer, adapt

BASE = """\
server.document-root = "{folder}/www"
server.errorlog = "{folder}/error.log"
server.pid-file = "{folder}/run/pid"
server.upload-dirs = ( "{folder}/run" )
server.bind = "127.0.0.1"
server.port = {plain}
index-file.names = ( "index.html" )
"""


class Lighttpd(WebServer):
    samples = "lighttpd"

    def configure(self):
        tls = adapt(self.samples_folder / "tls.conf", {
            "humcli_listen": f"127.0.0.1:{self.tls_port}",
            "humcli_certificate": self.certificate, "humcli_key": self.key})
        return self.write("lighttpd.conf", "\n".join([
            BASE.format(folder=self.folder, plain=self.plain_port),
            tls, adapt(self.sample, self.values)]))

    def command(self, configuration, check=None):
        return ["/usr/sbin/lighttpd", "-f", configuration, "-tt" if check else "-D"]
