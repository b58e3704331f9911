"""The viewer's server: what it lets in, and what it answers about an ordinary store."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import os
import shutil
import sqlite3
import stat
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest

from nat_observability.sinks.protocol import RunLedger
from nat_observability.sinks.sqlite import SqliteSink
from nat_observability.viewer.security import is_loopback, new_token
from nat_observability.viewer.serving import viewer_url
from tests.store.old_stores import make_old_store
from tests.viewer.client import TOKEN, Viewer, viewer
from tests.viewer.stores import BEGIN_NS, damaged, large_run, make_run, make_store, spans_of, write


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_store(tmp_path_factory.mktemp("store") / "s.sqlite3")


@pytest.fixture
async def shown(store: Path) -> AsyncIterator[Viewer]:
    async with viewer(store) as opened:
        yield opened


_RIGHT = {"Authorization": f"Bearer {TOKEN}"}


@pytest.mark.parametrize(
    ("method", "path", "headers", "status"),
    [
        ("GET", "/api/runs", _RIGHT, 200),
        ("HEAD", "/api/runs", _RIGHT, 200),
        ("GET", "/", {}, 200),
        ("GET", "/page/app.js", {}, 200),
        ("GET", "/api/runs", {}, 401),
        ("GET", "/api/runs", {"Authorization": f"Bearer {TOKEN[:-1]}"}, 401),
        ("GET", "/api/runs", {"Authorization": f"Bearer {TOKEN}x"}, 401),
        ("GET", "/api/runs", {"Authorization": TOKEN}, 401),
        ("GET", "/api/runs", {"Authorization": "Bearer ü"}, 401),
        ("GET", f"/api/runs?token={TOKEN}", {}, 401),
        ("GET", "/api/runs", {"Cookie": f"token={TOKEN}"}, 401),
        ("GET", "/api/live", {}, 401),
        ("GET", "/api/export/run-000001.html", {}, 401),
        ("POST", "/api/runs", _RIGHT, 405),
        ("PUT", "/api/runs/run-000001", _RIGHT, 405),
        ("DELETE", "/api/runs/run-000001", _RIGHT, 405),
        ("OPTIONS", "/api/runs", _RIGHT, 405),
        ("TRACE", "/", {}, 405),
        ("GET", "/api/runs", {**_RIGHT, "Sec-Fetch-Site": "same-origin"}, 200),
        ("GET", "/", {"Sec-Fetch-Site": "none"}, 200),
        ("GET", "/api/runs", {**_RIGHT, "Sec-Fetch-Site": "same-site"}, 403),
        ("GET", "/api/runs", {**_RIGHT, "Sec-Fetch-Site": "cross-site"}, 403),
        ("GET", "/", {"Sec-Fetch-Site": "cross-site"}, 403),
        ("GET", "/api/runs", {**_RIGHT, "Host": "evil.example"}, 421),
        ("GET", "/api/runs", {**_RIGHT, "Host": "127.0.0.1.evil.example:4320"}, 421),
        ("GET", "/api/runs", {**_RIGHT, "Host": "192.0.2.7:4320"}, 421),
        ("GET", "/", {"Host": "evil.example:80"}, 421),
        ("GET", "/api/runs", {**_RIGHT, "Host": "localhost:4320"}, 200),
        ("GET", "/api/runs", {**_RIGHT, "Host": "[::1]:4320"}, 200),
        ("GET", "/page/../server.py", {}, 404),
        ("GET", "/page/%2e%2e%2fserver.py", {}, 404),
        ("GET", "/page/shell.html", {}, 404),
        ("GET", "/api/nothing", _RIGHT, 404),
    ],
)
async def test_requests_that_are_let_in(
    shown: Viewer, method: str, path: str, headers: dict[str, str], status: int
) -> None:
    """Only GET and HEAD, with the token as a header, from this page or none, for a name of this machine."""
    response = await shown.client.request(method, path, headers=headers)
    assert response.status == status
    assert not any(name.lower().startswith("access-control") for name in response.headers)
    policy = response.headers["Content-Security-Policy"]
    assert policy.startswith("default-src 'none';")
    assert "require-trusted-types-for 'script'" in policy
    assert "unsafe" not in policy
    for name, value in {
        "Cache-Control": "no-store",
        "X-Content-Type-Options": "nosniff",
        "Cross-Origin-Opener-Policy": "same-origin",
        "Cross-Origin-Resource-Policy": "same-origin",
        "Referrer-Policy": "no-referrer",
    }.items():
        assert response.headers[name] == value
    assert "Set-Cookie" not in response.headers


async def test_beyond_loopback_addresses_and_the_own_name_are_let_in(store: Path) -> None:
    """With --host, a request may name an address or that host, and no other name."""
    async with viewer(store, host="0.0.0.0") as shown:
        for host, status in (("192.0.2.7:80", 200), ("[2001:db8::1]:80", 200), ("evil.example", 421)):
            response = await shown.client.get("/", headers={"Host": host})
            assert response.status == status


def test_tokens_and_addresses() -> None:
    """A token has 256 bits, and stands in the fragment of the address."""
    assert len({new_token() for _ in range(50)}) == 50
    assert len(new_token()) == 43
    assert viewer_url("127.0.0.1", 1, "abc") == "http://127.0.0.1:1/#token=abc"
    assert viewer_url("::1", 1, "abc") == "http://[::1]:1/#token=abc"
    loopback = {
        host: is_loopback(host)
        for host in ("127.0.0.1", "127.9.9.9", "::1", "localhost", "0.0.0.0", "::", "me")
    }
    assert [host for host, is_one in loopback.items() if is_one] == [
        "127.0.0.1",
        "127.9.9.9",
        "::1",
        "localhost",
    ]


async def test_pages_of_runs(shown: Viewer) -> None:
    """Pages go back in time without a gap or a repeat, also among runs that begin at the same moment."""
    seen: list[str] = []
    before = ""
    while True:
        page = await shown.get("/api/runs", limit=5, before=before)
        assert page["complete"]
        seen += [run["id"] for run in page["runs"]]
        if page["next"] is None:
            break
        before = page["next"]
    assert seen == [f"run-{number:06d}" for number in reversed(range(12))]
    first = (await shown.get("/api/runs", limit=1))["runs"][0]
    assert first["name"] == "answer"
    assert first["start"] == (BEGIN_NS + 11 * 60 * 10**9) // 1000
    assert first["duration"] == 3_000_000
    assert (first["spans"], first["errors"], first["models"], first["tools"]) == (5, 0, 2, 1)
    assert (first["tokens"], first["prompt"], first["completion"]) == (370, 320, 50)
    assert first["tags"] == {"team": "red"}


async def test_runs_of_one_moment_are_all_listed(tmp_path: Path) -> None:
    """The key of a page tells runs apart that begin in the same nanosecond."""
    spans = [span for number in range(7) for span in spans_of(make_run(number), 0)[:1]]
    await asyncio.to_thread(write, tmp_path / "s.sqlite3", spans)
    async with viewer(tmp_path / "s.sqlite3") as shown:
        seen: list[str] = []
        before: str | None = ""
        for _ in range(7):
            page = await shown.get("/api/runs", limit=1, before=before)
            seen += [run["id"] for run in page["runs"]]
            before = page["next"]
        assert before is None
        assert len(set(seen)) == 7


@pytest.mark.parametrize(
    ("query", "numbers"),
    [
        ({"status": "error"}, [9, 4]),
        ({"workflow": "support", "limit": 2}, [11, 9]),
        ({"user": "user-3"}, [11, 7, 3]),
        ({"conversation": "talk-0"}, [2, 1, 0]),
        ({"tag": "team:red", "limit": 2}, [11, 9]),
        ({"tag": "team:none"}, []),
        ({"tag": "team"}, []),
        ({"q": "RUN-00000"}, [9, 8, 7, 6, 5, 4, 3, 2, 1, 0]),
        ({"q": "depot"}, [9, 4]),
        ({"q": "100%"}, []),
        ({"q": "_"}, []),
        ({"min_ms": 3001}, []),
        ({"min_ms": 3000, "max_ms": 3000, "limit": 1}, [11]),
        ({"from_": (BEGIN_NS + 10 * 60 * 10**9) // 1000}, [11, 10]),
        ({"to": (BEGIN_NS + 2 * 60 * 10**9) // 1000}, [1, 0]),
        ({"status": "error", "user": "user-0", "q": "answer"}, [4]),
        ({"status": "running"}, []),
    ],
)
async def test_filters(shown: Viewer, query: dict[str, object], numbers: list[int]) -> None:
    """Filters narrow the list, each and together; % and _ are letters like others."""
    page = await shown.get("/api/runs", **query)
    assert [run["id"] for run in page["runs"]] == [f"run-{number:06d}" for number in numbers]


@pytest.mark.parametrize(
    "query", [{"min_ms": "x"}, {"from_": "1e99999"}, {"limit": "ten"}, {"limit": 10**30}]
)
async def test_wrong_numbers_are_refused(shown: Viewer, query: dict[str, object]) -> None:
    """A number that is none is an answer that says so."""
    assert "cannot be understood" in (await shown.get("/api/runs", 400, **query))["error"]


@pytest.mark.parametrize("path", ["/api/runs", "/api/facets"])
@pytest.mark.parametrize("before", ["abc", "1", "1.2.3.4", "99999999999999999999999.1", f"1.1.{1 << 63}"])
async def test_a_place_that_is_not_in_the_list_is_refused(shown: Viewer, path: str, before: str) -> None:
    """It says nothing about the store."""
    answer = await shown.get(path, 400, before=before, user="user-1")
    assert "is no place in the list" in answer["error"]


async def test_a_text_that_is_too_long_to_search_for_is_refused(shown: Viewer) -> None:
    """To look for its beginning would find what does not hold it."""
    answer = await shown.get("/api/search", 400, q="x" * 1001)
    assert "at most 1000" in answer["error"]


async def test_odd_texts_of_runs_are_found_as_they_are(tmp_path: Path) -> None:
    """Colons in the names and values of tags, NUL in names, and ids that end like a format."""
    runs = [
        make_run(0, run_id="plain", tags=(("a:b", "c:d"),)),
        make_run(1, run_id="huge", tags=(("a", "b:c:d"), ("x", "y"))),
        make_run(2, run_id="tall.otlp", tags=(("a:b:c", "d"),)),
        make_run(3, run_id="other", tags=(("a", "b"),)),
    ]
    names = ("first\0second", "first", "100% sure_", "1000 sure")
    spans = [span for number, run in enumerate(runs) for span in spans_of(run, number)]
    roots = [
        msgspec.structs.replace(span, name=names[runs.index(span.run)]) if span.parent_id is None else span
        for span in spans
    ]
    path = tmp_path / "s.sqlite3"
    await asyncio.to_thread(write, path, roots)

    async def found(**query: object) -> list[str]:
        return [run["id"] for run in (await odd.get("/api/runs", **query))["runs"]]

    async with viewer(path) as odd:
        assert await found(tag="a:b:c:d") == ["tall.otlp", "huge", "plain"]
        assert await found(tag="a:b") == ["other"]
        assert await found(tag="x:y") == ["huge"]
        assert await found(q="second") == ["plain"]
        assert await found(q="FIRST\0SEC") == ["plain"]
        assert await found(q="first\0x") == []
        assert await found(q="0% sure_") == ["tall.otlp"]
        for run_id in ("huge", "tall.otlp"):
            response = await odd.ask(f"/api/export/{run_id}.json")
            assert response.status == 200
            assert json.loads(await response.text())["run"]["run"]["id"] == run_id


async def test_facets(shown: Viewer) -> None:
    """Facets count what passes the filter, and the histogram adds up to it."""
    counts = await shown.get("/api/facets")
    assert counts["total"] == 12
    assert dict(counts["status"]) == {"ok": 10, "error": 2}
    assert dict(counts["workflow"]) == {"support": 6, "search": 6}
    assert sum(bar[1] for bar in counts["histogram"]) == 12
    assert sum(bar[2] for bar in counts["histogram"]) == 2
    assert counts["from"] <= BEGIN_NS // 1000
    assert (await shown.get("/api/facets", status="error"))["total"] == 2
    assert (await shown.get("/api/facets", user="nobody"))["histogram"] == []


async def test_a_run_and_its_neighbours(shown: Viewer) -> None:
    """A run comes with its neighbours in time, and with nothing that is not known."""
    answer = await shown.get("/api/runs/run-000004")
    assert answer["run"]["error"] == "ConnectionError: the depot does not answer"
    assert (answer["older"], answer["newer"]) == ("run-000003", "run-000005")
    assert answer["ledgers"] == []
    assert "no such run" in (await shown.get("/api/runs/none", 404))["error"]
    assert "no such span" in (await shown.get("/api/runs/run-000004/spans/none", 404))["error"]
    await shown.get("/api/runs/none/spans", 404)


async def test_spans_column_by_column(shown: Viewer) -> None:
    """The light columns have what a waterfall needs, relative to the run's start."""
    spans = await shown.get("/api/runs/run-000001/spans")
    rows = [
        (spans["names"][spans["name"][at]], spans["kinds"][spans["kind"][at]], spans["from"][at])
        for at in range(5)
    ]
    assert rows[0] == ("answer", "AGENT", 0)
    assert rows[2] == ("swift-1", "LLM", 350_000)
    assert spans["length"][0] == 3_000_000
    assert spans["first"][2] == 500_000
    assert spans["tokens"][2] == 150
    assert spans["parent"] == [None] + [spans["id"][0]] * 4
    assert (spans["next"], spans["total"]) == (None, 5)
    assert (await shown.get("/api/runs/run-000001/spans", after=spans["cursor"]))["id"] == []


