"""Only public addresses are reached, whatever a name, a redirect or a link says; and a slow server is given up."""

from __future__ import annotations

import gzip
import logging
import shutil
import socket
import ssl
import subprocess
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from pytest_httpserver import HTTPServer
from werkzeug import Response

from compoundwatch import network
from compoundwatch.errors import NetworkError
from compoundwatch.network import Client, check_url, is_public, reachable

OWN = ("127.0.0.1",)


def client(**options):
    return Client(OWN, **{"timeout_s": 5, "budget_s": 20, "pause_s": 0.01} | options)


@pytest.mark.parametrize(
    "address",
    [
        *("127.0.0.1", "127.9.9.9", "10.1.2.3", "172.16.0.1", "192.168.1.1", "169.254.169.254", "100.64.0.1"),
        *("0.0.0.0", "255.255.255.255", "224.0.0.1", "240.0.0.1", "198.18.0.1", "192.0.2.1", "192.0.0.192"),
        *("::1", "::", "fe80::1", "fe80::1%eth0", "fc00::1", "fd00:ec2::254", "ff02::1", "fec0::1", "2001:db8::1"),
        *("::ffff:127.0.0.1", "::ffff:10.0.0.1", "64:ff9b::7f00:1", "64:ff9b:1::1", "2002:7f00:1::", "2001::1"),
        "nonsense",
    ],
)
def test_addresses_of_this_machine_and_its_network_are_not_public(address):
    assert not is_public(address)


@pytest.mark.parametrize("address", ["1.1.1.1", "20.150.0.1", "52.218.0.1", "2606:4700::1111", "64:ff9b::808:808"])
def test_addresses_of_the_public_network_are_public(address):
    assert is_public(address)


@pytest.mark.parametrize(
    "url",
    [
        *("file:///etc/passwd", "ftp://example.org/a", "gopher://example.org/a", "s3://b/a", "/etc/passwd", "a.tif"),
        *("javascript:alert(1)", "data:image/tiff;base64,SUkqAA==", "dict://example.org/a", "//example.org/a", ""),
        *("/vsicurl/http://example.org/a.tif", "https:///a.tif", "https://", "https://:443/a", "http:example.org"),
        *("http://127.0.0.1/a", "http://127.1/a", "http://0177.0.0.1/a", "http://0x7f.0.0.1/a", "http://2130706433/a"),
        *("http://0x7f000001/a", "http://017700000001/a", "http://localhost/a", "http://LOCALHOST./a", "http://0/a"),
        *(
            "http://a.localhost/a",
            "http://printer/a",
            "http://nas.local/a",
            "http://vault.internal/a",
            "http://[::1]/a",
        ),
        *("http://[::ffff:127.0.0.1]/a", "http://[fe80::1%25eth0]/a", "http://169.254.169.254/latest/meta-data/"),
        *("https://user:secret@example.org/a", "https://secret@example.org/a", "https://@example.org/a"),
        *("https://example.org\\@127.0.0.1/a", "https://exam ple.org/a", "https://example.org/\x00a"),
        *("https://example.org/\r\nHost: a", "https://exam\nple.org/a", "https://example.org:99999/a"),
        *("https://example.org:port/a", "https://[::1/a", "http://①②⑦.⓪.⓪.①/a", "http://%31%32%37.0.0.1/a"),
        *(
            "https://ex\u00e4mple.org/a",
            "https://example.org/" + "a" * 5000,
            "https://-.org/a",
            "http://1.1.1.1.:80:80/",
        ),
    ],
)
def test_addresses_that_are_refused_before_anything_is_asked(url):
    with pytest.raises(NetworkError) as error:
        check_url(url, ["imagery.example.org"])
    assert "secret" not in str(error.value)
    assert len(str(error.value)) < 200
    assert str(error.value).isprintable()


@pytest.mark.parametrize(
    "url",
    [
        "https://e84-earth-search-sentinel-data.s3.us-west-2.amazonaws.com/sentinel-2-c1-l2a/24/M/UV/2025/7/a/B04.tif",
        "https://sentinel2l2a01.blob.core.windows.net/sentinel2-l2/06/V/VN/2019/06/29/S2B.SAFE/T06VVN_AOT_10m.tif",
        "http://example.org:8080/a.tif?x=1&y=%20",
        "https://[2606:4700::1111]/a.tif",
    ],
)
def test_addresses_of_public_imagery_are_not_refused(url):
    check_url(url)


