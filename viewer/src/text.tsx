// Recorded text, with what cannot be seen made visible, and marks of redaction and cuts shown as marks.
import type { ComponentChildren } from "preact";

// Control characters, and those that turn the direction of text or have no width.
const HIDDEN = "\\u0000-\\u0008\\u000b-\\u001f\\u007f-\\u009f\\u00ad\\u034f\\u061c\\u115f\\u1160\\u17b4\\u17b5\\u180b-\\u180f" +
  "\\u200b-\\u200f\\u2028-\\u202e\\u2060-\\u206f\\u3164\\ufe00-\\ufe0f\\ufeff\\uffa0\\ufff9-\\ufffb";
const MARK = "\\[redacted:[a-z0-9_-]{1,40}(?::[0-9a-f]{16})?\\]|\\[cut:\\d+\\]";
const SPECIAL = new RegExp(`(${MARK}|[${HIDDEN}]|[\\u{e0000}-\\u{e007f}]|[\\ud800-\\udbff](?![\\udc00-\\udfff])|(?<![\\ud800-\\udbff])[\\udc00-\\udfff])`, "u");
const QUICK = new RegExp(`[${HIDDEN}\\udb40\\ufffd]|[\\ud800-\\udfff]|\\[redacted:|\\[cut:`);
const MARKED = new RegExp(MARK);

export const holdsMark = (text: string): boolean => MARKED.test(text);

/** The text without invisible characters, for titles and labels. */
export function plain(text: string, limit = 300): string {
  const cut = text.length > limit ? `${text.slice(0, limit)}…` : text;
  if (!QUICK.test(cut)) return cut;
  return cut.split(SPECIAL).map((part, index) => (index % 2 && !MARKED.test(part) ? code(part) : part)).join("");
}

const code = (character: string): string => `⟨U+${(character.codePointAt(0) ?? 0).toString(16).toUpperCase().padStart(4, "0")}⟩`;

function pieces(text: string): ComponentChildren {
  if (!QUICK.test(text)) return text;
  return text.split(SPECIAL).map((part, index) => {
    if (index % 2 === 0) return part;
    if (part.startsWith("[redacted:")) {
      return <mark class="redacted" title="Redacted before it was stored">{part.slice(1, -1)}</mark>;
    }
    if (part.startsWith("[cut:")) {
      return <mark class="cut" title={`Cut before it was stored; it had ${part.slice(5, -1)} characters or bytes`}>{part.slice(1, -1)}</mark>;
    }
    return <span class="hidden-char" title="A character that cannot be seen">{code(part)}</span>;
  });
}

/** `find` is marked, in any case. With `limit`, more characters are left out, and how many is said. */
export function Text({ value, limit = Infinity, find = "" }: { value: string; limit?: number; find?: string }) {
  const shown = value.length > limit ? value.slice(0, limit) : value;
  const rest = value.length - shown.length;
  return (
    <bdi>
      {find ? found(shown, find) : pieces(shown)}
      {rest > 0 && <span class="rest" title={`${rest} more characters`}>…</span>}
    </bdi>
  );
}

function found(text: string, find: string): ComponentChildren {
  const parts: ComponentChildren[] = [];
  const lower = text.toLowerCase();
  const wanted = find.toLowerCase();
  // Lower case may be longer than what it was made of: then nothing can be marked.
  if (lower.length !== text.length || !wanted) return pieces(text);
  let from = 0;
  for (let at = lower.indexOf(wanted); at >= 0 && parts.length < 400; at = lower.indexOf(wanted, from)) {
    parts.push(pieces(text.slice(from, at)), <mark class="hit">{pieces(text.slice(at, at + wanted.length))}</mark>);
    from = at + wanted.length;
  }
  parts.push(pieces(text.slice(from)));
  return parts;
}