async def test_many_spans_come_in_pieces(tmp_path: Path) -> None:
    """The first answer is short so that something is shown; those after it have the rest, each span once."""
    await asyncio.to_thread(write, tmp_path / "s.sqlite3", large_run(0, 6000))
    async with viewer(tmp_path / "s.sqlite3") as shown:
        first = await shown.get("/api/runs/large-6000/spans")
        assert (len(first["id"]), first["total"]) == (5000, 6000)
        rest = await shown.get("/api/runs/large-6000/spans", after=first["next"])
        assert rest["next"] is None
        assert len({*first["id"], *rest["id"]}) == 6000


async def test_content_in_pieces(tmp_path: Path) -> None:
    """Content comes in pieces of at most 64 KB that join to the whole, whatever its characters' size."""
    text = "aé字𝄞" * 20_000 + "\0end"
    span = spans_of(make_run(0), 0)[1]
    await asyncio.to_thread(
        write,
        tmp_path / "s.sqlite3",
        [type(span)(**{**{f: getattr(span, f) for f in span.__struct_fields__}, "input": text})],
    )
    async with viewer(tmp_path / "s.sqlite3") as shown:
        path = f"/api/runs/run-000000/spans/{span.span_id}"
        piece = (await shown.get(path))["parts"]["input"]
        assert piece["length"] == len(text.encode())
        got = piece["text"]
        while piece["next"] is not None:
            piece = await shown.get(path, part="input", offset=piece["next"])
            assert 0 < len(piece["text"].encode()) <= 65_536
            got += piece["text"]
        assert got == text
        assert (await shown.get(path, part="input", offset=10**9))["text"] == ""
        await shown.get(path, 404, part="run_id", offset=0)
        await shown.get(path, 404, part="input; DROP TABLE spans", offset=0)


