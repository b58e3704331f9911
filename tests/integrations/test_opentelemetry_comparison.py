"""Each instrumentation that installs: its spans through a run equal those that the SDK's own exporter sends."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

ENVIRONMENT = Path(__file__).parents[2] / ".venv-instrumentations"

BUILT = Path(__file__).parents[2] / "build" / "bridge"
"""Where the tables are kept."""

SCENARIOS = {
    "aiohttp-client": 3,
    "aiohttp-server": 2,
    "botocore": 3,
    "celery": 3,
    "django": 3,
    "fastapi": 9,
    "flask": 3,
    "google-adk": 5,
    "grpc": 6,
    "httpx": 3,
    "jinja2": 3,
    "logfire": 3,
    "logfire-openai": 2,
    "openinference-anthropic": 2,
    "openinference-bedrock": 1,
    "openinference-dspy": 3,
    "openinference-google-genai": 2,
    "openinference-groq": 3,
    "openinference-haystack": 6,
    "openinference-langchain": 5,
    "openinference-litellm": 2,
    "openinference-llama-index": 9,
    "openinference-mistralai": 2,
    "openinference-openai": 3,
    "openinference-openai-agents": 5,
    "openinference-portkey": 2,
    "openinference-smolagents": 4,
    "openllmetry-anthropic": 2,
    "openllmetry-bedrock": 1,
    "openllmetry-cohere": 1,
    "openllmetry-groq": 3,
    "openllmetry-langchain": 5,
    "openllmetry-llama-index": 4,
    "openllmetry-ollama": 2,
    "openllmetry-openai": 3,
    "openllmetry-openai-agents": 4,
    "opentelemetry-anthropic": 2,
    "opentelemetry-google-genai": 2,
    "opentelemetry-langchain": 2,
    "opentelemetry-openai": 3,
    "opentelemetry-openai-agents": 2,
    "pydantic-ai": 2,
    "redis": 3,
    "requests": 3,
    "sqlalchemy": 3,
    "sqlite3": 3,
    "starlette": 7,
    "urllib": 3,
    "urllib3": 3,
    "util-genai": 3,
}
"""By name, and the least number of spans, so that an instrumentation that records nothing is no success."""


@pytest.mark.slow
@pytest.mark.timeout(120)
@pytest.mark.parametrize("scenario", SCENARIOS)
def test_nothing_is_lost(scenario: str) -> None:
    """All attributes, events, links, kinds, names, statuses and scopes are equal after decoding."""
    python = ENVIRONMENT / "bin" / "python"
    if not python.is_file():
        pytest.skip(f"There is no {ENVIRONMENT.name}. Cure: make {ENVIRONMENT.name}/.installed")
    ran = subprocess.run(
        [python, "-W", "ignore", Path(__file__).with_name("bridged_instrumentation.py"), scenario],
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    BUILT.mkdir(parents=True, exist_ok=True)
    result = json.loads(ran.stdout.splitlines()[-1])
    (BUILT / f"{scenario}.json").write_text(json.dumps(result))
    assert result["different"] == []
    assert all(equal == all_of_them for equal, all_of_them in result["table"].values())
    assert result["table"]["spans"][1] >= SCENARIOS[scenario]
