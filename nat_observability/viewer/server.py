"""The viewer's server: its routes, and how long it runs."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import msgspec
from aiohttp import web

from nat_observability.errors import SinkError
from nat_observability.viewer import comparison, export, facets, live, runs, search, spans, statistics
from nat_observability.viewer.filtering import Filter
from nat_observability.viewer.security import Gate, add_headers, problem
from nat_observability.viewer.sidecar.index import Index
from nat_observability.viewer.store_facts import store_facts
from nat_observability.viewer.store_file import Reader, ReadTimeoutError, StoreFile

_T = TypeVar("_T")
_FOLDER = Path(__file__).parent / "page"
_TYPES = {"js": "text/javascript", "css": "text/css", "svg": "image/svg+xml", "html": "text/html"}
_FILES = ("app.js", "app.css", "plots.js", "icon.svg")
_MOST_STREAMS = 32

_PAGE: web.AppKey[dict[str, bytes]] = web.AppKey("page", dict)
_STORE: web.AppKey[StoreFile] = web.AppKey("store", StoreFile)
_INDEX: web.AppKey[Index] = web.AppKey("index", Index)
_STREAMS: web.AppKey[set[object]] = web.AppKey("streams", set)
_ENDED: web.AppKey[asyncio.Event] = web.AppKey("ended", asyncio.Event)


def build_app(path: str, token: str, *, host: str = "127.0.0.1", index: bool = True) -> web.Application:
    """
    Return the server of one viewer, not yet listening.

    Args:
        path: The store. What is not there yet, or cannot be read, is said in each answer.
        token: What requests have to carry.
        host: Where it will listen; the names in requests are checked against it.
        index: Whether to keep an index for search and statistics beside the store.
    """
    app = web.Application(middlewares=[Gate(token, host).middleware, _explain])
    store = StoreFile(path)
    app[_PAGE] = {name: (_FOLDER / name).read_bytes() for name in (*_FILES, "shell.html")}
    app[_STORE] = store
    app[_INDEX] = Index(store, enabled=index)
    app[_STREAMS] = set()
    app[_ENDED] = asyncio.Event()
    app.cleanup_ctx.append(_open)
    app.on_shutdown.append(_end_streams)
    app.router.add_get("/", _shell)
    app.router.add_get("/page/{name}", _page_file)
    app.router.add_get("/api/runs", _runs)
    app.router.add_get("/api/facets", _facets)
    app.router.add_get("/api/runs/{run}", _run)
    app.router.add_get("/api/runs/{run}/spans", _spans)
    app.router.add_get("/api/runs/{run}/spans/{span}", _span)
    app.router.add_get("/api/search", _search)
    app.router.add_get("/api/stats", _stats)
    app.router.add_get("/api/compare", _compare)
    app.router.add_get("/api/store", _store)
    app.router.add_get("/api/live", _live)
    app.router.add_get("/api/export/{name}", _export)
    return app


async def _open(app: web.Application) -> AsyncIterator[None]:
    app[_INDEX].start()
    yield
    await asyncio.to_thread(app[_INDEX].close)
    await asyncio.to_thread(app[_STORE].close)


async def _end_streams(app: web.Application) -> None:
    app[_ENDED].set()


@web.middleware
async def _explain(request: web.Request, handler: Callable[..., Any]) -> web.StreamResponse:
    try:
        response: web.StreamResponse = await handler(request)
    except ReadTimeoutError as error:
        return problem(503, str(error))
    except SinkError as error:
        return problem(404 if "does not exist" in str(error) else 500, str(error))
    except (msgspec.ValidationError, ValueError) as error:
        return problem(400, f"The address cannot be understood: {error}")
    except (AttributeError, IndexError, OverflowError, TypeError) as error:
        # A cell of a damaged page, which SQLite returns as it is.
        return problem(
            500, f"{request.app[_STORE].path}: holds a row that cannot be read: {error}. The file is damaged."
        )
    return response


async def _shell(request: web.Request) -> web.Response:
    return _file(request, "shell.html")


async def _page_file(request: web.Request) -> web.Response:
    name = request.match_info["name"]
    return _file(request, name) if name in _FILES else problem(404, "There is no such file.")


def _file(request: web.Request, name: str) -> web.Response:
    content_type = _TYPES[name.rpartition(".")[2]]
    return web.Response(body=request.app[_PAGE][name], content_type=content_type, charset="utf-8")


def _answer(value: object) -> web.Response:
    return web.Response(body=msgspec.json.encode(value), content_type="application/json")


def _found(value: object, what: str) -> web.Response:
    return (
        problem(404, f"The store holds no such {what}: it may have been deleted.")
        if value is None
        else _answer(value)
    )


async def _read(request: web.Request, job: Callable[[Reader], _T], seconds: float = 5.0) -> _T:
    return await request.app[_STORE].read(job, seconds)


def _integer(request: web.Request, name: str, default: int) -> int:
    text = request.query.get(name)
    number = int(text) if text else default
    if abs(number) >= 1 << 63:
        raise ValueError(f"{name} is out of range")
    return number


async def _runs(request: web.Request) -> web.Response:
    wanted = Filter.of(request.query)
    before, limit = request.query.get("before"), _integer(request, "limit", 50)
    return _answer(await _read(request, lambda reader: runs.list_runs(reader, wanted, before, limit)))


async def _facets(request: web.Request) -> web.Response:
    wanted = Filter.of(request.query)
    before, index = request.query.get("before"), request.app[_INDEX]
    return _answer(await _read(request, lambda reader: facets.facets(reader, index, wanted, before), 3.0))


async def _run(request: web.Request) -> web.Response:
    run = request.match_info["run"]
    return _found(await _read(request, lambda reader: runs.one_run(reader, run)), "run")


async def _spans(request: web.Request) -> web.Response:
    run, after = request.match_info["run"], _integer(request, "after", 0)
    limit = _integer(request, "limit", spans.MOST_SPANS)
    return _found(
        await _read(request, lambda reader: spans.list_spans(reader, run, after, limit), 20.0), "run"
    )


async def _span(request: web.Request) -> web.Response:
    run, span = request.match_info["run"], request.match_info["span"]
    part = request.query.get("part")
    if part is None:
        return _found(await _read(request, lambda reader: spans.one_span(reader, run, span)), "span")
    offset = max(0, _integer(request, "offset", 0))
    return _found(
        await _read(request, lambda reader: spans.one_part(reader, run, span, part, offset)), "content"
    )


async def _search(request: web.Request) -> web.Response:
    query, index = request.query, request.app[_INDEX]
    text, run, before = query.get("q", ""), query.get("run"), _integer(request, "before", 0)
    return _answer(await _read(request, lambda reader: search.search(reader, index, text, run, before), 3.0))


async def _stats(request: web.Request) -> web.Response:
    query, index = request.query, request.app[_INDEX]
    begin, end = _integer(request, "from", 0), _integer(request, "to", 0)
    by, only = query.get("by", "name"), query.get("only")
    return _answer(await asyncio.to_thread(statistics.statistics, index, by, begin, end or None, only))


async def _compare(request: web.Request) -> web.Response:
    a, b = request.query.get("a", ""), request.query.get("b", "")
    return _found(await _read(request, lambda reader: comparison.compare(reader, a, b), 20.0), "run")


async def _store(request: web.Request) -> web.Response:
    index = request.app[_INDEX]
    return _answer(await _read(request, lambda reader: store_facts(reader, index)))


async def _live(request: web.Request) -> web.StreamResponse:
    streams = request.app[_STREAMS]
    if len(streams) >= _MOST_STREAMS:
        return problem(503, "Too many pages follow the store: close some.")
    cursor = _integer(request, "after", 0) if "after" in request.query else None
    stream = object()
    streams.add(stream)
    try:
        return await _follow(request, cursor)
    finally:
        streams.discard(stream)


async def _follow(request: web.Request, cursor: int | None) -> web.StreamResponse:
    response = web.StreamResponse(headers={"Content-Type": "application/x-ndjson"})
    add_headers(response)
    async with contextlib.aclosing(live.changes(request.app[_STORE], cursor, request.app[_ENDED])) as changes:
        first = await anext(changes)  # what cannot be read is an answer of its own
        with contextlib.suppress(ConnectionResetError):  # the page was closed
            await response.prepare(request)
            if request.method == "HEAD":
                return response
            await response.write(msgspec.json.encode(first) + b"\n")
            async for change in changes:
                await response.write(msgspec.json.encode(change) + b"\n")
            await response.write_eof()
    return response


async def _export(request: web.Request) -> web.StreamResponse:
    name = request.match_info["name"]
    # The id of a run may end like a format.
    parts = [(name[: -len(each) - 1], each) for each in export.FORMATS if name.endswith(f".{each}")]
    if not parts:
        return problem(404, f"There is no such format. Known: {', '.join(export.FORMATS)}.")
    store = request.app[_STORE]
    for run_id, suffix in parts:  # noqa: B007  the one that is found is used below
        if await store.read(partial(runs.find_run, run_id=run_id)) is not None:
            break
    else:
        return problem(404, "The store holds no such run: it may have been deleted.")
    response = web.StreamResponse(headers={"Content-Type": export.FORMATS[suffix]})
    response.headers["Content-Disposition"] = f'attachment; filename="{export.file_name(run_id, suffix)}"'
    add_headers(response)
    await response.prepare(request)
    if request.method == "HEAD":
        return response
    with contextlib.suppress(ConnectionResetError):
        async for piece in export.pieces(store, run_id, suffix):
            await response.write(piece)
        await response.write_eof()
    return response
