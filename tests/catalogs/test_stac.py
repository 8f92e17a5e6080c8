"""A STAC API that goes wrong: a real server behind a proxy that spoils what it answers, one fault at a time."""

from __future__ import annotations

import datetime as dt
import functools
import json
import re
import time
import urllib.error
import urllib.request

import pytest
from werkzeug import Response

from compoundwatch.catalogs import open_catalog, stac
from compoundwatch.errors import CatalogError
from compoundwatch.model import SearchSettings
from compoundwatch.network import Client
from compoundwatch.sensors.sentinel2 import SENSOR
from tests.catalogs.test_items import item
from tests.support import free_port, stac_server

PLACE = (103.4, 10.4, 103.5, 10.5)
SPRING = (dt.date(2024, 3, 1), dt.date(2024, 6, 30))
COUNT = 25
SETTINGS = SearchSettings(timeout_s=3, budget_s=8)


def described(k):
    day = SPRING[0] + dt.timedelta(days=4 * k)
    return item(f"s{k:02d}", f"{day}T03:30:00Z") | {
        "type": "Feature",
        "stac_version": "1.0.0",
        "links": [],
        "bbox": [103, 10, 104, 11],
    }


@pytest.fixture(scope="module")
def real(tmp_path_factory):
    """A real STAC API with 25 scenes."""
    with stac_server(tmp_path_factory.mktemp("api"), [described(k) for k in range(COUNT)]) as address:
        yield address


class Proxy:
    """Stands before the real API; ``spoil(kind, answer, request)`` may change what is answered to the kinds "root",
    "collection" and "search"; ``count`` is how often each was asked."""

    def __init__(self, server, real):
        self.server, self.real = server, real
        self.url = f"http://127.0.0.1:{server.port}"
        self.count = dict.fromkeys(("root", "collection", "search"), 0)
        self.agents = set()
        self.spoil = lambda kind, answer, request: answer
        server.expect_request(re.compile(".*")).respond_with_handler(self.answer)

    def answer(self, request):
        kind = {"/": "root", "/search": "search"}.get(request.path, "collection")
        self.count[kind] += 1
        self.agents.add(request.headers["User-Agent"])
        query = f"?{request.query_string.decode()}" if request.query_string else ""
        body = request.get_data() if request.method == "POST" else None
        asked = urllib.request.Request(
            f"{self.real}{request.path}{query}", body, {"Content-Type": "application/json"}, method=request.method
        )
        try:
            with urllib.request.urlopen(asked) as given:
                status, text = given.status, given.read().decode()
        except urllib.error.HTTPError as error:
            status, text = error.code, error.read().decode()
        answer = Response(text.replace(self.real, self.url), status=status, content_type="application/json")
        return self.spoil(kind, answer, request)

    def on_search(self, change):
        """Change the JSON of every page."""

        def spoil(kind, answer, request):
            if kind != "search":
                return answer
            page = json.loads(answer.get_data())
            return Response(json.dumps(change(page)), content_type="application/json")

        self.spoil = spoil

    def find(self, settings=SETTINGS):
        return open_catalog(self.url, settings).search(PLACE, *SPRING, SENSOR, settings)


@pytest.fixture
def proxy(httpserver, real, monkeypatch):
    monkeypatch.setattr(stac, "PAGE", 10)
    monkeypatch.setattr(stac, "Client", functools.partial(Client, pause_s=0.02))
    return Proxy(httpserver, real)


def refused(proxy, match, settings=SETTINGS):
    begun = time.monotonic()
    with pytest.raises(CatalogError, match=match) as error:
        proxy.find(settings)
    assert time.monotonic() - begun < 60
    assert str(error.value).isprintable()
    assert len(str(error.value)) < 400
    return str(error.value)


def test_all_pages_are_read_and_we_say_who_we_are(proxy):
    scenes, skipped = proxy.find()
    assert [s.scene_id for s in scenes] == [f"s{k:02d}" for k in range(COUNT)]
    assert skipped == []
    assert proxy.count["search"] == 3
    assert all(re.fullmatch(r"compoundwatch/\d+\.\d+\S*", agent) for agent in proxy.agents)


# --------------------------------------------------------------------- faults after which asking again helps


def at_first(times, fault):
    """Spoil the first answers of a search only."""
    left = [times]

    def spoil(kind, answer, request):
        if kind != "search" or left[0] <= 0:
            return answer
        left[0] -= 1
        return fault(answer)

    return spoil


