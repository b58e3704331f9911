// Numbers, times and identifiers as people read them.

const counts = new Intl.NumberFormat("en");
const DAY_US = 86_400_000_000;

export const count = (value: number): string => counts.format(value);

export const plural = (value: number, noun: string, many = `${noun}s`): string =>
  `${count(value)} ${value === 1 ? noun : many}`;

/** A duration, from microseconds. A span may end before it starts. */
export function duration(us: number): string {
  if (us < 0) return `−${duration(-us)}`;
  if (us < 1000) return `${Math.round(us)} µs`;
  if (us < 1_000_000) return `${digits(us / 1000)} ms`;
  if (us < 60_000_000) return `${digits(us / 1_000_000)} s`;
  if (us < 3_600_000_000) return `${Math.floor(us / 60_000_000)} min ${Math.floor((us % 60_000_000) / 1_000_000)} s`;
  if (us < DAY_US) return `${Math.floor(us / 3_600_000_000)} h ${Math.floor((us % 3_600_000_000) / 60_000_000)} min`;
  return `${digits(us / DAY_US)} d`;
}

const digits = (value: number): string => (value < 10 ? value.toFixed(2) : value < 100 ? value.toFixed(1) : value.toFixed(0));

export function bytes(size: number): string {
  if (size < 1024) return `${size} B`;
  if (size < 1048576) return `${digits(size / 1024)} KB`;
  if (size < 1073741824) return `${digits(size / 1048576)} MB`;
  return `${digits(size / 1073741824)} GB`;
}

export function tokens(value: number): string {
  if (value < 1000) return `${value}`;
  if (value < 1_000_000) return `${digits(value / 1000)}k`;
  return `${digits(value / 1_000_000)}M`;
}

export const cost = (value: number): string => (value === 0 ? "0" : value < 0.01 ? value.toPrecision(2) : value.toFixed(2));

export const percent = (part: number, whole: number): string =>
  whole ? `${((100 * part) / whole).toFixed(part === whole || part === 0 ? 0 : 1)}%` : "0%";

const day = new Intl.DateTimeFormat("en-CA", { year: "numeric", month: "2-digit", day: "2-digit" });
const clock = new Intl.DateTimeFormat("en-GB", { hour: "2-digit", minute: "2-digit", second: "2-digit" });

// What Date can hold; a store may hold anything.
const valid = (us: number): boolean => Math.abs(us) < 8.64e18 && Number.isFinite(us) && Math.abs(us / 1000) <= 8.64e15;

/** A moment in the reader's time zone, from microseconds since the epoch; the day is left out if it is today. */
export function moment(us: number, now = Date.now()): string {
  if (!valid(us)) return "unknown time";
  const date = new Date(us / 1000);
  const time = clock.format(date);
  return day.format(date) === day.format(new Date(now)) ? time : `${day.format(date)} ${time}`;
}

export function fullMoment(us: number): string {
  if (!valid(us)) return "unknown time";
  const date = new Date(us / 1000);
  const fraction = String(Math.floor(us % 1_000_000)).padStart(6, "0");
  return `${day.format(date)} ${clock.format(date)}.${fraction} ${zone()}`;
}

export function isoMoment(us: number): string {
  return valid(us) ? new Date(us / 1000).toISOString() : "";
}

export function ago(us: number, now = Date.now()): string {
  const seconds = Math.max(0, now / 1000 - us / 1e6);
  if (seconds < 60) return `${Math.floor(seconds)} s ago`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min ago`;
  if (seconds < 86400) return `${Math.floor(seconds / 3600)} h ago`;
  return `${Math.floor(seconds / 86400)} d ago`;
}

export const zone = (): string => Intl.DateTimeFormat().resolvedOptions().timeZone ?? "local time";
