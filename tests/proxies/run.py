"""`haulage serve` behind nginx and behind Caddy, with what docs/serve.md gives them.

`run.py HAULAGE`: the program. Both proxies are Debian's packages, fetched into .tools; they run
on free ports of the loopback interface, with a certificate for 127.0.0.1.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import shutil
import socket
import ssl
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
TOOLS = ROOT / ".tools/proxies"
# Their packages in Debian, and where the program of each is.
PROXIES = {"nginx": "usr/sbin/nginx", "caddy": "usr/bin/caddy"}
# A certificate for 127.0.0.1, good for a hundred years, and its key.
TLS = ROOT / "crates/haulage-cli/tests/cli/tls"
HAULAGE = str(Path(sys.argv[1]).absolute())
# The clients' address, which is not the proxies'.
CLIENT = "127.0.0.2"
PATIENCE = 30


def program(name: str) -> Path:
    return TOOLS / name / PROXIES[name]


def fetch(name: str) -> None:
    """Takes the package of Debian, and unpacks it."""
    if not program(name).exists():
        shutil.rmtree(TOOLS / name, ignore_errors=True)
        (TOOLS / name).mkdir(parents=True)
        download = ["apt-get", "-qq", "--option", "APT::Sandbox::User=root", "download", name]
        if subprocess.run(download, cwd=TOOLS / name).returncode:
            subprocess.run(["apt-get", "-qq", "update"], check=True)
            subprocess.run(download, cwd=TOOLS / name, check=True)
        package = next((TOOLS / name).glob("*.deb"))
        subprocess.run(["dpkg", "--extract", package, TOOLS / name], check=True)


def changed(file: Path, changes: dict[str, str]) -> str:
    text = file.read_text()
    for before, after in changes.items():
        assert before in text, f"{before!r} is not on the page"
        text = text.replace(before, after)
    return text


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def until(what: str, holds: Callable[[], Any]) -> Any:
    """Looks until it holds; there is no signal from another program's log."""
    end = time.monotonic() + PATIENCE
    while not (found := holds()):
        assert time.monotonic() < end, f"{what}: not within {PATIENCE} s"
        time.sleep(0.02)
    return found


@contextlib.contextmanager
def running(command: list[str], log: Path, env: dict[str, str]) -> Iterator[subprocess.Popen[bytes]]:
    with log.open("wb") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output, env={**os.environ, **env})
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


