"""Workflows of the real NeMo Agent Toolkit, built with its builder, and an exporter of its own kind."""

from __future__ import annotations

import asyncio
import warnings
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from typing import Any

from nat_observability import step

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # of the packages that it imports
    from nat.builder.context import Context
    from nat.builder.function_info import FunctionInfo
    from nat.builder.workflow_builder import WorkflowBuilder
    from nat.cli.register_workflow import register_function, register_telemetry_exporter
    from nat.data_models.component_ref import FunctionRef
    from nat.data_models.config import Config, GeneralConfig, TelemetryConfig
    from nat.data_models.function import FunctionBaseConfig
    from nat.data_models.intermediate_step import IntermediateStepPayload, StreamEventData, UsageInfo
    from nat.data_models.telemetry_exporter import TelemetryExporterBaseConfig
    from nat.data_models.token_usage import TokenUsageBaseModel
    from nat.observability.exporter.base_exporter import BaseExporter


class DoConfig(FunctionBaseConfig, name="nat_observability_test"):  # type: ignore[misc, call-arg]
    """A function that does one of the things below, calling other functions by their names."""

    does: str
    calls: list[FunctionRef] = []  # noqa: RUF012  a field of a pydantic model


class GivenConfig(TelemetryExporterBaseConfig, name="nat_observability_test_exporter"):  # type: ignore[misc, call-arg]
    """An exporter that was made before."""

    key: str


_given: dict[str, Any] = {}


class Recorder(BaseExporter):  # type: ignore[misc]
    """An exporter of the toolkit's own kind; what it has seen is common to all its isolated copies."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[Any] = []

    def export(self, event: Any) -> None:
        self.seen.append(event)

    @property
    def events(self) -> list[tuple[str, str | None]]:
        """Type and name of each event, in order."""
        return [(str(each.event_type), each.name) for each in self.seen]


def steps_of_context() -> Any:
    """Return what pushes steps in the calling context; a step's END has to be pushed by what pushed its START."""
    return Context.get().intermediate_step_manager


def push(
    event_type: str, uuid: str, name: str = "", *, manager: Any = None, given: Any = None, output: Any = None
) -> None:
    """Push a step as the toolkit's own callback handlers do."""
    payload = IntermediateStepPayload(
        event_type=event_type, UUID=uuid, name=name or uuid, data=StreamEventData(input=given, output=output)
    )
    (manager or steps_of_context()).push_intermediate_step(payload)


@contextmanager
def doing(**functions: Callable[[str, Sequence[Any]], Awaitable[str]]) -> Iterator[None]:
    """Let functions of this block's own be done, by name."""
    DOES.update(functions)
    try:
        yield
    finally:
        for name in functions:
            del DOES[name]


def usage(prompt: int, completion: int) -> Any:
    return UsageInfo(
        token_usage=TokenUsageBaseModel(
            prompt_tokens=prompt, completion_tokens=completion, total_tokens=prompt + completion
        ),
        num_llm_calls=1,
    )


async def _echo(text: str, called: Sequence[Any]) -> str:
    return text


async def _shout(text: str, called: Sequence[Any]) -> str:
    await asyncio.sleep(0)
    return text.upper()


async def _chain(text: str, called: Sequence[Any]) -> str:
    for each in called:
        text = await each.ainvoke(text)
    return text


async def _gather(text: str, called: Sequence[Any]) -> str:
    return "+".join(await asyncio.gather(*(each.ainvoke(text) for each in called)))


async def _fail(text: str, called: Sequence[Any]) -> str:
    await asyncio.sleep(0)
    raise ValueError(f"cannot do {text}")


async def _rescue(text: str, called: Sequence[Any]) -> str:
    try:
        return str(await called[0].ainvoke(text))
    except ValueError:
        # Further functions run while the first one's error is being handled.
        return str(await called[1].ainvoke(text))


async def _tool(text: str, called: Sequence[Any]) -> str:
    # As its handler for LangChain does: a tool that fails is never ended.
    manager = steps_of_context()
    push("TOOL_START", f"tool {text}", "tool", manager=manager, given=text)
    result = str(await called[0].ainvoke(text))
    push("TOOL_END", f"tool {text}", "tool", manager=manager, output=result)
    return result


