"""The shapes of tokens that have no fixed letters: parts of certain lengths, in a certain order."""

from __future__ import annotations

import re

# Tokens without fixed letters, whose parts tell: two long ones of hexadecimal digits, or ids between them.
_UUID = rb"[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}"
SHAPES = re.compile(
    rb"(?<![\w./+-])(?:"
    rb"(?P<mailgun_key>[0-9a-f]{32}-[0-9a-f]{8}-[0-9a-f]{8})|(?P<budibase_key>[0-9a-f]{32}-[0-9a-f]{78,80})"
    rb"|(?P<zhipu_key>[0-9a-f]{32}\.[A-Za-z0-9]{16})|(?P<twitter_token>[0-9]{15,20}-[A-Za-z0-9]{40})"
    rb"|(?P<ngrok_token>[1-9][A-Za-z0-9]{26}_[0-9][A-Za-z0-9]{20})|(?P<ditto_key>"
    + _UUID
    + rb"\.[a-z0-9]{40})"
    rb"|(?P<webex_token>[A-Za-z0-9]{64}_[A-Za-z0-9]{4}_"
    + _UUID
    + rb")|(?P<storyblok_token>[A-Za-z0-9]{22}tt-[0-9]{6}-[\w-]{20})"
    rb"|(?P<segment_key>(?=[\w-]{0,42}[0-9])[\w-]{43}\.[\w-]{43})|(?P<fal_key>" + _UUID + rb":[0-9a-f]{32})"
    rb"|(?P<ghost_key>[0-9a-f]{24}:[0-9a-f]{64})|(?P<facebook_token>[0-9]{15,16}\|[\w-]{27,40})|(?P<laravel_token>[0-9]{1,8}\|[A-Za-z0-9]{40,48})"
    rb"|(?P<ably_key>[\w-]{6}\.[\w-]{6}:[\w-]{43})|(?P<ngc_key>[a-z0-9]{26}:" + _UUID + rb")"
    rb")(?![\w./+=-])"
)
"""The name of each is the label of its mark."""

# Tables and names of images have such pairs.
HASH_BESIDE = re.compile(rb"[0-9]{1,20}[|-][0-9a-f]{32,64}|[0-9a-f]{32}\.[0-9a-f]{16}")
"""A number and the hash of something, which is no token although it has the shape of one."""

SHAPE_EXPRESSIONS: tuple[bytes, ...] = (
    rb"[0-9a-f]{8}-[0-9a-f]{8}[^\w-]", rb"[0-9a-f]{8}-[0-9a-f]{8}$", rb"[0-9a-f]{8}-[0-9a-f]{20}",
        rb"[0-9a-f]{1"
        rb"6}\.[a-z0-9]{16}",
    rb"[0-9]{15}-[a-z0-9]{40}", rb"[a-z0-9]{20}_[0-9][a-z0-9]{20}", rb"-[0-9a-f]{12}\.[a-z0-9]{40}",
    rb"[a-z0-9]{20}_[a-z0-9]{4}_[0-9a-f]{8}-", rb"tt-[0-9]{6}-", rb"[\w-]{40}\.[\w-]{40}",
        rb"[0-9a-f]{12}:[0-9a"
        rb"-f]{32}",
    rb"[0-9a-f]{24}:[0-9a-f]{32}", rb"[0-9]\|[\w-]{27}", rb"\.[\w-]{6}:[\w-]{40}", rb"[a-z0-9]{26}:[0-9a-f]{8}-",
)  # fmt: skip
"""One of them, in either case, is in every text with such a token."""


# Tokens with colons and dollar signs, of which only a part is a run.
LED = re.compile(
    rb"(?P<astra_token>AstraCS:[A-Za-z0-9]{20,}:[0-9a-f]{40,})"
    rb"|(?P<paypal_token>access_token\$(?:production|sandbox)\$[a-z0-9]{16}\$[0-9a-f]{32})"
    rb"|(?P<firebase_key>(?<![\w-])[\w-]{8,32}:APA91b[\w-]{60,})"
    rb"|(?P<twitch_token>\boauth:[a-z0-9]{24,40})|(?P<amazon_token>At(?:za|zr|c)\|[\w+/=-]{30,})|(?P<azure_key>git&[0-9]{12}&[A-Za-z0-9+/]{80,}={0,2})"
    rb"|(?P<snowflake_token>ver:\d{1,4}-hint:\d{1,20}-ETMsDgAAA[A-Za-z0-9+/=]{40,})"
)
LEADS = (
    b"atza|", b"atzr|", b"atc|", b"oauth:", b"git&", b"astracs:", b"$production$", b"$sandbox$", b":apa91b", b"-hint:",
)  # fmt: skip
"""One of them is before each of those, in lower case."""

LEAD_EXPRESSIONS = (
    rb"at(?:za|zr|c)\|", rb"git&[0-9]{12}&", rb"oauth:[a-z0-9]{16}", rb"astracs:", rb"\$production\$", rb"\$sandbox\$",
    rb":apa91b", rb"-hint:",
)  # fmt: skip
"""And one of these matches there."""
