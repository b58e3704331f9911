"""The tokens of those who make models, vector stores, and platforms for agents and their traces."""

from __future__ import annotations

from nat_observability.processors.redaction.tables.token import Around, Token

MODEL_TOKENS: tuple[Token, ...] = (
    Token("anthropic_key", "Anthropic", "sk-ant-", "url:16", "mgt"),
    Token("openai_key", "OpenRouter", "sk-or-v1-", "hex:32", "mt"),
    Token("openai_key", "Langfuse", "sk-lf-", "url:16"),
    Token("openai_key", "Helicone", "sk-helicone-", "url:16"),
    Token("openai_key", "Letta", "sk-let-", "b64:32"),
    Token("openai_key", "OpenAI, DeepSeek, Moonshot and many others", "sk-", "url:16", "mgtd"),
    Token("openai_key", "OpenAI", "sess-", "b62:30"),
    Token("google_key", "Google (Gemini, Maps, Firebase)", "AIza", "url:30", "mgt", is_word=False),
    Token("google_key", "Google (Gemini)", "AQ.Ab", "url:30"),
    Token("google_key", "Google OAuth", "GOCSPX-", "url:16", "mt"),
    Token("google_key", "Google OAuth", "ya29.", "dot:16", "mt"),
    Token("google_key", "Google OAuth", "1//0", "url:20", is_word=False),
    Token("huggingface_token", "Hugging Face", "hf_", "b62:20", "mgt"),
    Token("huggingface_token", "Hugging Face", "hf_oauth_", "dot:20"),
    Token("huggingface_token", "Hugging Face", "api_org_", "b62:20", "gt", is_word=False),
    Token("nvidia_key", "NVIDIA", "nvapi-", "url:16", "mt"),
    Token("model_api_key", "Groq", "gsk_", "w:20", "mt"),
    Token("model_api_key", "Cerebras", "csk-", "url:16"),
    Token("model_api_key", "Cerebras, as some write it", "csk_", "w:20"),
    Token("model_api_key", "Fireworks", "fw_", "w:20"),
    Token("model_api_key", "Fireworks", "fpk_ fwp_", "w:16"),
    Token("model_api_key", "Together", "tgp_v1_", "url:20"),
    Token("model_api_key", "Perplexity", "pplx-", "url:16", "mg"),
    Token("model_api_key", "xAI", "xai-", "url:16", "mt"),
    Token("model_api_key", "Replicate", "r8_", "url:20", "mt"),
    Token("model_api_key", "Voyage AI", "pa-", "url:=43"),
    Token("model_api_key", "Jina", "jina_", "url:20"),
    Token("model_api_key", "Novita", "sk_", "url:=43"),
    Token("model_api_key", "Lambda", "secret_", "w:32", "mt"),
    Token("model_api_key", "RunPod", "rpa_ rps_", "B36:32"),
    Token("model_api_key", "Modal", "ak- as-", "b62:=22"),
    Token("model_api_key", "Anyscale", "esecret_", "b36:20"),
    Token("model_api_key", "Steel", "ste-", "b62:32"),
    Token("model_api_key", "Friendli", "flp_", "b62:32"),
    # Vector stores and databases for agents
    Token("model_api_key", "Pinecone", "pcsk_", "w:20", "mt"),
    Token("model_api_key", "Pinecone", "pclocal_", "w:20"),
    Token("model_api_key", "turbopuffer", "tpuf_", "b62:24"),
    Token("model_api_key", "Neon", "napi_", "b36:32"),
    Token("model_api_key", "Neon", "npg_", "b62:12"),
    # Traces and evaluations
    Token("model_api_key", "LangSmith", "lsv2_pt_ lsv2_sk_", "w:16", "mg"),
    Token("model_api_key", "LangSmith", "ls__", "hex:32"),
    Token("model_api_key", "Weights & Biases", "wandb_v1_", "w:16"),
    Token("model_api_key", "Logfire", "pylf_v1_ pylf_v2_", "w:16"),
    Token("model_api_key", "PostHog", "phx_ phs_", "w:32", "mt"),
    # Search, browsing and voice for agents
    Token("model_api_key", "Tavily", "tvly-", "url:16"),
    Token("model_api_key", "Firecrawl", "fc-", "hex:=32"),
    Token("model_api_key", "ElevenLabs", "sk_", "hex:=48", "mt"),
    Token("model_api_key", "Brave Search", "BSA", "w:=28", is_word=False, is_checked=True),
    Token("model_api_key", "Apify", "apify_api_ apify_proxy_", "url:24", "mt"),
    Token("model_api_key", "Browserbase", "bb_live_ bb_test_", "url:16"),
    Token("model_api_key", "Browser Use", "bu_", "url:=43"),
    Token("model_api_key", "E2B", "e2b_", "hex:32"),
    Token("model_api_key", "Daytona", "dtn_", "hex:40"),
    Token("model_api_key", "Composio", "ak_", "url:=20"),
    Token("model_api_key", "Arcade", "arc_", "b62:32"),
    Token("model_api_key", "Mem0", "m0-", "b62:32"),
    Token("model_api_key", "LlamaCloud", "llx-", "b62:24"),
    Token("model_api_key", "Voiceflow", "VF. VF.DM. VF.WS.", "hex:24 . b62:16", "mt"),
    Token("model_api_key", "Dify", "app- dataset-", "b62:=24"),
    Token("model_api_key", "n8n", "n8n_api_", "any:24"),
    Token("model_api_key", "Salad", "salad_cloud_", "w:12", "t"),
)
"""In the order in which they are tried: of two that begin alike, the more precise one first."""

MODEL_AROUND: tuple[Around, ...] = (
    Around("openai_key", "OpenAI", "T3BlbkFJ", "url:16", "url:16", "mgtd"),
    Around("azure_key", "Azure OpenAI and AI services", "JQQJ99", "b62:20", "b62:10", "m"),
)