def test_a_host_the_user_named_may_be_anywhere_but_nothing_else():
    check_url("http://127.0.0.1:9000/a.tif", OWN)
    check_url("http://stac/a.tif", ["stac"])
    for url in ("http://127.0.0.2/a.tif", "http://localhost/a.tif", "file://127.0.0.1/a", "http://a:b@127.0.0.1/"):
        with pytest.raises(NetworkError):
            check_url(url, OWN)


def resolving(monkeypatch, **names):
    """Let names resolve as given; nothing else resolves, and connections are counted."""
    real = socket.getaddrinfo
    asked = []

    def look_up(host, port, *args, **options):
        asked.append(host)
        if host in names:
            return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (a, port)) for a in names[host]]
        return real(host, port, *args, **options) if host[0].isdigit() else (_ for _ in ()).throw(socket.gaierror(-2))

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    return asked


def test_a_name_that_resolves_to_a_private_address_is_not_connected_to(httpserver, monkeypatch):
    httpserver.expect_request("/a").respond_with_data("inside")
    resolving(monkeypatch, **{"evil.example.org": ["127.0.0.1"]})
    with pytest.raises(NetworkError, match=r"evil\.example\.org lies on this machine or its network"):
        client().ask(f"http://evil.example.org:{httpserver.port}/a")
    assert httpserver.log == []


def test_of_several_addresses_only_public_ones_are_used(monkeypatch):
    resolving(monkeypatch, **{"mixed.example.org": ["10.0.0.1", "1.1.1.1"], "private.example.org": ["10.0.0.1"]})
    assert reachable("mixed.example.org", 443) == ["1.1.1.1"]
    with pytest.raises(NetworkError):
        reachable("private.example.org", 443)
    assert reachable("private.example.org", 443, ["private.example.org"]) == ["10.0.0.1"]


def test_a_name_is_looked_up_once_so_that_it_cannot_change_between_check_and_use(httpserver, monkeypatch):
    httpserver.expect_request("/a").respond_with_data("here")
    asked = resolving(monkeypatch, own=["127.0.0.1"])
    answer = Client(["own"], timeout_s=5).ask(f"http://own:{httpserver.port}/a")
    assert answer.body == b"here"
    assert asked.count("own") == 1


@pytest.mark.parametrize(
    "target",
    [
        *("http://127.0.0.2:{port}/secret", "http://localhost:{port}/secret", "http://2130706434:{port}/secret"),
        *("http://evil.example.org:{port}/secret", "file:///etc/passwd", "ftp://127.0.0.1/a", "//127.0.0.2:{port}/"),
        *("http://u:p@127.0.0.1:{port}/secret", "http://[::ffff:127.0.0.2]:{port}/secret", "gopher://127.0.0.1/_"),
    ],
)
@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_no_redirect_leads_inside(httpserver, monkeypatch, target, status):
    resolving(monkeypatch, **{"evil.example.org": ["127.0.0.1"], "localhost": ["127.0.0.1"]})
    location = {"Location": target.format(port=httpserver.port)}
    httpserver.expect_request("/a").respond_with_data("", status=status, headers=location)
    httpserver.expect_request("/secret").respond_with_data("secret")
    with pytest.raises(NetworkError):
        client().ask(httpserver.url_for("/a"))
    assert [request.path for request, _ in httpserver.log] == ["/a"]


def test_redirects_within_what_may_be_read_are_followed(httpserver):
    httpserver.expect_request("/a").respond_with_data("", status=302, headers={"Location": "b?x=1"})
    httpserver.expect_request("/b", query_string="x=1").respond_with_data("there")
    assert client().ask(httpserver.url_for("/a")).body == b"there"


def test_redirects_in_circles_end(httpserver):
    httpserver.expect_request("/a").respond_with_data("", status=302, headers={"Location": "/a"})
    with pytest.raises(NetworkError, match="in circles"):
        client().ask(httpserver.url_for("/a"))
    assert len(httpserver.log) == network.MAX_REDIRECTS + 1


def test_who_asks_is_said_and_nothing_else(httpserver, monkeypatch, tmp_path):
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login me password secret\n")
    monkeypatch.setenv("NETRC", str(netrc))
    httpserver.expect_request("/a").respond_with_data("", headers={"Set-Cookie": "id=1"})
    ask = client()
    for _ in range(2):
        ask.ask(httpserver.url_for("/a"))
    for request, _ in httpserver.log:
        assert request.headers["User-Agent"].startswith("compoundwatch/")
        assert "Authorization" not in request.headers
        assert "Cookie" not in request.headers


