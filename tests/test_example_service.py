"""The example service, with a real database, a real supplier over TLS and a real OTLP receiver."""

from __future__ import annotations

import asyncio
import sqlite3
import ssl
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trustme
from aiohttp import web
from dependency_injector import providers

from examples.service.containers import ServiceContainer, opened, running
from examples.service.settings import ServiceSettings, TlsSettings
from nat_observability import ContextState, SettingsError, step
from nat_observability.settings import ObservabilitySettings
from nat_observability.testing import CapturingExporter
from tests.otlp_receiver import OtlpReceiver

ROOT = Path(__file__).parents[1]

# Opening a service reads certificates and makes paths absolute, once.
pytestmark = pytest.mark.may_block


def settings(folder: Path, name: str = "tea", **values: Any) -> ServiceSettings:
    """Settings of an instance that keeps its files in `folder`."""
    return ServiceSettings(name=name, database=folder / f"{name}.sqlite", **values)


def configured(
    folder: Path, exporters: dict[str, Any], *, shutdown_timeout: float = 10.0, **values: Any
) -> ServiceContainer:
    """Return a service, not yet opened, whose telemetry is configured by the test."""
    service = ServiceContainer()
    service.settings.service.override(providers.Object(settings(folder, **values)))
    telemetry = ObservabilitySettings(exporters=exporters, shutdown_timeout=shutdown_timeout)
    service.settings.observability.override(providers.Object(telemetry))
    return service


def stored(folder: Path, query: str, name: str = "tea") -> list[tuple[Any, ...]]:
    """Ask an instance's database."""
    connection = sqlite3.connect(folder / f"{name}.sqlite")
    try:
        return connection.execute(query).fetchall()
    finally:
        connection.close()


def test_the_example_runs(tmp_path: Path) -> None:
    """As a program, without an error or a warning; it prints what both instances have kept."""
    ran = subprocess.run(
        [sys.executable, "-W", "error", "-m", "examples.service"],
        capture_output=True,
        text=True,
        check=False,
        env={"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin"},
        cwd=tmp_path,
    )
    assert (ran.returncode, ran.stderr) == (0, "")
    assert ran.stdout.splitlines() == [
        "Drink green tea (price: unknown).",
        "Drink black tea (price: unknown).",
        "Drink white tea (price: unknown).",
        "Drink black tea (price: unknown).",
        "acme's journal: 8 steps",
        "umbrella's journal: 4 steps",
        "north's database: 24 boundaries of steps, 3 runs",
        "south's database: 8 boundaries of steps, 1 runs",
    ]


async def test_steps_go_through_the_services_pool(tmp_path: Path) -> None:
    """All of a run's are in its table when the run has ended, those of threads too, and the ledger adds up."""
    async with running(settings(tmp_path, pool_size=1)) as service:
        manager = service.observability.exporter_manager()
        async with manager.start(ContextState(user_id="acme/ann")):
            await asyncio.gather(*(asyncio.to_thread(record, 20) for _ in range(4)))
        ledger = manager.report.exporters["database"].ledger
        assert ledger is not None
        assert (ledger.accepted, ledger.delivered, ledger.pending) == (160, 160, 0)
        assert ledger.adds_up
        assert stored(tmp_path, "SELECT count(*), count(DISTINCT run), max(user) FROM step") == [
            (160, 1, "acme/ann")
        ]


def record(count: int) -> None:
    """Record steps on the calling thread."""
    for _ in range(count):
        with step("tool", "a"):
            pass


async def test_a_full_queue_drops_and_counts(tmp_path: Path) -> None:
    """Its bound is the exporter's setting, as with every other type."""
    service = configured(tmp_path, {"database": {"type": "database", "queue_items": 5}})
    async with opened(service):
        manager = service.observability.exporter_manager()
        async with manager.start(ContextState()):
            record(10)  # without a moment for the writer
        ledger = manager.report.exporters["database"].ledger
        assert ledger is not None
        assert (ledger.accepted, ledger.delivered, ledger.dropped) == (20, 5, {"queue_full": 15})


async def test_a_database_that_fails(tmp_path: Path) -> None:
    """The run goes on; the report has the error, and counts what was not written."""
    async with running(settings(tmp_path)) as service:
        async with service.gateways.pool().connection() as connection:
            await connection.execute("DROP TABLE step")
        manager = service.observability.exporter_manager()
        async with manager.start(ContextState()):
            record(3)
        report = manager.report.exporters["database"]
        assert report.ledger is not None
        assert (report.ledger.failed, report.ledger.delivered) == (6, 0)
        assert "no such table" in str(report.error)


async def test_a_pool_that_is_stuck(tmp_path: Path) -> None:
    """The run ends with its deadline, and nothing of the exporter is left."""
    service = configured(tmp_path, {"database": {"type": "database"}}, pool_size=1, shutdown_timeout=0.05)
    async with opened(service):
        manager = service.observability.exporter_manager()
        async with service.gateways.pool().connection(), manager.start(ContextState()):
            record(1)
        ledger = manager.report.exporters["database"].ledger
        assert ledger is not None
        assert (ledger.accepted, ledger.dropped) == (2, {"shutdown_timeout": 2})


