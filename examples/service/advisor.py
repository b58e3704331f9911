"""Advisor: the service's work. It knows steps and managers, and nothing of exporters."""

from __future__ import annotations

from collections.abc import Callable

from examples.service.gateways import Pool, Suppliers
from nat_observability import ContextState, ExporterManager, step


class Advisor:
    """Answers which tea to drink."""

    def __init__(self, new_manager: Callable[[], ExporterManager], pool: Pool, suppliers: Suppliers) -> None:
        self._new_manager = new_manager
        self._pool = pool
        self._suppliers = suppliers

    async def advise(self, user: str, degrees: int) -> str:
        """Return advice for a kettle of so many degrees. Each call is a run, with a manager of its own."""
        state = ContextState(user_id=user, workflow_name="advise")
        async with self._new_manager().start(state):
            return await self._advise(degrees)

    @step("workflow", "advise")
    async def _advise(self, degrees: int) -> str:
        tea = await self._find(degrees)
        with step("llm", "house-model", input={"tea": tea}) as call:
            price = await self._price(tea)
            call.output = f"Drink {tea} tea (price: {price})."
            call.usage = {"prompt_tokens": 12, "completion_tokens": 7}
        return call.output

    @step("tool", "find")
    async def _find(self, degrees: int) -> str:
        async with self._pool.connection() as connection:
            query = "SELECT name FROM tea WHERE degrees <= ? ORDER BY degrees DESC LIMIT 1"
            async with connection.execute(query, (degrees,)) as found:
                row = await found.fetchone()
        if row is None:
            raise LookupError(f"No tea is made with water of {degrees} degrees.")
        return str(row[0])

    @step("tool", "price")
    async def _price(self, tea: str) -> str:
        return await self._suppliers.price(tea)
