"""ModelCallRecorder: what a step records of models, tools, retrievers and scores, in the conventions' words."""

from __future__ import annotations

from typing import Any

from nat_observability.events import StepKind
from nat_observability.foreign_errors import reraise_signal
from nat_observability.recording.answers import (
    Answer,
    note_unknown,
    provider_name,
    read_answer,
    read_output,
    read_tool_call,
    request_attributes,
    retrieved,
)
from nat_observability.recording.capture import capture, capture_json, capture_label
from nat_observability.recording.details.attributes import pairs_of, report_problem
from nat_observability.recording.details.step_details import LIMITS, StepDetails
from nat_observability.recording.recorder import StepRecorder

PROVIDER = "gen_ai.provider.name"
_MODEL_CALLS = frozenset({StepKind.LLM, StepKind.EMBEDDING, StepKind.RERANKER})


class ModelCallRecorder(StepRecorder):
    """
    The part of `step` that knows what models, tools, retrievers and evaluators are given and answer.

    Every method does nothing if the step is outside a run, or no exporter of the run takes it, and none raises for
    what it is given.
    """

    __slots__ = ("output", "usage")

    output: object
    usage: Any

    def response(self, answer: object) -> None:
        """
        Record a model's answer: its messages as output, its usage, its id, its model and its finish reasons.

        It may come from the clients of OpenAI (chats, the Responses API, embeddings, moderations), Anthropic, Google,
        Mistral, Cohere, Ollama, Amazon Bedrock and watsonx, from LiteLLM, LangChain, LlamaIndex or Pydantic AI, or be a
        dict of one of their shapes, or such a body as text or bytes. An output and a usage that are set already are
        kept. An answer that is not understood is recorded as any other output, and its type is logged once.
        """
        details = self._taking()
        if details is None:
            return
        found = answer if type(answer) is Answer else read_answer(answer)
        if found is None:
            note_unknown("answer", answer)
            if self.output is None:
                self.output = details.said = capture(answer)
            return
        if self.output is None and (said := found.messages or found.output):
            # As it is now: the parts may be the client's own objects.
            self.output = details.said = capture_json(said)
        self._describe(details, found)

    def _describe(self, details: StepDetails, found: Answer) -> None:
        """Set what an answer says beside its messages."""
        if self.usage is None:
            self.usage = found.usage
        attributes: dict[str, object] = {}
        if found.provider is not None and not details.has(PROVIDER):
            attributes[PROVIDER] = found.provider
        if found.response_id is not None:
            attributes["gen_ai.response.id"] = found.response_id
        if found.model is not None:
            attributes["gen_ai.response.model"] = found.model
        if found.finish_reasons:
            attributes["gen_ai.response.finish_reasons"] = found.finish_reasons
        details.set_attributes(attributes | found.attributes)

    def request(self, **parameters: object) -> None:
        """
        Record the parameters of a call of a model under the conventions' names, `gen_ai.request.temperature` and so on.

        Their names may be those of the model's client: `max_output_tokens` is `gen_ai.request.max_tokens`, `stop` is
        `gen_ai.request.stop_sequences`, and `tools` becomes `gen_ai.tool.definitions`. A parameter without a name in
        the conventions is kept as `gen_ai.request.<name>`; one that is None is left out.
        """
        details = self._taking()
        if details is None:
            return
        try:
            found = request_attributes(parameters)
        except BaseException as error:  # noqa: BLE001  foreign code: a parameter of the application's
            reraise_signal(error)
            found = {f"gen_ai.request.{name}": value for name, value in parameters.items()}
        if self._input is not None:
            found.pop("gen_ai.input.messages", None)
        details.set_attributes(found)

    def documents(self, documents: object) -> None:
        """
        Record what a retriever has found, as `gen_ai.retrieval.documents`: id, score, content and metadata of each.

        Takes a list of dicts, texts, pairs of a document and its score, rows of a database, documents of LangChain's or
        LlamaIndex's, or what a vector store or a search engine returns, as it is.
        """
        details = self._taking()
        if details is None:
            return
        found, unknown = retrieved(documents)
        if unknown is not None:
            note_unknown("documents", unknown)
        details.set_attribute("gen_ai.retrieval.documents", found)

    def tool_call(self, call: object, arguments: object = None) -> None:
        """
        Record which call of a tool this step carries out.

        Args:
            call: The call's id, or the call itself as the model's answer has it.
            arguments: What the tool is called with; not needed if `call` has it.
        """
        details = self._taking()
        if details is None:
            return
        if issubclass(type(call), str):
            read: dict[str, Any] = {"id": capture_label(call)}
        else:
            read = read_tool_call(call)
        if call is not None and not (read.get("id") or read.get("name") or read.get("arguments") is not None):
            note_unknown("tool_call", call)
        if read.get("id"):
            details.set_attribute("gen_ai.tool.call.id", read["id"])
        arguments = read.get("arguments") if arguments is None else arguments
        if arguments is not None:
            details.set_attribute("gen_ai.tool.call.arguments", arguments)
        if read.get("name") and read["name"] != self.name:
            details.set_attribute("gen_ai.tool.name", read["name"])

    def score(
        self, name: str, value: object = None, label: object = None, explanation: object = None
    ) -> None:
        """
        Record the result of an evaluation of this step, as an event `gen_ai.evaluation.result`.

        Args:
            name: What is evaluated: relevance, correctness.
            value: A number; a bool is 1 or 0, and a text is the label.
            label: What the value means: pass, relevant.
            explanation: Why.
        """
        if self._taking() is None:
            return
        attributes: dict[str, Any] = {"gen_ai.evaluation.name": capture_label(name)}
        if issubclass(type(value), str):
            value, label = None, value if label is None else label
        if value is not None:
            number = _number(value)
            if number is None:
                report_problem("the value of a score was not a number, and was recorded as it was")
            attributes["gen_ai.evaluation.score.value"] = value if number is None else number
        if label is not None:
            attributes["gen_ai.evaluation.score.label"] = capture_label(label)
        if explanation is not None:
            attributes["gen_ai.evaluation.explanation"] = capture_label(explanation)
        self.event("gen_ai.evaluation.result", attributes)

    def streamed(self, answer: Answer) -> None:
        """Record what the chunks of a model's stream say together. Only for what has joined them."""
        if self._kind in _MODEL_CALLS:
            self.response(answer)
        elif self.output is None and answer.messages:
            # Its tokens, and what else there is, belong to the call of the model inside this step.
            self.output = capture_json(answer.messages)

    def _finish_reading(self) -> None:
        """Read what the step has at its end of a call of a model: the chunks of a stream, or an output."""
        reader, self._reader = self._reader, False
        if reader:
            reader.finish(self)
            return
        if self.output is None:
            return
        # Of a decorated function, or set in the block: the output is recorded as it is.
        found = read_output(self.output)
        if found is not None and (details := self._taking()) is not None:
            self._describe(details, found)


def provided(attributes: object, provider: object) -> object:
    """Return the attributes that a step begins with, with its provider among them."""
    name = provider_name(provider if type(provider) is str else capture_label(provider))
    if attributes is None:
        return {PROVIDER: name}
    pairs, _ = pairs_of(attributes, LIMITS.attributes)
    return {PROVIDER: name} | {
        key if isinstance(key, str) else capture_label(key): value for key, value in pairs
    }


def _number(value: object) -> float | None:
    try:
        number = float(value)  # type: ignore[arg-type]
    except BaseException as error:  # noqa: BLE001  foreign code: whatever was given for a number
        reraise_signal(error)
        return None
    return number
