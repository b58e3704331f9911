"""From settings to processors and sampling: what is applied to the items of an exporter, in which order."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import msgspec

from nat_observability.delivery.pipeline.intake import Intake
from nat_observability.delivery.threads.thread_group import DeliveryThreadGroup
from nat_observability.errors import InvalidPatternError, UnknownExporterError
from nat_observability.exporter.sampling import Sampling
from nat_observability.exporter.step_exporter import StepExporter
from nat_observability.processors.item_limits import Limits, Truncator
from nat_observability.processors.processor import Processor
from nat_observability.processors.redaction.rules import Rule
from nat_observability.settings.processing import ProcessingSettings
from nat_observability.settings.variables import EXPORTERS, variable

if TYPE_CHECKING:
    from nat_observability.processors import PriceTable, Redactor
    from nat_observability.processors.content import Capture

# The modules of processors are imported only if they are needed.

EVERY = "*"
"""Stands for every exporter, in place of an exporter's name."""


class OwnProcessing(msgspec.Struct, frozen=True, kw_only=True):
    """
    What a service adds in code to an exporter's settings.

    Attributes:
        processors: Applied after the content switches and before the redaction, so that their results are redacted too.
        rules: Changes to the redaction in some runs: by their user, conversation, workflow or tags.
    """

    processors: Sequence[Processor] = ()
    rules: Sequence[Rule] = ()


class ProcessingPlan:
    """
    What the items of each configured exporter go through. Exporters with equal processing share one intake.

    Args:
        settings: The exporters' settings, by name.
        own: What a service adds, by the name of the exporter; `*` for every one.
        prices: Of the process.

    Raises:
        TypeError: `own` is not such a mapping.
        UnknownExporterError: `own` names an exporter that does not exist.
    """

    def __init__(
        self,
        settings: Mapping[str, ProcessingSettings],
        own: Mapping[str, OwnProcessing],
        prices: PriceTable | None = None,
    ) -> None:
        given: object = own  # a container passes on whatever its provider made
        if not isinstance(given, Mapping) or not all(
            isinstance(each, OwnProcessing) for each in given.values()
        ):
            raise TypeError(
                "processing is a mapping of names of exporters to OwnProcessing. Pass providers.Object({'*': "
                "OwnProcessing(processors=[...])}), for example."
            )
        for name in own:
            if name != EVERY and name not in settings:
                raise UnknownExporterError(name, settings)
        self._settings = settings
        self._own = own
        self._pricers: list[Processor] = []
        if prices is not None:
            from nat_observability.processors import Pricer

            self._pricers.append(Pricer(prices))
        self._made: list[tuple[object, Intake]] = []
        self._groups: dict[str, DeliveryThreadGroup] = {}

    def threads(self, kind: str) -> DeliveryThreadGroup:
        """Return the threads of the exporters of one type that take part in some runs only."""
        if kind not in self._groups:
            self._groups[kind] = DeliveryThreadGroup(name=f"nat-observability-{kind}")
        return self._groups[kind]

    def intake(self, name: str, brought: Sequence[Processor] = ()) -> Intake:
        """
        Return the intake for the items of an exporter.

        Args:
            name: The exporter's.
            brought: Processors that it already has, which come first.

        Raises:
            InvalidPatternError: A rule, a key or a pattern cannot be used.
            ValueError: The same of anything else.
        """
        settings = self._settings[name]
        added = [self._own[key] for key in (EVERY, name) if key in self._own]
        of_service = (processor for each in added for processor in each.processors)
        processors = [*brought, *of_service, *self._pricers]
        rules = [rule for each in added for rule in each.rules]
        fields = {field: getattr(settings, field) for field in ProcessingSettings.model_fields}
        # Processors and rules by identity: two equal objects may still each keep their own state.
        key = (fields, [id(each) for each in processors], [id(rule) for rule in rules])
        for known, intake in self._made:
            if known == key:
                intake.pipeline.name = f"{intake.pipeline.name}, {name}"
                return intake
        intake = Intake(name, processors_of(settings, processors=processors, rules=rules, exporter=name))
        self._made.append((key, intake))
        return intake

    def complete(self, name: str, exporter: object) -> None:
        """
        Give an exporter that a service made itself the processors and the sampling of its settings.

        Those that `delivering` made already have them. A delivery that several exporters share gets those of the first.

        Raises:
            InvalidPatternError: A rule, a key or a pattern cannot be used.
            ValueError: The same of anything else.
        """
        if not isinstance(exporter, StepExporter):
            return
        delivery = exporter.delivery
        if not any(delivery.intake is intake for _, intake in self._made):
            delivery.process_with(self.intake(name, delivery.processors))
        if exporter.sampling is None:
            exporter.sampling = sampling_of(self._settings[name])


