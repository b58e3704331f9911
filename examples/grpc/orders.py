"""
A gRPC service whose calls are runs, without generated code: its messages are bytes.

`python -m examples.grpc.orders` serves until it is stopped (SIGTERM, Ctrl-C), and
`python -m examples.grpc.orders tea milk` orders tea and milk. ADDRESS is where it listens. Needs the extra grpc.
"""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from typing import Any

import grpc
import grpc.aio

from nat_observability import step
from nat_observability.containers import ObservabilityContainer, run
from nat_observability.integrations import ProcessScope
from nat_observability.integrations.clients.grpc import aio_interceptors as client_interceptors
from nat_observability.integrations.grpc import aio_interceptors

ADDRESS = os.environ.get("ADDRESS", "127.0.0.1:50051")


async def handle_order(orders: AsyncIterator[bytes], context: Any) -> AsyncIterator[bytes]:
    """Do the work of one call: an answer for each order."""
    async for order in orders:
        with step("tool", "charge", input={"order": order.decode()}) as charge:
            charge.output = "paid"
        yield b"a bill for " + order


async def serve() -> None:
    """Serve until the process is asked to stop; calls in progress have three seconds."""
    container, ending = ObservabilityContainer(), asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, ending.set)
    # From here on the exporters are open, until this block drains them.
    async with ProcessScope(container, "grpc"):
        server = grpc.aio.server(interceptors=aio_interceptors(container))
        methods: dict[str, Any] = {"HandleOrder": grpc.stream_stream_rpc_method_handler(handle_order)}
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("shop.Orders", methods),))
        server.add_insecure_port(ADDRESS)
        await server.start()
        await ending.wait()
        await server.stop(3)


async def order(things: list[str]) -> None:
    """Send orders; the run that handles them continues the trace of this one."""
    async with grpc.aio.insecure_channel(ADDRESS, interceptors=client_interceptors()) as channel:
        handle: Any = channel.stream_stream("/shop.Orders/HandleOrder")
        async for bill in handle([thing.encode() for thing in things], wait_for_ready=True):
            print(bill.decode())


if __name__ == "__main__":
    if len(sys.argv) > 1:
        run(order(sys.argv[1:]), job="order", user_id="somebody")
    else:
        asyncio.run(serve())
