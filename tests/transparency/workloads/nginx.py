"""nginx under load: two workers, files and errors, a reload and a new log in the middle, and its end."""

import hashlib
import re
import signal
import socket
import subprocess
import time
from harness.case import Case

TITLE = "nginx (ab, reload, stop)"
PACKAGES = ("nginx | nginx-light", "apache2-utils", "curl")

CONFIG = """
worker_processes 2;
pid {here}/pid;
error_log {here}/error.log notice;
events {{ worker_connections 256; }}
http {{
    access_log {here}/access.log;
    client_body_temp_path {here}/body; proxy_temp_path {here}/proxy; fastcgi_temp_path {here}/fastcgi;
    uwsgi_temp_path {here}/uwsgi; scgi_temp_path {here}/scgi;
    server {{
        listen 127.0.0.1:{port};
        root {here}/html;
        location /list/ {{ autoindex on; }}
        location /proxied/ {{ proxy_pass http://127.0.0.1:{port}/; }}
        location /moved {{ return 301 /; }}
        location /zipped/ {{ alias {here}/html/; gzip on; gzip_types *; gzip_min_length 1; }}
    }}
}}
"""
PATHS = ("/", "/large", "/none", "/list/", "/proxied/large", "/moved", "/zipped/large")
REQUESTS = 3000


def cases(short):
    return [Case("load", lambda place: _load(place, REQUESTS // 6 if short else REQUESTS), is_alone=True)]


def _free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def _load(place, requests):
    here, port = place.directory, _free_port()
    html = here / "html"
    (html / "list").mkdir(parents=True)
    (html / "index.html").write_text("hello\n")
    (html / "large").write_text("".join(f"{line}\n" for line in range(50_000)))
    (here / "conf").write_text(CONFIG.format(here=here, port=port))
    for entry in [here, *here.rglob("*")]:
        entry.chmod(0o777)
    verdicts = {}
    checked = place.run(["nginx", "-t", "-q", "-c", here / "conf"])
    verdicts["config"] = f"{checked.status}: {checked.stderr.replace(str(here), 'HERE')}"
    begin = time.monotonic()
    server = subprocess.Popen(
        ["/usr/sbin/nginx", "-c", here / "conf", "-g", "daemon off;"], env=place.environment(), cwd=here,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )
    try:
        for _ in range(600):
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(0.05)
        for turn in (1, 2):
            for path in PATHS:
                verdicts[f"{turn} GET {path}"] = _fetched(place, port, path)
            verdicts[f"{turn} ab"] = _ab(place, port, requests)
            if turn == 1:
                server.send_signal(signal.SIGHUP)
                time.sleep(1)
                (here / "access.log").rename(here / "access.log.1")
                server.send_signal(signal.SIGUSR1)
                time.sleep(1)
        server.send_signal(signal.SIGQUIT)
        out, err = server.communicate(timeout=60)
        verdicts["end"] = f"{server.returncode}: {out.decode()}{err.decode()}"
    finally:
        server.kill()
        server.wait()
    place.seconds += time.monotonic() - begin
    lines = (here / "access.log").read_text() + (here / "access.log.1").read_text()
    verdicts["lines in the access logs"] = str(lines.count("\n"))
    log = (here / "error.log").read_text()
    for level in ("alert", "crit", "emerg", "warn"):
        verdicts[level] = "\n".join(sorted(set(re.sub(r"\d+", "N", line) for line in log.splitlines() if f"[{level}]" in line)))
    return verdicts


def _fetched(place, port, path):
    outcome = place.run(["curl", "-s", "-i", "--compressed", f"http://127.0.0.1:{port}{path}"], bare=True)
    text = re.sub(r"(?m)^(Date|Last-Modified|ETag):.*$", r"\1", outcome.stdout).replace(f":{port}", ":PORT")
    text = re.sub(r"\d\d-\w{3}-\d{4} \d\d:\d\d", "WHEN", text)
    return f"{outcome.status}: {hashlib.sha256(text.encode()).hexdigest()}"


def _ab(place, port, requests):
    outcome = place.run(["ab", "-q", "-n", requests, "-c", 8, "-k", f"http://127.0.0.1:{port}/large"], bare=True)
    kept = re.findall(r"^(?:Document Length|Complete requests|Failed requests|Non-2xx responses):.*$", outcome.stdout, re.M)
    return f"{outcome.status}: {'; '.join(kept)}"
