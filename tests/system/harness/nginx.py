"""Runs nginx without the distribution's configuration, except fastcgi_params."""

import os
import shutil

from harness.webserver import WebServer, substitute

BASE = """\
daemon off;
pid {folder}/run/pid;
error_log {folder}/error.log;
worker_processes 2;
events {{
	worker_connections 512;
}}
http {{
	access_log off;
	client_body_temp_path {folder}/run/body;
	proxy_temp_path {folder}/run/proxy;
	fastcgi_temp_path {folder}/run/fastcgi;
	uwsgi_temp_path {folder}/run/uwsgi;
	scgi_temp_path {folder}/run/scgi;
	root {folder}/www;
	include tls.conf;
}}
"""


class Nginx(WebServer):
    samples = "nginx"

    def configure(self):
        os.makedirs(self.path("snippets"), exist_ok=True)
        shutil.copy("/etc/nginx/fastcgi_params", self.path("fastcgi_params"))
        self.write("snippets/humcli-webhook.conf",
                   substitute(self.sample, {"/run/humcli-webhook/sock": self.values["socket"]}))
        tls = substitute(self.samples_folder / "tls.conf", {
            "listen 443 ": f"listen 127.0.0.1:{self.tls_port} ",
            "listen 80;": f"listen 127.0.0.1:{self.plain_port};",
            "/etc/letsencrypt/live/hooks.example.org/fullchain.pem": self.certificate,
            "/etc/letsencrypt/live/hooks.example.org/privkey.pem": self.key})
        self.write("tls.conf", tls.replace("server_name hooks.example.org", "server_name localhost"))
        return self.write("nginx.conf", BASE.format(folder=self.folder))

    def command(self, configuration, check=None):
        return ["/usr/sbin/nginx", "-p", self.folder, "-c", configuration,
                "-e", self.path("error.log"), *(["-t"] if check else [])]
