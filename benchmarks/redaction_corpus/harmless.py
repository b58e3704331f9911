"""Harmless: texts and data of many kinds in which nothing is secret, though much looks like it."""

from __future__ import annotations

from typing import Any

HARMLESS: dict[str, list[Any]] = {
    # Ids and hashes
    "uuid": ["3d6e0853-3ced-4e61-a513-468010b6fb75", {"request_id": "3d6e0853-3ced-4e61-a513-468010b6fb75"}],
    "git commit": ["commit 282a61854fb04113460b0e46bb926529eec05ad5", "fixed in 282a618..354fb04"],
    "sha256": ["sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"],
    "md5": [{"md5": "9e107d9d372bb6826bd81d3542a419d6", "size": 43}],
    "etag": ['ETag: "33a64df551425fcc55e4d42a148795d9f25f89d4"'],
    "integrity": [
        '"integrity": "sha512-9bMH3oBXe8Pq0y1jvqkjqkOIiyVaYB0zvvTzWmBxYqQzJ0mPzYbXQ1cQ9Jp2m3p3cVvNQ8l7h5y2s9b4n6d8aA=="'
    ],
    "trace ids": [
        "traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        {"trace_id": "0af7651916cd43dd8448eb211c80319c"},
    ],
    "ulid": [{"id": "01ARZ3NDEKTSV4RRFFQ69G5FAV"}],
    "object id": [{"_id": "507f1f77bcf86cd799439011"}],
    "model id": ["gpt-4o-mini-2024-07-18", {"model": "claude-sonnet-4-20250514", "provider": "anthropic"}],
    "call ids": [
        {"id": "call_abc123DEF456ghi789JKL012", "type": "function"},
        {"id": "toolu_01A09q90qw90lq917835lq9"},
    ],
    "completion id": [{"id": "chatcmpl-B9MBs8CjcvOU2jLn4n570S5qMJKcT", "object": "chat.completion"}],
    "response id": [{"id": "resp_67ccd2bed1ec8190b14f964abc0542670bb6a6b452d3795b", "status": "completed"}],
    "message ids": [{"id": "msg_01XFDUDYJgAACzvnptvVoYEL", "thread": "thread_abc123abc123abc123abc123"}],
    "fingerprint": [{"system_fingerprint": "fp_44709d6fcb", "created": 1741569952}],
    "docker digest": ["python@sha256:2c4e9a4c4c2a4a1b2b0b822cd15d6c15b0f00a089f86d081884c7d659a2feaa0"],
    "aws arn": ["arn:aws:iam::123456789012:role/service-role/MyLambdaRole"],
    "account id": [{"aws_account_id": "123456789012", "region": "eu-west-1"}],
    "s3 path": [
        "s3://my-bucket/data/2026/05/01/part-00000-3d6e0853-3ced-4e61-a513-468010b6fb75.snappy.parquet"
    ],
    "slug": ["https://example.com/blog/how-to-keep-your-houseplants-alive-in-winter-2026-edition"],
    "package versions": ["aiohttp==3.12.15\npydantic-settings==2.12.0\nopentelemetry-sdk==1.39.0"],
    "lock file": [
        '{ url = "https://example.com/ab/cd/ef0123456789/x-1.0.tar.gz", '
        'hash = "sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08" }'
    ],
    "docker image": ["registry.example.com/team/app:v1.2.3-rc.1-282a618"],
    "kubernetes pod": ["pod/checkout-service-7d9c5b8f6d-x2k4q   1/1   Running   0   3d"],
    "mac address": ["link/ether 02:42:ac:11:00:02 brd ff:ff:ff:ff:ff:ff"],
    "semantic version": ["v1.2.3-alpha.1+build.5114f85"],
    "isbn": ["ISBN 978-3-16-148410-0, second edition"],
    "order number": ["Your order 2026-0501-77812 has been shipped."],
    "coordinates": [{"lat": 48.858370, "lon": 2.294481}],
    # Numbers of tokens, and words of models
    "usage": [{"usage": {"prompt_tokens": 812, "completion_tokens": 93, "total_tokens": 905}}],
    "usage details": [
        {"prompt_tokens_details": {"cached_tokens": 12, "audio_tokens": 0}, "reasoning_tokens": 64}
    ],
    "usage in a log": ["INFO done prompt_tokens=812 completion_tokens=93 total_tokens=905"],
    "max tokens": [{"max_tokens": 1024, "max_output_tokens": 4096}, "max_tokens=256, temperature=0.2"],
    "token limits": ["max_new_tokens: 512\nmin_tokens: 10\n", {"token_limit": 8192, "token_budget": 1000}],
    "token counts": [{"input_token_count": 12, "token_count": 55}, "token count: 5512"],
    "time to first token": [
        {"time_to_first_token": 0.41, "time_per_output_token": 0.02},
        "time_to_first_token: 0.41 s",
    ],
    "tokens per second": ["tokens_per_second=81.5", {"tokens_per_second": 81.5}],
    "logprobs": [{"content": [{"token": "Hello", "logprob": -0.31, "bytes": [72, 101, 108, 108, 111]}]}],
    "top logprobs": [
        {"top_logprobs": [{"token": " world", "logprob": -0.02}, {"token": "!", "logprob": -4.1}]}
    ],
    "token classification": [
        {"token": "Berlin", "score": 0.998, "label": "LOC"},
        {"entity": "B-PER", "token": "Wolfgang", "score": 0.99},
    ],
    "special tokens": [{"bos_token": "<s>", "eos_token": "</s>", "pad_token": "<pad>", "unk_token": "<unk>"}],
    "stop token": [{"stop_token": "###", "sep_token": "[SEP]", "mask_token": "[MASK]"}],
    "token ids": [{"token_ids": [15496, 11, 995], "eos_token_id": 50256}, "pad_token_id=0"],
    "tokenizer": [{"tokenizer": "cl100k_base", "tokenizer_class": "LlamaTokenizer", "token_type": "word"}],
    "prices": [{"price_per_token": 0.00001, "cost_per_1k_tokens": 0.03}],
    "progress token": [{"_meta": {"progressToken": "p-17"}}, {"progressToken": 3, "progress": 50}],
    # Places in lists
    "page token": [{"next_page_token": "CAUQAA", "page_size": 20}, {"nextPageToken": "EAAaBlBUOkNBVQ"}],
    "cursor": [{"cursor": "eyJvZmZzZXQiOjIwfQ", "has_more": True}, {"next_cursor": "bGFzdDoyMA=="}],
    "resume token": [{"resume_token": "8264B0", "continuation_token": "Mjg6MjA"}],
    "sync token": [{"syncToken": "CPDAlvWDx70CEPDAlvWDx70CGAU=", "items": []}],
    # Names with words of secrets that are none
    "password policy": [{"password_min_length": 12, "password_max_age": 90, "password_required": True}],
    "password policy, yaml": ["password_policy:\n  min_length: 12\n  require_symbols: true\n"],
    "password expiry": [
        "password_expires_in: 30 days",
        {"password_last_changed": "2026-05-01", "password_reset_required": False},
    ],
    "password hint page": ["See the page on password rules; passwords need 12 characters."],
    "api key name": [{"api_key_name": "production", "api_key_count": 3}, "api_key_name: production"],
    "key path": [{"private_key_path": "/etc/ssl/private/server.key", "ssh_key_file": "~/.ssh/id_ed25519"}],
    "key file": ["private_key_path = /etc/ssl/server.key\ncert_file = /etc/ssl/server.crt"],
    "secret name": [
        {"secret_name": "db-credentials", "secretKeyRef": {"name": "db-credentials", "key": "password"}}
    ],
    "secret manager": ["projects/my-project/secrets/db-password/versions/latest"],
    "secret version": [{"secret_version": 3, "secret_type": "Opaque"}],
    "token type": [{"token_type": "Bearer", "expires_in": 3600}, "token_type=bearer"],
    "token expiry": [{"token_expires_at": "2026-05-01T12:00:00Z", "access_token_ttl": 3600}],
    "token url": [
        {
            "token_url": "https://auth.example.com/oauth/token",
            "authorization_url": "https://auth.example.com/authorize",
        }
    ],
    "token endpoint": [
        "token_endpoint: https://auth.example.com/token\nauthorization_endpoint: https://auth.example.com/auth"
    ],
    "auth type": [{"auth_type": "oauth2", "auth_method": "client_credentials"}, "auth_method = none"],
    "auth flags": [{"auth_enabled": True, "requires_auth": False, "is_authenticated": True}],
    "author": [{"author": "Jane Doe", "authors": ["Jane Doe", "John Roe"]}, "author: Jane Doe"],
    "authority": [{"authority": "login.example.com", "authorized": True}, ":authority: example.com"],
    "session": [{"session": "morning", "session_count": 3}, "session: keynote on Friday"],
    "cookie words": [
        "chocolate cookies: two cups of flour",
        {"cookie_policy": "https://example.com/cookies", "cookies_enabled": True},
    ],
    "credentials words": [
        "Her credentials are impressive: ten years in research.",
        {"credential_type": "service_account"},
    ],
    "keyboard": ["keyboard: qwerty\nkeymap: us", {"keyword": "weather", "keywords": ["a", "b"]}],
    "primary key": [
        "PRIMARY KEY (id), FOREIGN KEY (user_id) REFERENCES users (id)",
        {"primary_key": "id", "foreign_key": "user_id"},
    ],
    "sort key": [{"sort_key": "created_at", "partition_key": "user#42"}, "sort_key=created_at"],
    "cache key": [{"cache_key": "user:42:profile"}, "cache_key=weather-paris-2026-05-01"],
    "routing key": [{"routing_key": "orders.created", "idempotency_key": "order-42"}],
    "public key": [
        {"public_key": "-----BEGIN PUBLIC KEY-----"},
        "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ bob@example.com",
    ],
    "certificate": ["-----BEGIN CERTIFICATE-----\nMIIBszCCAVmgAwIBAgIUQ\n-----END CERTIFICATE-----"],
    "key id": [{"kid": "2026-05", "key_id": "alias/main"}, "KeyId: alias/main"],
    "hash functions": [
        "hash_algorithm: sha256\nsignature_algorithm: RS256",
        {"signature_algorithm": "ECDSA"},
    ],
    "function signature": [
        "The signature: def f(x: int, y: str = 'a') -> bool",
        {"signature": {"name": "string", "type": "object"}},
    ],
    "pin words": [
        "Pin: the post stays at the top of the page.",
        {"pinned": True, "pin_count": 4},
        "spinning: 3 rpm",
    ],
    "salt": ["salt: two teaspoons\npepper: a pinch", {"ingredients": ["salt", "pepper"]}],
    "seed": [{"seed": 42, "random_seed": 1234}, "seed=42 temperature=0.7"],
    "otp words": ["The option: choose one of three.", {"otp_enabled": False, "otp_length": 6}],
    "bearer words": ["She was the bearer of good news: the tests pass.", "bearer authentication is required"],
    "basic words": ["basic authentication is off", "Basic English grammar exercises"],
    "passing": [
        "pass: 12, fail: 3",
        {"pass": 12, "fail": 0, "passed": True},
        "PASS: test_login (0.02s)",
        "pass=0.93",
    ],
    "passes": ["The first pass: compile it. The second pass: link it.", "compass: north; bypass: yes"],
    "passenger": [{"passenger": "Jane Doe", "passport_required": False}, "passengers: 3"],
    "secretary": ["secretary: Jane Doe", {"secretary_general": "Jane Doe"}],
    "tokens of a game": ["tokens: 3 red, 2 blue", {"token": 3, "dice": [1, 5]}],
    "access": [{"access": "read", "access_level": "public", "last_access": "2026-05-01"}],
    "license": [{"license": "Apache-2.0", "license_url": "https://example.com/l"}, "license: MIT"],
    "signed url flag": [{"signed": True, "sign_in_required": False}],
    "code": [{"code": 404, "status_code": 200, "error_code": "E1001"}, "country_code=DE&lang_code=de"],
    # Schemas and placeholders
    "json schema": [
        {
            "properties": {"password": {"type": "string", "description": "The password"}},
            "required": ["password"],
        }
    ],
    "json schema text": ['{"type": "object", "properties": {"api_key": {"type": "string", "minLength": 8}}}'],
    "tool definition": [
        {"name": "login", "input_schema": {"type": "object", "properties": {"token": {"type": "string"}}}}
    ],
    "openapi": ["securitySchemes:\n  ApiKeyAuth:\n    type: apiKey\n    in: header\n    name: X-API-Key\n"],
    "typed fields": ["class Login:\n    user: str\n    password: str\n    token: str | None = None\n"],
    "typescript interface": [
        "interface Login {\n  user: string;\n  password: string;\n  apiKey?: string;\n}"
    ],
    "rust struct": [
        "struct Login {\n    user: String,\n    password: String,\n    token: Option<String>,\n}"
    ],
    "go struct": [
        'type Login struct {\n\tUser     string `json:"user"`\n\tPassword string `json:"password"`\n}'
    ],
    "sql schema": ["CREATE TABLE users (id INTEGER PRIMARY KEY, password VARCHAR(255) NOT NULL, token TEXT)"],
    "placeholders": [
        "API_KEY=YOUR_API_KEY\nTOKEN=<your-token>\nPASSWORD=YOUR_PASSWORD_HERE",
        "api_key: <API_KEY>",
    ],
    "stars": ["password: ********", {"password": "***", "api_key": "xxxxxxxx"}],
    "variables": ["password: ${DB_PASSWORD}", 'token = "$TOKEN"', {"Authorization": "Bearer ${TOKEN}"}],
    "templates": [
        "api_key: {{ api_key }}",
        "password: {{ vault.password }}",
        "Authorization: Bearer {{token}}",
    ],
    "github secrets": ["env:\n  TOKEN: ${{ secrets.GITHUB_TOKEN }}\n"],
    "getenv": [
        'api_key = os.environ["API_KEY"]',
        'token = os.getenv("TOKEN")',
        "const key = process.env.API_KEY;",
    ],
    "settings access": [
        "password = settings.db_password",
        "token=self.token",
        "api_key=config.get('api_key')",
    ],
    "none values": [{"password": None, "token": "", "api_key": False}, "password=None, token=null"],
    "empty values": ["PASSWORD=\nTOKEN=\n", 'password: ""\ntoken: ~\n'],
    "redacted already": ["password: [redacted:password]", {"token": "[redacted:token]"}],
    "function calls": [
        "password = getpass.getpass()",
        "token = get_token(user)",
        "secret = generate_secret()",
    ],
    "input fields": [
        '<input type="password" name="password" placeholder="Password">',
        '<label for="password">Password</label>',
    ],
    "flags alone": [
        "usage: deploy [--password PASSWORD] [--token TOKEN] [-h]",
        "--api-key TEXT  The key.  [required]",
    ],
    "test names": ["test_password_is_redacted PASSED\ntest_token_expires PASSED\n"],
    "i18n": [{"password": "Password", "token": "Token", "login": "Log in"}, 'labels.password = "Password"'],
    # Prose
    "prose about passwords": [
        "Choose a strong password and never write it down.",
        "I forgot my password: what should I do?",
        "The password is required. The token is optional.",
    ],
    "prose after a colon": [
        "Password: must contain at least 12 characters.",
        "Secret: the best cakes have salt in them.",
    ],
    "prose about tokens": [
        "A token is a piece of a word: most words have one or two.",
        "Token: the smallest unit of text.",
    ],
    "prose about keys": [
        "The key is to listen. The key to success is patience.",
        "API keys: how to rotate them",
    ],
    "questions": ["What is my password?", "Where do I find the API key?", "Is the secret safe?"],
    "instructions": [
        "Enter your password, then click Sign in.",
        "Set the token in the settings before you start.",
    ],
    "error messages": [
        "Invalid password",
        "401 Unauthorized: the token has expired",
        "Error: missing API key",
    ],
    "documentation": [
        "`password`: the password of the user.",
        "api_key (str): The API key to use. Defaults to None.",
    ],
    "headings": ["# Passwords\n\n## Tokens\n\nSee below.\n", "Secrets\n=======\n"],
    "docstring": ["Args:\n    token: The token that the server gave.\n    password: What the user typed.\n"],
    "changelog": ["- Added: password reset by email\n- Fixed: token refresh in the background\n"],
    "commit message": ["feat(auth): rotate secrets and tokens (#1234)\n"],
    "pull request": ["Fixes the password field. Token handling is unchanged. See #42."],
    "chat": [
        [
            {"role": "user", "content": "How do I reset my password?"},
            {"role": "assistant", "content": "Click on the link."},
        ]
    ],
    "weather": [
        "It is 12 degrees in Paris with a light wind from the north.",
        {"city": "Paris", "degrees": 12},
    ],
    # Long runs of letters
    "paths": ["/usr/lib/python3.11/site-packages/nat_observability/processors/redaction/redactor.py"],
    "class names": [
        "AutoModelForCausalLM.from_pretrained",
        "org.springframework.boot.autoconfigure.web.servlet.WebMvcAutoConfiguration",
    ],
    "sk words": ["sk-learn-pipeline-example and sk-image-processing", "hf_transformers_example_model_name"],
    "long words": [
        "Donaudampfschifffahrtsgesellschaftskapitaen",
        "pneumonoultramicroscopicsilicovolcanoconiosis",
    ],
    "base64 image": [
        "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
    ],
    "hex dump": ["00000000  7f 45 4c 46 02 01 01 00  00 00 00 00 00 00 00 00  |.ELF............|"],
    "minified js": [
        '!function(e,t){"object"==typeof exports?module.exports=t():e.lib=t()}(this,function(){return 1});'
    ],
    "css": [".password-field { color: #1f2937; } .token:hover { opacity: .5; }"],
    "dna": ["ACGTACGTTAGCTAGCTAGCATCGATCGATCGATCGACTAGC"],
    "urls": [
        "https://example.com/docs/api-keys#rotate",
        "https://example.com/search?q=password+reset&page=2",
    ],
    "url with a port": ["http://localhost:8080/health and https://db.example.com:5432/"],
    "email addresses": ["Write to jane.doe@example.com or to the team."],
    "mentions": ["@bob:matrix.example.com wrote: see you at 10:30@room"],
    "times": ["2026-05-01T12:00:00.123456789Z took 00:01:23.456", "1741569952123456789"],
    "ipv6": ["listening on [2001:db8::1]:8080 and fe80::1%eth0"],
    "embedding": [{"embedding": [0.0123, -0.0456, 0.789], "index": 0}],
    "table of results": ["| model | tokens | pass |\n|---|---|---|\n| small | 812 | 93% |\n"],
    "csv of counts": ["name,tokens,passed\nsmall,812,93\nlarge,905,97\n"],
    "mathematics": ["key = (a + b) % m; secret sharing needs k of n points"],
    "python imports": ["from secrets import token_hex, token_urlsafe\nimport getpass, hmac\n"],
    "command help": ["$ gh auth token --help\n$ aws secretsmanager list-secrets --max-items 5"],
    "terraform references": ["password = var.db_password", "secret_key = random_password.main.result"],
    "kubernetes references": ["valueFrom:\n  secretKeyRef:\n    name: db\n    key: password\n"],
    "otel attributes": [
        {"gen_ai.usage.input_tokens": 100, "gen_ai.request.max_tokens": 200, "gen_ai.token.type": "input"}
    ],
    "anthropic usage": [
        {"cache_creation_input_tokens": 0, "cache_read_input_tokens": 512, "service_tier": "standard"}
    ],
    "finish reason": [{"finish_reason": "max_tokens", "stop_sequence": None}],
}
"""Texts and data of each kind."""
