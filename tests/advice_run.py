"""advise(): a run with chat, tool calls, documents, a session, a user, tokens, cost, tags and an evaluation."""

from __future__ import annotations

from nat_observability import ContextState, ExporterManager, LedgerSnapshot, SpanExporter, step
from nat_observability.processors import Price, Pricer, PriceTable
from nat_observability.sinks.protocol import Sink

PRICES = PriceTable({"gpt-5*": Price(input=2, output=4)})
ASKED = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Will it rain?"}]
CALL = {"id": "call-1", "type": "function", "function": {"name": "weather", "arguments": '{"city":"Paris"}'}}
ANSWER = {
    "id": "c-1",
    "object": "chat.completion",
    "model": "gpt-5-2025",
    "choices": [
        {
            "index": 0,
            "finish_reason": "tool_calls",
            "message": {"role": "assistant", "content": None, "tool_calls": [CALL]},
        }
    ],
    "usage": {
        "prompt_tokens": 100,
        "completion_tokens": 50,
        "total_tokens": 150,
        "prompt_tokens_details": {"cached_tokens": 30},
    },
}
TOOL = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "The weather of a city.",
        "parameters": {"type": "object", "properties": {}},
    },
}


async def advise(sink: Sink) -> str:
    """Record the run, deliver it to `sink`, and return its trace id."""
    exporter = SpanExporter(sink, flush="delivered", processors=[Pricer(PRICES)])
    state = ContextState(
        conversation_id="conversation-7", user_id="ada", workflow_name="advice", tags={"tenant": "acme"}
    )
    async with ExporterManager.from_exporters({"back end": exporter}).start(state):
        asked = "Will it rain in Paris?"
        with (
            step("workflow", "advice", input=asked, tags=["paris"], metadata={"plan": "pro"}) as workflow,
            step("agent", "adviser", input=asked) as agent,
        ):
            with step("retriever", "docs", input="rain Paris") as found:
                found.documents([{"id": "1", "content": "Paris is wet.", "score": 0.5}])
            with step("llm", "gpt-5", provider="openai", input=ASKED) as call:
                call.request(temperature=0.2, tools=[TOOL])
                call.response(ANSWER)
            with step("tool", "weather", input={"city": "Paris"}) as tool:
                tool.tool_call("call-1", {"city": "Paris"})
                tool.output = {"rain": True}
            agent.score("relevance", 0.9, "good", "It is.")
            agent.output = workflow.output = "Take an umbrella."
    assert exporter.delivery.health().ledger == LedgerSnapshot(5, 5)
    return state.run.trace_id
