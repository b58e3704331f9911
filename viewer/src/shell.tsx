// What surrounds every page: navigation, notices and the list of keys.
import type { ComponentChildren } from "preact";
import { useEffect, useRef } from "preact/hooks";
import { offline } from "./api";
import { KEYS } from "./keys";
import { address, helpShown, keysOn, marked, nextTheme, notice, route, theme } from "./state";

const PAGES: [string, string][] = [["runs", "Runs"], ["search", "Search"], ["stats", "Statistics"], ["store", "Store"]];

export function Shell({ children, navigation = true }: { children: ComponentChildren; navigation?: boolean }) {
  const page = route.value.page;
  const within = page === "run" || page === "conversation" ? "runs" : page;
  return (
    <>
      <a class="skip" href="#main" onClick={(event) => {
        event.preventDefault();
        const main = document.querySelector<HTMLElement>("main");
        main?.setAttribute("tabindex", "-1");
        main?.focus();
      }}>Skip to the content</a>
      <header class="top">
        <span class="brand">◈ <span>nat-observability</span></span>
        {navigation && <nav aria-label="Pages">{PAGES.map(([id, title]) => <a href={address(id)} aria-current={within === id ? "page" : undefined}>{title}</a>)}</nav>}
        <span class="spacer" />
        {marked.value.length === 1 && <span class="chip">1 run marked: mark another to compare <button class="quiet" aria-label="Unmark" onClick={() => (marked.value = [])}>✕</button></span>}
        <button class="quiet" onClick={nextTheme} title="Key: t">Theme: {theme.value}</button>
        <button class="quiet" onClick={() => (helpShown.value = true)} aria-haspopup="dialog" title="Key: ?">Keys</button>
      </header>
      {offline.value && <p class="offline" role="alert">{offline.value}</p>}
      {children}
      <div class="toast" role="status" aria-live="polite">{notice.value}</div>
      {helpShown.value && <Help />}
    </>
  );
}

function Help() {
  const dialog = useRef<HTMLDialogElement>(null);
  useEffect(() => {
    dialog.current?.showModal();
  }, []);
  return (
    <dialog ref={dialog} class="help" aria-labelledby="help-title" onClose={() => (helpShown.value = false)}>
      <h2 id="help-title">Keys</h2>
      <dl class="keys">
        {KEYS.map(([keys, what]) => <div><dt>{keys.split(" ").map((each) => <kbd>{each}</kbd>)}</dt><dd>{what}</dd></div>)}
      </dl>
      <p class="faint">They do nothing while a field has the focus.</p>
      <label class="check"><input type="checkbox" checked={keysOn.value} onChange={(event) => (keysOn.value = (event.target as HTMLInputElement).checked)} /> Keys of one character are on</label>
      <p><button onClick={() => dialog.current?.close()}>Close</button></p>
    </dialog>
  );
}