def failing(httpserver, times, response):
    """Serve /a well, but only after so many failures."""
    left = [times]

    def answer(request):
        left[0] -= 1
        return response(left[0]) if left[0] >= 0 else Response("well")

    httpserver.expect_request("/a").respond_with_handler(answer)


@pytest.mark.parametrize("status", network.BUSY)
def test_a_busy_server_is_asked_again(httpserver, status):
    failing(httpserver, 2, lambda _: Response("busy", status=status))
    assert client().ask(httpserver.url_for("/a")).body == b"well"
    assert len(httpserver.log) == 3


def test_a_server_that_stays_busy_is_given_up_and_its_status_told(httpserver):
    httpserver.expect_request("/a").respond_with_data("no", status=503)
    assert client(retries=2).ask(httpserver.url_for("/a")).status == 503
    assert len(httpserver.log) == 3


def test_a_refusal_is_not_argued_with(httpserver):
    httpserver.expect_request("/a").respond_with_data("no", status=403)
    assert client().ask(httpserver.url_for("/a")).status == 403
    assert len(httpserver.log) == 1


def test_the_server_says_how_long_to_wait(httpserver):
    failing(httpserver, 1, lambda _: Response("later", status=429, headers={"Retry-After": "1"}))
    begun = time.monotonic()
    assert client().ask(httpserver.url_for("/a")).body == b"well"
    assert time.monotonic() - begun >= 1


def test_nobody_waits_longer_than_the_budget(httpserver):
    headers = {"Retry-After": "3600"}
    httpserver.expect_request("/a").respond_with_data("later", status=429, headers=headers)
    with pytest.raises(NetworkError, match="it asks to wait 3600 s"):
        client().ask(httpserver.url_for("/a"))
    assert len(httpserver.log) == 1


@pytest.mark.parametrize("nonsense", ["soon", "-5", "1e9", "Wed, 99 Foo 2020 00:00:00 GMT"])
def test_a_nonsensical_wish_to_wait_is_overheard(httpserver, nonsense):
    failing(httpserver, 1, lambda _: Response("later", status=503, headers={"Retry-After": nonsense}))
    assert client().ask(httpserver.url_for("/a")).body == b"well"


def test_a_wish_to_wait_for_ever_is_not_granted(httpserver):
    failing(httpserver, 1, lambda _: Response("later", status=503, headers={"Retry-After": "9" * 400}))
    with pytest.raises(NetworkError, match="in time"):
        client().ask(httpserver.url_for("/a"))


class Raw:
    """A server that sends exactly these bytes, each time it is asked, and waits before it hangs up."""

    def __init__(self, *answers: bytes, hold_s: float = 0.0, drip_s: float = 0.0):
        self.answers, self.hold_s, self.drip_s, self.asked = list(answers), hold_s, drip_s, 0
        self.socket = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self.socket.getsockname()[1]}/a"
        threading.Thread(target=self.serve, daemon=True).start()

    def serve(self):
        while True:
            try:
                connection, _ = self.socket.accept()
            except OSError:
                return
            threading.Thread(target=self.answer, args=(connection,), daemon=True).start()

    def answer(self, connection):
        with connection:
            connection.recv(65536)
            data = self.answers[min(self.asked, len(self.answers) - 1)]
            self.asked += 1
            try:
                for k in range(0, len(data), 1 if self.drip_s else max(1, len(data))):
                    connection.sendall(data[k : k + 1] if self.drip_s else data)
                    time.sleep(self.drip_s)
                time.sleep(self.hold_s)
            except OSError:
                pass

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.socket.close()


WELL = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\nConnection: close\r\n\r\nwell"


@pytest.mark.parametrize(
    "broken",
    [
        b"",
        b"HTTP/1.1 200 OK\r\nContent-Length: 400\r\n\r\nhalf",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\nhalf\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 4\r\n\r\nnogz",
        b"SSH-2.0-OpenSSH_9.6\r\n",
    ],
)
def test_half_an_answer_is_asked_for_again(broken):
    with Raw(broken, WELL) as server:
        assert client().ask(server.url).body == b"well"
        assert server.asked == 2


def test_a_server_that_only_breaks_off_is_told():
    with Raw(b"HTTP/1.1 200 OK\r\nContent-Length: 400\r\n\r\nhalf") as server:
        with pytest.raises(NetworkError, match=r"127\.0\.0\.1 does not answer \(answer broken off"):
            client().ask(server.url + "?token=secret")
        assert server.asked == 4


def test_a_silent_server_is_given_up_within_the_budget():
    with Raw(b"", hold_s=30) as server, pytest.raises(NetworkError, match="does not answer"):
        client(timeout_s=0.3, budget_s=1).ask(server.url)