async def test_each_tenants_journal_has_its_own_runs(tmp_path: Path) -> None:
    """And no others: a tenant without a journal, and a run without a user, are in none."""
    tenants = {"acme": tmp_path / "acme.txt", "umbrella": tmp_path / "umbrella.txt"}
    async with running(settings(tmp_path, tenants=tenants)) as service:
        advisor = service.work.advisor()
        await asyncio.gather(
            *(advisor.advise(user, 80) for user in ("acme/ann", "umbrella/bob", "acme/eve", "other/joe", ""))
        )
        with pytest.raises(LookupError):
            await advisor.advise("umbrella/bob", 20)
    journals = {tenant: path.read_text().splitlines() for tenant, path in tenants.items()}
    assert {line.split("/")[0] for line in journals["acme"]} == {"acme"}
    assert len(journals["acme"]) == 8
    assert journals["umbrella"][-1] == "umbrella/bob workflow advise error"
    assert len(journals["umbrella"]) == 6
    assert stored(tmp_path, "SELECT count(DISTINCT run) FROM step") == [(6,)]


async def test_exporters_are_overridden_in_a_test(tmp_path: Path) -> None:
    """One line, in the embedded container; the service's own parts stay real."""
    service = ServiceContainer()
    service.settings.service.override(providers.Object(settings(tmp_path)))
    exporter = CapturingExporter()
    service.observability.exporters.override(providers.Object({"captured": exporter}))
    async with opened(service):
        assert await service.work.advisor().advise("acme/ann", 75) == "Drink green tea (price: unknown)."
    tree = exporter.tree
    tree.one("tool", "price", under=("llm", "house-model"))
    assert tree.one("tool", "find", under="workflow").output == "green"
    assert len(tree) == 4
    assert stored(tmp_path, "SELECT * FROM step") == []


async def test_two_instances_at_once(tmp_path: Path) -> None:
    """Each has its own database, exporters, pool and name."""
    tenants = {"acme": tmp_path / "acme.txt"}
    north, south = settings(tmp_path, "north", tenants=tenants), settings(tmp_path, "south", pool_size=1)
    async with running(north) as one, running(south) as other:
        await asyncio.gather(
            *(one.work.advisor().advise("acme/ann", 75) for _ in range(3)),
            *(other.work.advisor().advise("acme/ann", 75) for _ in range(2)),
        )
        assert set(one.observability.exporters()) == {"database", "journal-acme"}
        assert set(other.observability.exporters()) == {"database"}
        assert one.gateways.pool() is not other.gateways.pool()
    assert stored(tmp_path, "SELECT count(DISTINCT run) FROM step", "north") == [(3,)]
    assert stored(tmp_path, "SELECT count(DISTINCT run) FROM step", "south") == [(2,)]
    assert len(tenants["acme"].read_text().splitlines()) == 12


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    """Who issues the certificates of supplier, collector and service."""
    return trustme.CA()


@pytest.fixture
def tls(authority: trustme.CA, tmp_path: Path) -> TlsSettings:
    """The service's side of TLS: what it trusts and what it presents."""
    leaf = authority.issue_cert("tea.example")
    files = {name: tmp_path / f"{name}.pem" for name in ("ca_file", "client_certificate", "client_key")}
    authority.cert_pem.write_to_path(files["ca_file"])
    leaf.cert_chain_pems[0].write_to_path(files["client_certificate"])
    leaf.private_key_pem.write_to_path(files["client_key"])
    return TlsSettings(**files)


def server_context(authority: trustme.CA) -> ssl.SSLContext:
    """The server's side, which accepts only clients with a certificate of the same authority."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    authority.configure_trust(context)
    context.verify_mode = ssl.CERT_REQUIRED
    return context


@asynccontextmanager
async def supplier(authority: trustme.CA) -> AsyncIterator[str]:
    """A supplier over HTTPS."""

    async def price(request: web.Request) -> web.Response:
        return web.Response(text=f"{len(request.match_info['tea'])}.00")

    application = web.Application()
    application.router.add_get("/price/{tea}", price)
    runner = web.AppRunner(application)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=server_context(authority))
    await site.start()
    yield f"https://127.0.0.1:{runner.addresses[0][1]}"
    await runner.cleanup()


async def test_one_tls_configuration_for_all_connections(
    authority: trustme.CA, tls: TlsSettings, tmp_path: Path
) -> None:
    """The supplier and the collector ask for a certificate, and both are shown the service's."""
    with OtlpReceiver(tls=server_context(authority)) as collector:
        async with supplier(authority) as url:
            given = settings(tmp_path, "spa", suppliers_url=url, collector_url=collector.url, tls=tls)
            async with running(given) as service:
                assert await service.work.advisor().advise("acme/ann", 75) == "Drink green tea (price: 5.00)."
    assert {span.name for span in collector.spans} == {
        *("invoke_workflow advise", "execute_tool find", "chat house-model", "execute_tool price")
    }
    (resource,) = collector.requests[0].resources
    assert {each.key: each.value.string_value for each in resource.attributes}["service.name"] == "spa"


async def test_a_wrong_setting_opens_nothing(tmp_path: Path) -> None:
    """A missing certificate, and an option that a journal lacks, are reported before anything is open."""
    nowhere = TlsSettings(ca_file=tmp_path / "nowhere.pem")
    given = settings(tmp_path, collector_url="https://127.0.0.1:1", tls=nowhere)
    with pytest.raises(SettingsError, match=r"EXPORTERS__COLLECTOR.*nowhere"):
        async with running(given):
            raise AssertionError
    service = configured(tmp_path, {"j": {"type": "journal", "path": "a"}})
    with pytest.raises(SettingsError, match="NAT_OBSERVABILITY_EXPORTERS__J__TENANT"):
        async with opened(service):
            raise AssertionError
    assert not await asyncio.to_thread(given.database.exists)
