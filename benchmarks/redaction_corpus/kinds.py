"""Kinds: secrets of a form of their own, and of any form under a name that tells; every value is made up."""

from __future__ import annotations

import base64
import random
import re
import string
import uuid
from dataclasses import dataclass

from benchmarks.redaction_corpus.forms import FORMS
from benchmarks.redaction_corpus.names import NAMES

SOURCES = {"gl": "gitleaks", "th": "trufflehog", "ds": "detect-secrets"}

_ALPHABETS = {
    "an": string.ascii_letters + string.digits,
    "letters": string.ascii_letters,
    "low": string.ascii_lowercase + string.digits,
    "UP": string.ascii_uppercase + string.digits,
    "dig": string.digits,
    "hex": "0123456789abcdef",
    "HEX": "0123456789ABCDEF",
    "url": string.ascii_letters + string.digits + "_-",
    "word": string.ascii_letters + string.digits + "_",
    "b64": string.ascii_letters + string.digits + "+/",
    "b32": string.ascii_uppercase + "234567",
    "bech": "QPZRY9X8GF2TVDW0S3JN54KHCE6MUA7L",
}
_SEGMENT = re.compile(r"\{(\w+)(?::(\d+))?\}")
_WORDS = [
    "harbor",
    "velvet",
    "copper",
    "meadow",
    "lantern",
    "walnut",
    "ribbon",
    "thunder",
    "pepper",
    "orchid",
    "saddle",
    "marble",
    "compass",
    "cinder",
    "falcon",
    "juniper",
    "basket",
    "anchor",
    "willow",
    "tunnel",
    "glacier",
    "pistol",
    "rocket",
    "domino",
]
_SYMBOLS = "!#%*+-=?@^_~.,$&"


@dataclass(frozen=True, slots=True)
class Kind:
    """
    A kind of secret.

    Attributes:
        name: Its own name.
        field: The name, in snake case, under which it is given where something tells.
        source: Who publishes its form or its name.
        template: How it is made, empty for a kind known by its name only.
        shape: What its values look like, empty for a kind known by its form.
    """

    name: str
    field: str
    source: str
    template: str = ""
    shape: str = ""

    @property
    def has_form(self) -> bool:
        """Whether its form shows what it is."""
        return bool(self.template)

    def make(self, chosen: random.Random) -> Secret:
        """Return a secret of this kind."""
        return of_form(self.template, chosen) if self.template else of_shape(self.shape, chosen)


@dataclass(frozen=True, slots=True)
class Secret:
    """A value, and the parts of it that nobody may see."""

    value: str
    parts: tuple[str, ...]


def of_form(template: str, chosen: random.Random) -> Secret:
    """Return a secret made by a template; its random parts are what is secret."""
    parts: list[str] = []

    def segment(match: re.Match[str]) -> str:
        alphabet, count = match[1], int(match[2] or 0)
        if alphabet.startswith("uuid"):
            part = str(uuid.UUID(int=chosen.getrandbits(128), version=4))
        elif alphabet == "basic":
            text = "admin:" + "".join(chosen.choices(_ALPHABETS["an"], k=count))
            part = base64.b64encode(text.encode()).decode()
        else:
            part = "".join(chosen.choices(_ALPHABETS[alphabet], k=count - 1))
            # No separator at the end, which would be taken for the end of a sentence.
            part += chosen.choice([each for each in _ALPHABETS[alphabet] if each.isalnum()])
        parts.append(part)
        return part

    value = _SEGMENT.sub(segment, template)
    return Secret(value, tuple(parts))


def of_shape(shape: str, chosen: random.Random) -> Secret:
    """Return a secret without a form of its own."""
    if shape == "hex":
        value = "".join(chosen.choices(_ALPHABETS["hex"], k=32))
    elif shape == "base64":
        value = base64.b64encode(chosen.randbytes(31)).decode()
    elif shape == "letters":
        value = "".join(chosen.choices(_ALPHABETS["an"], k=chosen.randint(12, 24)))
    elif shape == "words":
        value = "-".join(chosen.sample(_WORDS, 3))
    elif shape == "phrase":
        value = " ".join(chosen.sample(_WORDS, 4))
    elif shape == "symbols":
        middle = [chosen.choice(_ALPHABETS["an"]) + chosen.choice(_SYMBOLS) for _ in range(5)]
        value = "".join((chosen.choice(string.ascii_letters), *middle, chosen.choice(string.digits)))
    elif shape == "quotes":
        value = "{}\"{}'{}".format(*("".join(chosen.choices(_ALPHABETS["an"], k=6)) for _ in range(3)))
    elif shape == "brackets":
        value = "[{}]{}".format(*("".join(chosen.choices(_ALPHABETS["an"], k=8)) for _ in range(2)))
    elif shape == "scheme":
        value = "{SSHA}" + base64.b64encode(chosen.randbytes(24)).decode()
    elif shape == "letters of others":
        value = "".join(chosen.choices("äöüßéèñçøåабвгджзи密码强度", k=9)) + chosen.choice(string.digits)
    elif shape == "numbers":
        value = "".join(chosen.choices("123456789", k=6))
    else:
        value = str(uuid.UUID(int=chosen.getrandbits(128), version=4))
    return Secret(value, (value,))


def _field_of(name: str) -> str:
    """Return a name that a kind of that form is usually given under."""
    if name.endswith(("_url", "webhook", "workflow")):
        return f"{name}_secret"
    if "key" in name or "secret" in name or "token" in name:
        return name
    return f"{name}_token"


FORM_KINDS: tuple[Kind, ...] = tuple(
    Kind(name, _field_of(name), SOURCES.get(source, source), template=template)
    for name, template, source in FORMS
)
NAME_KINDS: tuple[Kind, ...] = tuple(
    Kind(f"{name}/{shape}", name, "names of secrets in public rule sets", shape=shape)
    for name, shapes in NAMES
    for shape in shapes
)
KINDS: tuple[Kind, ...] = FORM_KINDS + NAME_KINDS