async def test_what_a_span_holds(shown: Viewer) -> None:
    """A span comes with its model, usage, error, events and links."""
    spans = await shown.get("/api/runs/run-000004/spans")
    tool = await shown.get(f"/api/runs/run-000004/spans/{spans['id'][3]}")
    assert tool["error"] == {"type": "ConnectionError", "message": "the depot does not answer"}
    assert json.loads(tool["parts"]["events"]["text"])[0]["name"] == "retry"
    assert json.loads(tool["parts"]["links"]["text"])[0]["trace_id"] == "ab" * 16
    model = await shown.get(f"/api/runs/run-000004/spans/{spans['id'][4]}")
    assert model["model"] == "slow-1"
    assert model["usage"] == {"prompt_tokens": 200, "completion_tokens": 20, "total_tokens": 220}
    assert model["tags"] == ["final"]


async def test_comparison(shown: Viewer) -> None:
    """Runs are compared in structure, status, content and tokens, and the first divergence is named."""
    same = await shown.get("/api/compare", a="run-000001", b="run-000001")
    assert same["first"] is None
    assert all(not pair["differs"] for pair in same["pairs"])
    other = await shown.get("/api/compare", a="run-000003", b="run-000004")
    assert other["first"] == 0
    assert other["pairs"][0]["differs"] == ["status", "content"]
    assert [pair["differs"] for pair in other["pairs"]][1] == []
    assert len(other["pairs"]) == 5
    await shown.get("/api/compare", 404, a="run-000003", b="none")