class Site:
    """A server with keys, on a free port, and a certificate for whatever is before it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.backend, self.port = free_port(), free_port()
        self.certificate, self.secret = folder / "fullchain.pem", folder / "privkey.pem"
        shutil.copy(TLS / "certificate.pem", self.certificate)
        shutil.copy(TLS / "key.pem", self.secret)
        self.pages = folder / "pages"
        command = [sys.executable, ROOT / "tests/docs/pages.py", self.pages, "docs/serve.md"]
        subprocess.run(command, check=True)
        self.env = {"HAULAGE_URL": f"sqlite://{folder}/jobs.db", "SSL_CERT_FILE": str(self.certificate)}
        self.key = self.haulage(
            "key", "create", "--name", "all", "--scope", "submit,read,work,operate"
        ).strip()
        self.remote = {
            **self.env,
            "HAULAGE_URL": f"https://127.0.0.1:{self.port}",
            "HAULAGE_KEY": self.key,
        }

    def haulage(self, *args: str) -> str:
        done = subprocess.run(
            [HAULAGE, *args], env={**os.environ, **self.env}, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def server(self) -> contextlib.AbstractContextManager[subprocess.Popen[bytes]]:
        address = f"127.0.0.1:{self.backend}"
        command = [HAULAGE, "serve", "--listen", address, "--trust-forwarded", "127.0.0.1"]
        return running(command, self.folder / "serve.log", self.env)

    def nginx(self) -> contextlib.AbstractContextManager[subprocess.Popen[bytes]]:
        text = changed(
            self.pages / "etc/nginx/conf.d/haulage.conf",
            {
                "127.0.0.1:8080": f"127.0.0.1:{self.backend}",
                "listen 443 ssl": f"listen 127.0.0.1:{self.port} ssl",
                "listen [::]:443 ssl;": "",
                "/etc/letsencrypt/live/jobs.example.com": str(self.folder),
            },
        )
        places = "".join(
            f"{name}_temp_path {self.folder}/{name};\n"
            for name in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        )
        whole = f"daemon off; pid {self.folder}/nginx.pid; error_log {self.folder}/nginx-errors.log;\n"
        # All that runs is the user's own, also where that is root.
        whole += "user root;\n" if os.getuid() == 0 else ""
        whole += f"events {{}}\nhttp {{\naccess_log off;\n{places}{text}}}\n"
        file = self.folder / "nginx.conf"
        file.write_text(whole)
        command = [str(program("nginx")), "-c", str(file), "-p", str(self.folder)]
        return running(command, self.folder / "nginx.log", {})

    def caddy(self) -> contextlib.AbstractContextManager[subprocess.Popen[bytes]]:
        tls = f"tls {self.certificate} {self.secret}"
        text = changed(
            self.pages / "etc/caddy/Caddyfile",
            {
                "jobs.example.com {": f"https://127.0.0.1:{self.port} {{\n{tls}",
                "127.0.0.1:8080": f"127.0.0.1:{self.backend}",
            },
        )
        file = self.folder / "Caddyfile"
        file.write_text(f"{{\nadmin off\nauto_https disable_redirects\n}}\n{text}")
        home = {"HOME": str(self.folder), "XDG_DATA_HOME": str(self.folder / "caddy")}
        command = [str(program("caddy")), "run", "--config", str(file), "--adapter", "caddyfile"]
        return running(command, self.folder / "caddy.log", home)

    def connection(self, timeout: float = PATIENCE) -> http.client.HTTPSConnection:
        context = ssl.create_default_context(cafile=str(self.certificate))
        source = (CLIENT, 0)
        return http.client.HTTPSConnection(
            "127.0.0.1", self.port, context=context, timeout=timeout, source_address=source
        )

    def call(
        self, method: str, path: str, body: object = None, timeout: float = PATIENCE, **headers: str
    ) -> tuple[int, Any]:
        connection = self.connection(timeout)
        try:
            sent = {"Content-Type": "application/json", **({"Authorization": f"Bearer {self.key}"} | headers)}
            connection.request(method, path, None if body is None else json.dumps(body), sent)
            reply = connection.getresponse()
            return reply.status, json.loads(reply.read() or b"null")
        finally:
            connection.close()

    def worker(self, name: str, *args: str) -> contextlib.AbstractContextManager[subprocess.Popen[bytes]]:
        return running([HAULAGE, "worker", *args], self.folder / f"{name}.log", self.remote)

    def says(self, name: str, what: str) -> str:
        def line() -> str | None:
            lines = (self.folder / name).read_text(errors="replace").splitlines()
            return next((line for line in lines if what in line), None)

        return until(f"{name}: {what}", line)


def keys_and_addresses(site: Site) -> None:
    status, problem = site.call("GET", "/v1/stats", Authorization="Bearer nobody")
    assert (status, problem["status"]) == (401, 401), problem
    forged = {"X-Forwarded-For": "192.0.2.1", "Forwarded": "for=192.0.2.2", "X-Forwarded-Host": "192.0.2.3"}
    status, job = site.call("POST", "/v1/jobs", {"body": 1, "queue": "nobody"}, **forged)
    assert status == 202, job
    line = site.says("serve.log", job["id"])
    assert f"client={CLIENT}" in line and "192.0.2" not in line, line


def the_longest_wait(site: Site) -> None:
    _, job = site.call("POST", "/v1/jobs", {"body": 1, "queue": "nobody"})
    began = time.monotonic()
    status, record = site.call("GET", f"/v1/jobs/{job['id']}?wait=60", timeout=100)
    assert (status, record["status"]) == (200, "SUBMITTED"), record
    assert time.monotonic() - began > 59, "it is the server that ends the wait"


def events_come_at_once(site: Site) -> None:
    _, job = site.call("POST", "/v1/jobs", {"body": 1, "queue": "nobody"})
    connection = site.connection()
    connection.request("GET", f"/v1/jobs/{job['id']}/events", headers={"Authorization": f"Bearer {site.key}"})
    events = connection.getresponse()
    assert "SUBMITTED" in next(line.decode() for line in events if line.startswith(b"data:"))
    site.call("POST", f"/v1/jobs/{job['id']}/cancel")
    assert "CANCELLED" in next(line.decode() for line in events if line.startswith(b"data:"))
    connection.close()


def lines_are_answered_one_by_one(site: Site) -> None:
    command = ["curl", "--no-progress-meter", "--no-buffer", "--http2"]
    command += ["--cacert", str(site.certificate), f"https://127.0.0.1:{site.port}/v1/jobs"]
    command += [
        "--header",
        f"Authorization: Bearer {site.key}",
        "--header",
        "Content-Type: application/jsonl",
    ]
    command += ["--request", "POST", "--upload-file", "."]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0) as curl:
        assert curl.stdin and curl.stdout
        # With --max-time, curl 7.88 reads no answer while it waits for more to send.
        timer = threading.Timer(PATIENCE, curl.kill)
        timer.start()
        for number in range(1, 4):
            curl.stdin.write(b'{"body": 1, "queue": "nobody"}\n')
            answer = json.loads(curl.stdout.readline())
            assert answer["line"] == number and "id" in answer, answer
        timer.cancel()


def a_worker_runs_jobs_and_hears_of_a_cancel(site: Site) -> None:
    # No heartbeat tells it of the cancel, which comes by the stream of news or not at all.
    with site.worker("worker", "--lease", "10m", "--queue", "sleeps", "--shell", "sleep $(cat); echo 1"):
        _, done = site.call("POST", "/v1/jobs", {"body": 0, "queue": "sleeps"}, Prefer="wait=30")
        assert (done["status"], done["attempt"], done["result"]) == ("SUCCESS", 1, 1), done
        _, job = site.call("POST", "/v1/jobs", {"body": 1000, "queue": "sleeps"})
        path = f"/v1/jobs/{job['id']}"
        until("it runs", lambda: site.call("GET", path)[1]["status"] == "IN_PROGRESS")
        site.call("POST", f"{path}/cancel")
        status, record = site.call("GET", f"{path}?wait={PATIENCE}", timeout=2 * PATIENCE)
        assert (status, record["status"]) == (200, "CANCELLED"), record


def a_worker_that_vanishes_takes_no_job_along(site: Site) -> None:
    for number in range(4):
        with site.worker(f"vanishes-{number}", "--queue", "next", "--exec", "cat") as process:
            # The claim of the worker before may still wait in the proxy.
            _, done = site.call("POST", "/v1/jobs", {"body": number, "queue": "next"}, Prefer="wait=30")
            # It is given back within seconds, not at the end of a lease, and costs no attempt.
            assert (done["status"], done["attempt"] - done["uncounted"]) == ("SUCCESS", 1), done
            process.kill()
            process.wait()


CASES = [
    the_longest_wait,
    keys_and_addresses,
    events_come_at_once,
    lines_are_answered_one_by_one,
    a_worker_runs_jobs_and_hears_of_a_cancel,
    a_worker_that_vanishes_takes_no_job_along,
]


def behind(name: str) -> list[str]:
    """What does not hold behind this proxy."""
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
        site = Site(Path(folder))
        stack.enter_context(site.server())
        stack.enter_context(getattr(site, name)())

        def answers() -> bool:
            with contextlib.suppress(OSError, ValueError, http.client.HTTPException):
                return site.call("GET", "/v1/stats")[0] == 200
            return False

        until(f"an answer by {name}", answers)

        def tried(case: Callable[[Site], None]) -> str | None:
            try:
                case(site)
            # Each is a fault, and all are told.
            except Exception as error:
                return f"{name}: {case.__name__}: {error or type(error).__name__}"
            print(f"{name}: {case.__name__.replace('_', ' ')}", flush=True)
            return None

        with ThreadPoolExecutor(len(CASES)) as pool:
            faults = [fault for fault in pool.map(tried, CASES) if fault]
        for log in sorted(Path(folder).glob("*.log")) if faults else []:
            faults.append(f"{log.name}:\n" + "\n".join(log.read_text(errors="replace").splitlines()[-20:]))
        return faults


def main() -> int:
    # One after the other: two runs of apt-get are in each other's way.
    for name in PROXIES:
        fetch(name)
    with ThreadPoolExecutor(len(PROXIES)) as pool:
        faults = [fault for faults in pool.map(behind, PROXIES) for fault in faults]
    for fault in faults:
        print(f"\n{fault}", file=sys.stderr)
    print(f"{2 * len(CASES)} cases behind proxies, {len(faults)} faults")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