async def _model(text: str, called: Sequence[Any]) -> str:
    # One manager for all, as a callback handler has one.
    manager = Context.get().intermediate_step_manager

    def pushed(event_type: str, **fields: Any) -> None:
        manager.push_intermediate_step(
            IntermediateStepPayload(event_type=event_type, UUID=f"model {text}", name="small-model", **fields)
        )

    pushed("LLM_START", data=StreamEventData(input=[{"role": "user", "content": text}]), tags=["first"])
    for piece, used in (("to", None), ("day", usage(3, 2)), ("", None)):
        pushed("LLM_NEW_TOKEN", data=StreamEventData(input=text, chunk=piece), usage_info=used)
    pushed("LLM_END", data=StreamEventData(output="today", score=0.5), usage_info=usage(3, 2), retries=2)
    return "today"


async def _thread(text: str, called: Sequence[Any]) -> str:
    def work() -> str:
        manager = Context.get().intermediate_step_manager
        for kind in ("TOOL_START", "TOOL_END"):
            manager.push_intermediate_step(
                IntermediateStepPayload(event_type=kind, UUID=f"thread {text}", name="in a thread")
            )
        with step("tool", "ours in a thread"):
            return text

    return await asyncio.to_thread(work)


async def _record(text: str, called: Sequence[Any]) -> str:
    with step("tool", "ours", input={"text": text}, tags=["own"], metadata={"deep": 1}) as ours:
        result = await called[0].ainvoke(text)
        with step("llm", "our model") as model:
            model.chunk("a")
            model.chunk("b")
            model.usage = {"prompt_tokens": 5, "completion_tokens": 1}
        ours.output = result
    with step("custom", "afterwards"):
        pass
    return str(result)


started: dict[str, asyncio.Event] = {}
"""By its input: set by the function that waits for ever, when it does; made by the test."""


async def _wait(text: str, called: Sequence[Any]) -> str:
    started[text].set()
    await asyncio.get_running_loop().create_future()
    return text


DOES: dict[str, Callable[[str, Sequence[Any]], Awaitable[str]]] = {
    "echo": _echo,
    "shout": _shout,
    "chain": _chain,
    "gather": _gather,
    "fail": _fail,
    "rescue": _rescue,
    "model": _model,
    "tool": _tool,
    "thread": _thread,
    "record": _record,
    "wait": _wait,
}


async def _function(config: DoConfig, builder: Any) -> AsyncIterator[Any]:
    called = [await builder.get_function(name) for name in config.calls]

    async def single(text: str) -> str:
        return await DOES[config.does](text, called)

    async def words(text: str) -> AsyncGenerator[str, None]:
        for word in text.split():
            if word == "fail":
                raise ValueError(f"cannot say {text}")
            with step("span", "word", input=word):
                pass
            yield word

    if config.does == "words":
        yield FunctionInfo.from_fn(words)
    else:
        yield FunctionInfo.from_fn(single)


async def _exporter(config: GivenConfig, builder: Any) -> AsyncIterator[Any]:
    yield _given[config.key]


register_function(config_type=DoConfig)(_function)
register_telemetry_exporter(config_type=GivenConfig)(_exporter)


@asynccontextmanager
async def workflow(
    does: str, *calls: str, exporters: dict[str, Any] | None = None, **functions: Any
) -> AsyncIterator[Any]:
    """
    Build a workflow that does something, and close it afterwards.

    Args:
        does: What the workflow's own function does.
        calls: The names of the functions that it calls.
        exporters: By name, what the configuration names as `general.telemetry.tracing`.
        functions: By name what the function does, or that and the names of those that it calls.
    """
    built = {
        name: DoConfig(does=each) if isinstance(each, str) else DoConfig(does=each[0], calls=list(each[1:]))
        for name, each in functions.items()
    }
    telemetry = TelemetryConfig(tracing={name: GivenConfig(key=name) for name in exporters or {}})
    config = Config(
        general=GeneralConfig(telemetry=telemetry),
        functions=built,
        workflow=DoConfig(does=does, calls=list(calls)),
    )
    _given.update(exporters or {})
    async with WorkflowBuilder(general_config=config.general) as builder:
        await builder.populate_builder(config)
        yield await builder.build()