async def test_a_comparison_pairs_what_one_side_lacks(tmp_path: Path) -> None:
    """A span that only one run has stands alone, and what follows it is paired again."""
    one, other = spans_of(make_run(0), 0), spans_of(make_run(1), 1)
    await asyncio.to_thread(write, tmp_path / "s.sqlite3", [*one, *other[:1], *other[2:]])
    async with viewer(tmp_path / "s.sqlite3") as shown:
        answer = await shown.get("/api/compare", a="run-000000", b="run-000001")
        assert [pair["differs"] == ["structure"] for pair in answer["pairs"]] == [
            False,
            True,
            False,
            False,
            False,
        ]
        assert answer["pairs"][1]["b"] is None


async def test_exports(shown: Viewer) -> None:
    """A run is exported as JSON, as OTLP JSON and as one HTML file, under a name that any file system takes."""
    response = await shown.ask("/api/export/run-000004.json")
    assert response.headers["Content-Disposition"] == 'attachment; filename="run-run-000004.json"'
    whole = await response.json()
    assert len(whole["content"]) == len(whole["spans"]["id"]) == 5
    assert whole["run"]["run"]["id"] == "run-000004"
    response = await shown.ask("/api/export/run-000004.otlp.json")
    (scope,) = (await response.json())["resourceSpans"][0]["scopeSpans"]
    tool = next(span for span in scope["spans"] if span["name"] == "execute_tool track")
    assert tool["traceId"] == f"{5:032x}"
    assert tool["status"]["code"] == 2
    assert [event["name"] for event in tool["events"]] == ["retry", "exception"]
    assert {"key": "input.mime_type", "value": {"stringValue": "application/json"}} in tool["attributes"]
    response = await shown.ask("/api/export/run-000004.html")
    page = await response.text()
    assert page.count("<script") == 2
    assert "default-src 'none'" in page
    assert "Copyright" in page  # of what the bundle holds
    data = page.split('id="data">')[1].split("</script>")[0]
    assert json.loads(data)["runs"][0]["run"]["run"]["id"] == "run-000004"
    assert (await shown.ask("/api/export/run-000004.exe")).status == 404
    assert (await shown.ask("/api/export/none.html")).status == 404


