"""KeyMatcher: says which names of fields have secret values."""

from __future__ import annotations

import re
from collections.abc import Iterable

from nat_observability.errors import InvalidPatternError

DEFAULT_KEYS: tuple[str, ...] = (
    "*password*",
    "*passwd*",
    "*passphrase*",
    "*passcode*",
    "*pwd",
    # Not *pass: without separators, it would also match bypass and compass.
    "pass",
    "*admin_pass",
    "*become_pass",
    "*db_pass",
    "*ftp_pass",
    "*login_pass",
    "*mail_pass",
    "*redis_pass",
    "*root_pass",
    "*smtp_pass",
    "*sql_pass",
    "*ssh_pass",
    "*sudo_pass",
    "*user_pass",
    "*secret",
    "*secrets",
    "*secret_key*",
    "*secret_value*",
    "*secret_string",
    "*secret_binary",
    "*secret_id",
    "*secret_hash",
    "*secret_data",
    "*token",
    "*authorization",
    "auth",
    "*http_auth",
    "*basic_auth",
    "*proxy_auth",
    "*api_key*",
    "*access_key*",
    "*private_key*",
    "*account_key",
    "*auth_key",
    "*encryption_key",
    "*master_key",
    "*service_key",
    "*session_key",
    "*shared_key",
    "*signing_key",
    "*ssh_key",
    "*storage_key",
    "*subscription_key",
    "*client_key_data",
    "*credential",
    "*credentials",
    "*cookie",
    "*cookies",
    "*csrf",
    "*bearer",
    "sig",
    "x_*_signature",
    "otp",
    "cvv*",
    "cvc",
    # Not secret in spite of the name: positions in a list, and the words of a model.
    "!*next_token",
    "!*page_token",
    "!*continuation_token",
    "!*sync_token",
    "!*cancellation_token",
    "!*special_token",
    "!*stop_token",
    "!*per_token",
    "!bos_token",
    "!cls_token",
    "!eos_token",
    "!mask_token",
    "!pad_token",
    "!sep_token",
    "!unk_token",
)
"""Names of fields whose values never leave the process by default; a `!` marks exceptions."""

UNSURE = "pass"
"""The label of the name that means either a password or that something has passed: see `is_verdict`."""

# How much has passed, or whether it has.
_VERDICT = re.compile(
    rb"[0-9]{0,5}(?:[./,:][0-9]{1,6})?\s?(?:%|m?s)?|yes|no|y|n|ok|true|false|none|null|nil|undefined|n/?a|"
    rb"pass|passed|passes|passing|fail|failed|fails|failure|failing|success|succeeded|error|errors|skip|skipped|"
    rb"warn|warning|partial|pending|unknown|done|all|always|never|required|optional",
    re.IGNORECASE,
)

_SEPARATORS = str.maketrans("", "", "-_. \t")
_BLANK = re.compile(r"\s")
_PATH = re.compile(r"[.:/\\\[\]]+")
_REMEMBERED = 4096  # names
_LONGEST_REMEMBERED = 128  # characters
_LONGEST = 256  # characters of a name
# Bytes of a name of several words: of a longer one only the end counts, which is what the prefilter sees.
LONGEST_PHRASE = 96


def normalised(name: str) -> str:
    """Return `name` in the form that `X-API-Key`, `x_api_key` and `xApiKey` share."""
    return name.lower().translate(_SEPARATORS)


def is_verdict(label: str, value: bytes) -> bool:
    """Say whether a name with that label means, with this value, that something has passed: not a password."""
    return label == UNSURE and _VERDICT.fullmatch(value.strip(b" \t\r\n)]},;.!*")) is not None


class KeyMatcher:
    """
    Says whether the value of a field is secret, by the name of the field.

    Args:
        keys: Names; `*` stands for any characters, `?` for one. A `!` before a name means that it is not secret
            although another key matches it. Case and separators do not matter.

    Raises:
        InvalidPatternError: A key is not a text, or is empty.
    """

    __slots__ = ("_exact", "_globs", "_kept", "_letters", "_memo", "labels", "needles")

    def __init__(self, keys: Iterable[object]) -> None:
        self._exact: dict[str, str] = {}
        self._globs: list[tuple[re.Pattern[str], str]] = []
        kept: list[str] = []
        needles: set[str] = set()
        letters: list[tuple[str, str]] = []
        for key in keys:
            if not isinstance(key, str) or not (glob := normalised(key.removeprefix("!"))):
                raise InvalidPatternError(
                    key, "a key must be a non-empty text", "Use the name of a field, such as 'x-api-key'."
                )
            if key.startswith("!"):
                kept.append(_expression(glob))
                continue
            needles.add(_needle(glob))
            letters.append((_needle(glob).rstrip(":"), _label(key)))
            if "*" in glob or "?" in glob:
                self._globs.append((re.compile(_expression(glob), re.DOTALL), _label(key)))
            else:
                self._exact[glob] = _label(key)
        self._kept = re.compile("|".join(kept), re.DOTALL) if kept else None
        self._letters = tuple(letters)
        self._memo: dict[str, str | None] = {}
        self.needles = frozenset(needles)
        self.labels = frozenset((*self._exact.values(), *(label for _, label in self._globs)))

    def label(self, name: str) -> str | None:
        """Return the label for the value of such a field, None if the value is not secret."""
        try:
            return self._memo[name]
        except KeyError:
            label = self._find(name)
            # Several threads may exceed the limit by a few names.
            if len(name) <= _LONGEST_REMEMBERED and len(self._memo) < _REMEMBERED:
                self._memo[name] = label
            return label

    def _find(self, name: str) -> str | None:
        if len(name) > LONGEST_PHRASE // 4 and _BLANK.search(name) is not None:
            name = name.encode(errors="replace")[-LONGEST_PHRASE:].decode(errors="ignore")
        label = self._of(name)
        if label is None and (parts := _PATH.split(name)) and len(parts) > 1:
            # The last part of a path: config.db.auth, user[auth], ns:auth.
            label = self._of(next((part for part in reversed(parts) if part), ""))
        return label

    def _of(self, name: str) -> str | None:
        plain = normalised(name)
        if len(plain) > _LONGEST:
            # Hardly a name: it counts as secret if it contains the letters of a key, which takes little time.
            return next((label for needle, label in self._letters if needle in plain), None)
        if self._kept is not None and self._kept.fullmatch(plain):
            return None
        if plain in self._exact:
            return self._exact[plain]
        for expression, label in self._globs:
            if expression.fullmatch(plain):
                return label
        return None


def _expression(glob: str) -> str:
    # Lazy repetitions match in linear time for one asterisk at either end, and otherwise in polynomial time, which is
    # fast enough for names.
    return "".join(".*?" if each == "*" else "." if each == "?" else re.escape(each) for each in glob)


def _needle(glob: str) -> str:
    """Return letters that are in every name that `glob` matches, with a colon if the name ends with them."""
    literals = re.split(r"[*?]", glob)
    longest = max(literals, key=len)
    return f"{longest}:" if longest and literals[-1] == longest else longest


def _label(key: str) -> str:
    return re.sub(r"[^a-z0-9]+", "_", key.lower()).strip("_")[:40] or "key"
