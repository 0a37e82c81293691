"""Real reverse proxies with the very snippets of `docs/operating.md`, ports put in."""

from __future__ import annotations

import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import trustme

from mediadht.cli.demo.children import Child, Processes

DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "operating.md"

NGINX = """
user root;
daemon off;
pid {folder}/nginx.pid;
error_log stderr;
events {{ }}
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    {upstream}
    server {{
        listen 127.0.0.1:{tls_port} ssl;
        listen 127.0.0.1:{plain_port};
        server_name localhost;
        ssl_certificate {folder}/chain.pem;
        ssl_certificate_key {folder}/key.pem;
        {peers}
        {joins}
        location ~ ^(/_matrix|/_synapse/client) {{ proxy_pass http://127.0.0.1:8008; }}
    }}
}}
"""

CADDY = """
{{
    admin off
    auto_https disable_redirects
    storage file_system {folder}/storage
}}
(site) {{
    {peers}
    {joins}
    handle {{
        reverse_proxy 127.0.0.1:8008
    }}
}}
https://localhost:{tls_port} {{
    bind 127.0.0.1
    tls {folder}/chain.pem {folder}/key.pem
    import site
}}
http://127.0.0.1:{plain_port} {{
    bind 127.0.0.1
    import site
}}
"""


def snippet(name: str) -> str:
    """The block of the document that is marked as tried under this name."""
    match = re.search(rf"<!-- tried: {name} -->\n```\w+\n(.*?)```", DOCUMENT.read_text(), re.DOTALL)
    assert match is not None, name
    return match[1]


def program(kind: str) -> str | None:
    """The full path of `nginx` or `caddy`, if it is installed."""
    return shutil.which(kind, path="/usr/sbin:/usr/local/sbin:/usr/bin:/usr/local/bin")


@dataclass(frozen=True)
class Proxy:
    child: Child
    tls_port: int
    plain_port: int

    @property
    def peer_url(self) -> str:
        return f"wss://localhost:{self.tls_port}/_mediadht/"

    @property
    def client_url(self) -> str:
        return f"http://127.0.0.1:{self.plain_port}"


def start_proxy(
    kind: str, processes: Processes, folder: Path, authority: trustme.CA, ports: Mapping[int, int], name: str
) -> Proxy:
    """Run nginx or Caddy before what `ports` says: documented port to the one in use."""
    folder = folder / f"{kind}-{name}"
    folder.mkdir()
    certificate = authority.issue_cert("localhost")
    (folder / "chain.pem").write_bytes(b"".join(blob.bytes() for blob in certificate.cert_chain_pems))
    (folder / "key.pem").write_bytes(certificate.private_key_pem.bytes())
    tls_port, plain_port = processes.ports.reserve(), processes.ports.reserve()
    parts = {part: snippet(f"{kind} {part}") for part in ("peers", "joins")}
    if kind == "nginx":
        parts["upstream"] = snippet("nginx upstream")
    text = (NGINX if kind == "nginx" else CADDY).format(
        folder=folder, tls_port=tls_port, plain_port=plain_port, **parts
    )
    text = re.sub(r"127\.0\.0\.1:(847[0-9]|8008)", lambda found: f"127.0.0.1:{ports.get(int(found[1]), 1)}", text)
    config = folder / "config"
    config.write_text(text)
    path = program(kind)
    assert path is not None
    words = (
        [path, "-p", str(folder), "-c", str(config)]
        if kind == "nginx"
        else [path, "run", "--adapter", "caddyfile", "--config", str(config)]
    )
    return Proxy(processes.children.start(f"{kind} {name}", words, folder / "log"), tls_port, plain_port)