async def test_changes_are_streamed(tmp_path: Path) -> None:
    """The stream begins with a cursor, and reports the runs of what is written afterwards."""
    path = await asyncio.to_thread(make_store, tmp_path / "s.sqlite3", 2)
    async with viewer(path) as shown:
        response = await shown.ask("/api/live")
        first = json.loads(await response.content.readline())
        assert first == {"cursor": 10, "runs": []}
        await asyncio.to_thread(write, path, spans_of(make_run(7), 7))
        change = json.loads(await response.content.readline())
        assert change["runs"] == ["run-000007"]
        response.close()
        # Whoever comes back with an older cursor gets what was missed.
        response = await shown.ask("/api/live", after=first["cursor"])
        await response.content.readline()
        assert json.loads(await response.content.readline())["runs"] == ["run-000007"]
        response.close()


async def test_nothing_is_written_to_the_store(store: Path) -> None:
    """Whatever is asked, the file's bytes stay."""
    before = hashlib.sha256(store.read_bytes()).digest()
    async with viewer(store) as shown:
        for path in (
            "/api/runs",
            "/api/facets",
            "/api/store",
            "/api/search?q=parcel",
            "/api/runs/run-000001/spans",
        ):
            await shown.get(path)
    assert hashlib.sha256(store.read_bytes()).digest() == before