def test_an_answer_that_drips_is_given_up_within_the_budget():
    endless = b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\nConnection: close\r\n\r\n" + b"x" * 100
    with Raw(endless, drip_s=0.02) as server, pytest.raises(NetworkError, match="in time"):
        client(budget_s=1).ask(server.url)


def test_several_questions_share_a_budget(httpserver):
    httpserver.expect_request("/a").respond_with_data("later", status=503)
    ask = client(retries=50, budget_s=600)
    begun = time.monotonic()
    with ask.within(0.5):
        for _ in range(5):
            with pytest.raises(NetworkError, match="in time"):
                ask.ask(httpserver.url_for("/a"))
    assert time.monotonic() - begun < 60


def test_endless_and_inflating_answers_are_cut_off(httpserver):
    bomb = gzip.compress(bytes(20_000_000))
    assert len(bomb) < 100_000
    httpserver.expect_request("/bomb").respond_with_data(bomb, headers={"Content-Encoding": "gzip"})
    httpserver.expect_request("/large").respond_with_data(bytes(2_000_000))
    for path in ("/bomb", "/large"):
        with pytest.raises(NetworkError, match="more than 1 MB"):
            client().ask(httpserver.url_for(path), max_bytes=1_000_000)
    circle = b"HTTP/1.1 302 Found\r\nLocation: /a\r\nContent-Length: 9999999999\r\n\r\n" + b"x" * 100_000
    with Raw(circle) as server, pytest.raises(NetworkError, match="in circles"):
        client().ask(server.url)


def test_nobody_there():
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    with pytest.raises(NetworkError, match=r"127\.0\.0\.1 does not answer \(NewConnectionError\)"):
        client().ask(f"http://127.0.0.1:{port}/a?token=secret")


def test_an_unknown_name_is_told(monkeypatch):
    resolving(monkeypatch)
    with pytest.raises(NetworkError, match=r"gone\.example\.org does not answer \(NameResolutionError\)"):
        client().ask("https://gone.example.org/a?token=secret")


def test_connections_are_kept():
    callers = []

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self):
            callers.append(self.client_address[1])
            self.send_response(200)
            self.send_header("Content-Length", "4")
            self.end_headers()
            self.wfile.write(b"well")

        def log_message(self, *args):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        ask = client()
        for _ in range(3):
            assert ask.ask(f"http://127.0.0.1:{server.server_port}/a").body == b"well"
        server.shutdown()
    assert len(callers) == 3
    assert len(set(callers)) == 1


def test_queries_stay_out_of_the_most_talkative_log(httpserver, caplog):
    httpserver.expect_request("/a").respond_with_data("no", status=500)
    with caplog.at_level(logging.DEBUG):
        client(retries=1).ask(httpserver.url_for("/a") + "?sig=secret&x=1")
        with pytest.raises(NetworkError), Raw(b"") as server:
            client(retries=1).ask(server.url + "?sig=secret")
    assert "127.0.0.1" in caplog.text
    ours = [r.getMessage() for r in caplog.records if r.name != "werkzeug"]
    assert len(ours) > 4
    assert not [text for text in ours if "secret" in text]


def test_behind_a_proxy_names_are_still_checked(httpserver, monkeypatch):
    monkeypatch.setenv("http_proxy", httpserver.url_for(""))
    monkeypatch.delenv("no_proxy", raising=False)
    httpserver.expect_request("/a").respond_with_data("through the proxy")
    assert Client(timeout_s=5).ask("http://imagery.example.org/a").body == b"through the proxy"
    for url in ("http://localhost/a", "http://10.0.0.1/a", "http://metadata.google.internal/a"):
        with pytest.raises(NetworkError):
            Client(timeout_s=5).ask(url)


@pytest.mark.skipif(not shutil.which("openssl"), reason="makes a certificate by openssl")
def test_a_server_has_to_prove_who_it_is_to_the_authorities_that_the_user_trusts(monkeypatch, tmp_path):
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    making = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost"]
    making += ["-addext", "subjectAltName=DNS:localhost", "-keyout", str(key), "-out", str(certificate)]
    subprocess.run(making, check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    with HTTPServer(host="localhost", ssl_context=context) as server:
        server.expect_request("/a").respond_with_data("trusted")
        with pytest.raises(NetworkError, match="cannot prove who it is"):
            Client({"localhost"}, timeout_s=5, retries=0).ask(server.url_for("/a"))
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(certificate))
        assert Client({"localhost"}, timeout_s=5, retries=0).ask(server.url_for("/a")).body == b"trusted"