def half(answer):
    text = answer.get_data()
    return Response(text[: len(text) // 2], content_type="application/json")


def cut(answer):
    """Announces all, sends half."""
    text = answer.get_data()
    headers = {"Content-Length": str(len(text))}
    return Response(iter([text[: len(text) // 2]]), headers=headers, content_type="application/json")


PASSING = {
    "500": lambda a: Response("no", status=500),
    "502 of a gateway, in HTML": lambda a: Response("<html>Bad Gateway</html>", status=502, content_type="text/html"),
    "503": lambda a: Response("", status=503),
    "504": lambda a: Response("upstream request timeout", status=504),
    "429 that says when": lambda a: Response("", status=429, headers={"Retry-After": "1"}),
    "429 that does not": lambda a: Response("", status=429),
    "408": lambda a: Response("", status=408),
    "half an answer of full length": cut,
    "half of the JSON": half,
    "nothing": lambda a: Response("", content_type="application/json"),
    "a page of HTML with status 200": lambda a: Response("<html>Please come back later</html>"),
    "bytes that are no text": lambda a: Response(b'{"features": ["\xff\xfe"]}'),
    "a list": lambda a: Response("[]", content_type="application/json"),
}


@pytest.mark.parametrize("name", PASSING)
def test_a_passing_fault_is_waited_out(proxy, name):
    proxy.spoil = at_first(2, PASSING[name])
    scenes, skipped = proxy.find(SearchSettings(timeout_s=3, budget_s=30))
    assert len(scenes) == COUNT
    assert skipped == []
    assert proxy.count["search"] == 5


def test_a_late_answer_is_asked_for_again(proxy):
    def late(answer):
        time.sleep(1.5)
        return answer

    proxy.spoil = at_first(1, late)
    assert len(proxy.find(SearchSettings(timeout_s=0.7, budget_s=30))[0]) == COUNT


# ------------------------------------------------------------------------------------ faults that stay


@pytest.mark.parametrize(
    ("name", "told"), [("500", "500"), ("504", "504"), ("429 that does not", "429"), ("half of the JSON", "broken")]
)
def test_a_fault_that_stays_is_told(proxy, name, told):
    proxy.spoil = at_first(10**9, PASSING[name])
    assert "did not answer the search" in refused(proxy, told)
    assert proxy.count["search"] <= 6


def test_a_server_that_asks_to_wait_for_an_hour_is_left_alone(proxy):
    proxy.spoil = at_first(10**9, lambda a: Response("", status=429, headers={"Retry-After": "3600"}))
    refused(proxy, "asks to wait 3600 s")
    assert proxy.count["search"] == 1


def test_a_refusal_is_not_repeated_and_its_words_are_not(proxy):
    proxy.spoil = at_first(10**9, lambda a: Response("your token is secret", status=403))
    assert "secret" not in refused(proxy, "status 403")
    assert proxy.count["search"] == 1


def test_a_silent_server_is_given_up(proxy):
    def silent(kind, answer, request):
        time.sleep(1 if kind == "search" else 0)
        return answer

    proxy.spoil = silent
    refused(proxy, "does not answer", SearchSettings(timeout_s=0.3, budget_s=3))


def test_one_budget_holds_for_all_pages(proxy):
    def slow(kind, answer, request):
        time.sleep(1 if kind == "search" else 0)
        return answer

    proxy.spoil = slow
    refused(proxy, "in time", SearchSettings(timeout_s=3, budget_s=1.5))


# ---------------------------------------------------------------------------------------- pages


def test_a_next_link_that_leads_back_to_its_own_page(proxy):
    def again(page):
        page["links"] = [{"rel": "next", "href": f"{proxy.url}/search?page=1"}]
        return page

    proxy.on_search(again)
    refused(proxy, "lead in circles|again and again")
    assert proxy.count["search"] <= 4


def test_two_pages_that_lead_to_one_another(proxy):
    turn = [0]

    def other(page):
        turn[0] += 1
        page["links"] = [{"rel": "next", "href": f"{proxy.url}/search?page={turn[0] % 2}"}]
        for k, feature in enumerate(page["features"]):
            feature["id"] = f"{turn[0]}-{k}"
        return page

    proxy.on_search(other)
    refused(proxy, "lead in circles")
    assert proxy.count["search"] <= 4


def test_endless_pages_of_the_same_items_under_new_addresses(proxy):
    turn = [0]

    def same(page):
        turn[0] += 1
        page["links"] = [{"rel": "next", "href": f"{proxy.url}/search?page={turn[0]}"}]
        return page

    proxy.on_search(same)
    refused(proxy, "the same items again and again")
    assert proxy.count["search"] <= 4


def test_endless_pages_of_new_items(proxy):
    turn = [0]

    def more(page):
        turn[0] += 1
        page["links"] = [{"rel": "next", "href": f"{proxy.url}/search?page={turn[0]}"}]
        page["features"] = [{**described(k), "id": f"{turn[0]}-{k}"} for k in range(100)]
        return page

    proxy.on_search(more)
    refused(proxy, r"more than 410 items where search\.max_scenes is 100", SearchSettings(max_scenes=100))
    assert proxy.count["search"] == 5


def test_endless_pages_without_items(proxy):
    turn = [0]

    def empty(page):
        turn[0] += 1
        return {"features": [], "links": [{"rel": "next", "href": f"{proxy.url}/search?page={turn[0]}"}]}

    proxy.on_search(empty)
    refused(proxy, "lead in circles")
    assert proxy.count["search"] <= stac.MAX_EMPTY_PAGES + 2


def test_an_empty_page_on_the_way_is_no_end(proxy):
    def spoil(kind, answer, request):
        if kind != "search" or proxy.count["search"] != 2:
            return answer
        page = json.loads(answer.get_data())
        kept = [link for link in page["links"] if link["rel"] == "next"]
        return Response(json.dumps({"type": "FeatureCollection", "features": [], "links": kept}))

    proxy.spoil = spoil
    scenes, _ = proxy.find()
    assert len(scenes) == COUNT - 10
    assert proxy.count["search"] == 3


def test_pages_that_overlap_give_each_item_once(proxy):
    first = []

    def overlap(page):
        first.extend(page["features"][:3] if not first else [])
        page["features"] = page["features"] + first
        return page

    proxy.on_search(overlap)
    scenes, skipped = proxy.find()
    assert [s.scene_id for s in scenes] == [f"s{k:02d}" for k in range(COUNT)]
    assert skipped == []


@pytest.mark.parametrize(
    "href",
    [
        *("/etc/passwd", "file:///etc/passwd", "http://127.0.0.2:1/search", "http://169.254.169.254/latest/meta-data"),
        *("https://example.org/search", "ftp://127.0.0.1/search", "http://user:pw@127.0.0.1/search", "", "http://[", 5),
    ],
)
def test_a_next_link_to_somewhere_else(proxy, href):
    def away(page):
        page["links"] = [{"rel": "next", "href": href}]
        return page

    proxy.on_search(away)
    refused(proxy, "catalogue 127")


@pytest.mark.parametrize("rel", ["search", "data", "self", "root", "conformance", "collections"])
@pytest.mark.parametrize("href", ["http://169.254.169.254/", "file:///etc/passwd", "/etc/passwd"])
def test_links_of_the_landing_page_to_somewhere_else_are_not_followed(proxy, rel, href):
    def away(kind, answer, request):
        if kind != "root":
            return answer
        root = json.loads(answer.get_data())
        for link in root["links"]:
            if link["rel"] == rel:
                link["href"] = href
        return Response(json.dumps(root))

    proxy.spoil = away
    try:
        scenes, _ = proxy.find()
    except CatalogError as error:
        assert "root:" not in str(error)  # noqa: PT017 - either is well, as long as nothing of the file is told
    else:
        assert len(scenes) == COUNT


def test_fewer_items_than_announced_are_told(proxy):
    proxy.on_search(lambda page: {**page, "numberMatched": 70})
    scenes, skipped = proxy.find()
    assert len(scenes) == COUNT
    assert [(s.item_id, s.routine) for s in skipped] == [("catalogue 127.0.0.1", False)]
    assert "announced 70 items and gave 25" in skipped[0].reason


@pytest.mark.parametrize("matched", [25, 26, 24, 0, None, "70", [70], True, 10.5])
def test_a_number_that_is_about_right_or_none_is_no_news(proxy, matched):
    proxy.on_search(lambda page: {**page, "numberMatched": matched})
    assert proxy.find()[1] == []


# ------------------------------------------------------------------------------- items, filters, shapes of answers


def test_a_server_that_ignores_what_it_was_asked(proxy):
    """Other collections, other years, other places and too many clouds in one page: none of them is used."""
    strangers = [
        {**described(1), "id": "other collection", "collection": "sentinel-2-l1c"},
        {**described(2), "id": "no collection", "collection": None},
        item("other year", "2020-03-01T03:30:00Z"),
        item("too late", "2024-07-01T03:30:00Z"),
        {**described(3), "id": "elsewhere", "geometry": {"type": "Point", "coordinates": [0, 0]}},
        item("cloudy", "2024-03-02T03:30:00Z", cloud=99.0),
    ]

    def ignore(page):
        page["features"] = strangers + page["features"]
        return page

    proxy.on_search(ignore)
    scenes, skipped = proxy.find()
    assert [s.scene_id for s in scenes] == [f"s{k:02d}" for k in range(COUNT)]
    assert [(s.item_id, s.routine) for s in skipped] == [("cloudy", True)]


@pytest.mark.parametrize("features", [None, {}, "all", 5, [None], ["a"], [[]], [5, {"id": 1}]])
def test_features_that_are_none(proxy, features):
    proxy.on_search(lambda page: {"type": "FeatureCollection", "features": features, "links": []})
    if isinstance(features, list):
        assert proxy.find() == ([], [])
    else:
        refused(proxy, "no list of features")


@pytest.mark.parametrize("links", [None, [], {}, "none", 5, [None], [5], ["next"], [{"rel": "next"}], [{}]])
def test_links_that_are_none(proxy, links):
    def broken(page):
        return {**page, "links": links}

    proxy.on_search(broken)
    try:
        assert len(proxy.find()[0]) == 10
    except CatalogError as error:
        assert "did not answer the search" in str(error)  # noqa: PT017 - told or taken for the end


@pytest.mark.parametrize("body", [5, "a", [1], {"limit": 1}])
def test_a_next_link_with_a_body_of_its_own(proxy, body):
    def posting(page):
        page["links"] = [{"rel": "next", "method": "POST", "href": f"{proxy.url}/search", "body": body, "merge": True}]
        return page

    proxy.on_search(posting)
    refused(proxy, "catalogue 127")


def test_a_page_nested_a_hundred_thousand_deep(proxy):
    deep = '{"features": ' + "[" * 100_000 + "]" * 100_000 + "}"
    proxy.spoil = at_first(10**9, lambda a: Response(deep, content_type="application/json"))
    refused(proxy, "nested too deeply")


def test_an_item_nested_deeply_is_left_out_and_told(proxy):
    shape = []
    for _ in range(500):
        shape = [shape]

    def deep(page):
        page["features"][0]["geometry"] = {"type": "Polygon", "coordinates": shape}
        return page

    proxy.on_search(deep)
    scenes, skipped = proxy.find()
    assert len(scenes) == COUNT - 3
    assert [s.routine for s in skipped] == [False] * 3


def test_a_page_that_does_not_end(proxy, monkeypatch):
    monkeypatch.setattr(stac, "MAX_PAGE_BYTES", 1_000_000)
    proxy.spoil = at_first(10**9, lambda a: Response(" " * 2_000_000, content_type="application/json"))
    refused(proxy, "more than 1 MB")


def test_broken_items_are_told_and_the_others_used(proxy):
    def broken(page):
        page["features"][0]["assets"] = None
        page["features"][1]["properties"]["datetime"] = "yesterday"
        page["features"][2]["assets"]["red"]["href"] = "file:///etc/passwd"
        return page

    proxy.on_search(broken)
    scenes, skipped = proxy.find()
    assert len(scenes) == COUNT - 9
    assert len(skipped) == 9
    assert not any(s.routine for s in skipped)


# ---------------------------------------------------------------------------------------- the landing page


@pytest.mark.parametrize(
    "answer",
    [
        Response("no", status=404),
        Response("no", status=500),
        Response("not json"),
        Response("[]"),
        Response("{}"),
        Response('{"type": "Feature"}'),
        Response('{"type": "Catalog"}'),
        Response('{"type": "Catalog", "id": 5, "description": null, "links": null, "stac_version": "9.9"}'),
        Response('{"type": "Catalog", "id": "a", "description": "b", "links": [], "stac_version": "1.0.0"}'),
        Response(json.dumps({"links": [], "conformsTo": 5, "id": "a", "description": "b", "stac_version": "1.0.0"})),
    ],
)
def test_a_landing_page_that_is_none(proxy, answer):
    proxy.spoil = lambda kind, real, request: answer if kind == "root" else real
    refused(proxy, "catalogue 127")


@pytest.mark.parametrize("status", [301, 302, 307, 308])
@pytest.mark.parametrize("target", ["http://10.0.0.1/", "file:///etc/passwd", "http://127.0.0.2:1/", "http://nas/"])
def test_a_landing_page_that_redirects_inside(proxy, status, target):
    redirect = Response("", status=status, headers={"Location": target})
    proxy.spoil = lambda kind, real, request: redirect if kind == "root" else real
    refused(proxy, "does not answer as a STAC API")
    assert proxy.count["root"] == 1


@pytest.mark.parametrize("status", [401, 403, 500])
def test_a_collection_that_cannot_be_asked_for_is_no_missing_collection(proxy, status):
    proxy.spoil = lambda kind, real, request: Response("no", status=status) if kind == "collection" else real
    with pytest.raises(CatalogError, match=f"does not list its collections: .*{status}"):
        open_catalog(proxy.url, SETTINGS).serves(SENSOR)


def test_nobody_there():
    with pytest.raises(CatalogError, match="does not answer as a STAC API") as error:
        open_catalog(f"http://127.0.0.1:{free_port()}/?token=secret", SETTINGS)
    assert "secret" not in str(error.value)