async def test_cells_of_a_wrong_type(tmp_path: Path) -> None:
    """A run whose times and tags are none is a message, or shown as far as it goes; the others are as they were."""
    path = await asyncio.to_thread(make_store, tmp_path / "s.sqlite3", 3)
    with contextlib.closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("UPDATE runs SET start_ns = 'soon', tags = '[' WHERE run_id = 'run-000002'")
        connection.execute(
            "UPDATE spans SET start_ns = 'soon', total_tokens = 'few', links = '[3]' WHERE id = 7"
        )
        connection.execute(
            "INSERT INTO ledgers VALUES (1, 'run-000001', 'main', 'many', x'ff', '', 0, '{', 1)"
        )
        connection.execute("INSERT INTO processes VALUES ('p', 'one', x'ff', 'soon', 'late', NULL)")
        connection.execute("UPDATE kinds SET span_count = 9e999")
    async with viewer(path, index=True) as shown:
        await shown.indexed()
        facts = await shown.get("/api/store")
        assert [each["exporter"] for each in facts["exporters"]] == ["main"]
        listed = await shown.get("/api/runs")
        assert {"run-000001", "run-000000"} <= {run["id"] for run in listed["runs"]}
        assert (await shown.get("/api/facets"))["total"] == 3
        for each in ("/api/runs/run-000002", "/api/runs/run-000001/spans", "/api/stats"):
            response = await shown.ask(each)
            answer = await response.json()
            assert response.status == 200 or str(path) in answer["error"], each


async def test_files_that_are_no_store(tmp_path: Path, store: Path) -> None:
    """What is truncated, foreign, damaged, empty or missing is a message with a cure, and is left as it is."""
    for name, path in damaged(tmp_path, store):
        before = path.read_bytes()
        async with viewer(path, index=True) as shown:
            for each in ("/api/runs", "/api/store", "/api/search?q=parcel", "/api/runs/run-000001/spans"):
                response = await shown.ask(each)
                answer = await response.json()
                if name in ("truncated", "damaged pages") and response.status == 200:
                    continue  # these pages were whole
                assert response.status in (404, 500), (name, each, answer)
                assert str(path) in answer["error"]
        assert path.read_bytes() == before, name
    async with viewer(tmp_path / "none.sqlite3") as shown:
        assert "does not exist" in (await shown.get("/api/runs", 404))["error"]
    assert not (tmp_path / "none.sqlite3").exists()


async def test_a_newer_store_is_refused(tmp_path: Path) -> None:
    """A store of a newer version is a message that says to upgrade."""
    path = await asyncio.to_thread(make_store, tmp_path / "s.sqlite3", 1)
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA user_version = 99")
    connection.close()
    async with viewer(path) as shown:
        assert "Upgrade nat-observability" in (await shown.get("/api/runs", 500))["error"]


