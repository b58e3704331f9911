"""Orders: the shop's work. It knows steps, and nothing of runs, exporters or frameworks."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable

from examples.shop.gateways import Pool, Suppliers
from nat_observability import step


class Orders:
    """Takes orders, and has them delivered by the worker."""

    def __init__(self, pool: Pool, suppliers: Suppliers, send: Callable[[int], Awaitable[object]]) -> None:
        self._pool = pool
        self._suppliers = suppliers
        self._send = send

    @step("workflow", "order")
    async def place(self, degrees: int) -> str:
        """Return what was ordered for a kettle of so many degrees."""
        tea = await self._choose(degrees)
        with step("tool", "price", input=tea) as asking:
            asking.output = price = await self._suppliers.price(tea)
        async with self._pool.connection() as connection:
            cursor = await connection.execute("INSERT INTO orders (tea, price) VALUES (?, ?)", (tea, price))
            number = cursor.lastrowid or 0
        await self._send(number)
        return f"{tea} for {price}"

    @step("retriever", "choose")
    async def _choose(self, degrees: int) -> str:
        async with self._pool.connection() as connection:
            query = "SELECT name FROM tea WHERE degrees <= ? ORDER BY degrees DESC LIMIT 1"
            async with connection.execute(query, (degrees,)) as found:
                row = await found.fetchone()
        if row is None:
            raise LookupError(f"No tea is made with water of {degrees} degrees.")
        return str(row[0])

    @step("llm", "house-model")
    async def describe(self, tea: str) -> AsyncIterator[str]:
        """Say something about a tea, word by word."""
        for word in (tea, " is", " warm"):
            yield word

    @step("tool", "remember")
    async def remember(self, tea: str) -> None:
        """Do what the customer need not wait for."""


class Deliveries:
    """What the worker does."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    @step("tool", "carry")
    async def deliver(self, order: int) -> None:
        """Deliver an order."""
        async with self._pool.connection() as connection:
            await connection.execute("UPDATE orders SET delivered = 1 WHERE id = ?", (order,))