def processors_of(
    settings: ProcessingSettings,
    *,
    processors: Sequence[Processor] = (),
    rules: Sequence[Rule] = (),
    exporter: str | None = None,
) -> list[Processor]:
    """
    Return the processors that the settings describe, in their order: content, `processors`, redaction, limits, tags.

    Args:
        settings: The exporter's settings.
        processors: The service's own.
        rules: For the redaction; if it is switched off, they are not applied.
        exporter: The exporter's name, for errors.

    Raises:
        InvalidPatternError: A rule, a key or a pattern cannot be used.
        ValueError: The same of anything else.
    """
    chosen: list[Processor] = []
    inputs = _capture(settings.capture_inputs, settings.capture_inputs_not_of)
    outputs = _capture(settings.capture_outputs, settings.capture_outputs_not_of)
    if not (inputs is True and outputs is True):
        from nat_observability.processors import ContentSwitch

        chosen.append(ContentSwitch(capture_inputs=inputs, capture_outputs=outputs))
    chosen += processors
    if settings.redact:
        chosen.append(redactor_of(settings, rules, exporter=exporter))
    chosen.append(
        Truncator(
            Limits(
                attribute_count_limit=settings.attribute_count_limit,
                attribute_value_length_limit=settings.attribute_value_length_limit,
                event_count_limit=settings.event_count_limit,
                link_count_limit=settings.link_count_limit,
                event_attribute_count_limit=settings.event_attribute_count_limit,
                link_attribute_count_limit=settings.link_attribute_count_limit,
                span_bytes_limit=settings.span_bytes_limit,
            )
        )
    )
    if settings.tags or settings.privacy is not None:
        from nat_observability.processors import Tagger

        chosen.append(Tagger(without_secrets(settings, settings.tags), privacy=settings.privacy))
    return chosen


def without_secrets(settings: ProcessingSettings, attributes: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return what the settings add to every item or request, redacted as items are."""
    # Loading the redaction takes longer than the rest of a start.
    if not settings.redact or not attributes:
        return attributes
    return redactor_of(settings).attributes(attributes)


def redactor_of(
    settings: ProcessingSettings, rules: Sequence[Rule] = (), *, exporter: str | None = None
) -> Redactor:
    """
    Return the redaction that the settings describe.

    Raises:
        InvalidPatternError: A rule, a key or a pattern cannot be used, or a pattern to leave out does not exist. It
            names the variables that can have set it.
    """
    try:
        return _redactor_of(settings, rules)
    except InvalidPatternError as error:
        path = _path_of(settings, error.name)
        if path is None:
            raise  # from a rule of the service
        variables = [variable(*path)]
        if exporter is not None:
            variables.append(variable(EXPORTERS, exporter, *path))
        raise InvalidPatternError(error.name, error.problem, error.cure, variables) from None


def _path_of(settings: ProcessingSettings, name: object) -> tuple[str, ...] | None:
    """Return the setting that has a pattern or a key."""
    if name in settings.redact_patterns:
        return "redact_patterns", str(name)
    if name in settings.redact_without:
        return ("redact_without",)
    return ("redact_keys",) if name in settings.redact_keys else None


def _redactor_of(settings: ProcessingSettings, rules: Sequence[Rule]) -> Redactor:
    from nat_observability.processors import DEFAULT_KEYS, DEFAULT_PATTERNS, Pattern, Redactor

    key = settings.redact_hash_key
    known = [name for name in DEFAULT_PATTERNS if name not in settings.redact_without]
    # Unknown ones are refused by name.
    unknown = [name for name in settings.redact_without if name not in DEFAULT_PATTERNS]
    own = [Pattern(name, expression) for name, expression in settings.redact_patterns.items()]
    return Redactor(
        keys=(*DEFAULT_KEYS, *settings.redact_keys),
        patterns=(*known, *unknown, *own),
        personal=settings.redact_personal,
        hash_key=None if key is None else key.get_secret_value().encode(),
        rules=rules,
        chunks=settings.redact_chunks,
        # Somewhat more than the limits keep, which cut the longest parts to the byte.
        bytes_limit=settings.span_bytes_limit * 5 // 4,
    )


def sampling_of(settings: ProcessingSettings) -> Sampling | None:
    """Return the sampling that the settings describe; None if it takes every run."""
    if settings.sampling_ratio == 1 and not settings.sampling_rules and not settings.sampling_parent_based:
        return None
    return Sampling(
        settings.sampling_ratio,
        rules=settings.sampling_rules,
        parent_based=settings.sampling_parent_based,
        keep_errors=settings.sampling_keep_errors,
        run_bytes=settings.sampling_run_bytes,
        all_bytes=settings.sampling_all_bytes,
    )


def _capture(captured: bool, not_of: Sequence[str]) -> Capture:
    if not captured or not not_of:
        return captured
    return dict.fromkeys(not_of, False)