async def test_a_store_that_is_replaced(tmp_path: Path) -> None:
    """A file that is put in the store's place is read from the next request on."""
    path = await asyncio.to_thread(make_store, tmp_path / "s.sqlite3", 3)
    async with viewer(path) as shown:
        assert len((await shown.get("/api/runs"))["runs"]) == 3
        os.replace(await asyncio.to_thread(make_store, tmp_path / "other.sqlite3", 1), path)
        for suffix in ("-wal", "-shm"):
            Path(f"{path}{suffix}").unlink(missing_ok=True)
        for _ in range(6):  # on each thread that has the old file open
            assert len((await shown.get("/api/runs"))["runs"]) == 1


@pytest.mark.skipif(os.geteuid() == 0, reason="root writes everywhere")
async def test_a_read_only_folder(tmp_path: Path, store: Path) -> None:
    """A copied store in a folder that cannot be written is shown."""
    folder = tmp_path / "sealed"
    folder.mkdir()
    shutil.copy(store, folder / "s.sqlite3")
    folder.chmod(stat.S_IRUSR | stat.S_IXUSR)
    try:
        async with viewer(folder / "s.sqlite3", index=True) as shown:
            assert len((await shown.get("/api/runs"))["runs"]) == 12
            await shown.indexed()
    finally:
        folder.chmod(stat.S_IRWXU)


async def test_the_log_stays_bounded_while_a_page_looks_on(tmp_path: Path) -> None:
    """No read leaves a transaction open: a checkpoint gets everything, however long a page has been open."""
    path = await asyncio.to_thread(make_store, tmp_path / "s.sqlite3", 2)
    async with viewer(path) as shown:
        live = await shown.ask("/api/live")
        await live.content.readline()
        await shown.get("/api/runs")
        await asyncio.to_thread(write, path, large_run(9, 2000))
        connection = sqlite3.connect(path)
        busy, pages, moved = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        connection.close()
        assert (busy, pages, moved) == (0, 0, 0)
        live.close()


async def test_facts_about_the_store(shown: Viewer, store: Path) -> None:
    """The store's page has its size, its counts and its version."""
    facts = await shown.get("/api/store")
    assert (facts["runs"], facts["spans"], facts["version"]) == (12, 60, 2)
    assert facts["size"] == store.stat().st_size
    assert facts["sidecar"]["state"] == "off"


async def test_what_became_of_the_items_of_each_exporter(tmp_path: Path) -> None:
    """The store's page sums it up, losses by their reason."""
    path = await asyncio.to_thread(make_store, tmp_path / "s.sqlite3", 2)
    sink = await asyncio.to_thread(SqliteSink, path)
    await asyncio.to_thread(sink.open)
    ledgers = [
        RunLedger("run-000000", "main", 9, 4, 2, 0, {"queue_full": 3}),
        RunLedger("run-000001", "main", 8, 5, 0, 0, {"queue_full": 1, "closed": 2}),
        RunLedger("run-000001", "other", 5, 4, 0, 1, {}),
    ]
    await asyncio.to_thread(sink.write_report, ledgers)
    await asyncio.to_thread(sink.close)
    async with viewer(path) as shown:
        facts = await shown.get("/api/store")
    main = {
        "accepted": 17,
        "delivered": 9,
        "failed": 2,
        "pending": 0,
        "dropped": {"queue_full": 4, "closed": 2},
    }
    other = {"accepted": 5, "delivered": 4, "failed": 0, "pending": 1, "dropped": {}}
    assert sorted(facts["exporters"], key=lambda each: each["exporter"]) == [
        {"exporter": "main", "runs": 2, **main},
        {"exporter": "other", "runs": 1, **other},
    ]


async def test_facts_about_a_store_of_version_1(tmp_path: Path) -> None:
    """It has neither ledgers nor processes, and its spans are counted."""
    path = tmp_path / "old.sqlite3"
    await asyncio.to_thread(make_old_store, path)
    async with viewer(path) as shown:
        facts = await shown.get("/api/store")
    with contextlib.closing(sqlite3.connect(path)) as connection:
        (spans,) = connection.execute("SELECT count(*) FROM spans").fetchone()
    assert (facts["version"], facts["spans"]) == (1, spans)
    assert (facts["exporters"], facts["processes"]) == ([], [])
