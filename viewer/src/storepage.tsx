// The store itself: its file, its index, who writes to it, and whether anything was lost.
import { useEffect } from "preact/hooks";
import { store } from "./api";
import { ago, bytes, count, fullMoment, percent, plural } from "./format";
import { Problem, useAnswer } from "./parts";
import { plain, Text } from "./text";

export function StorePage() {
  const { value, error, reload } = useAnswer((signal) => store(signal), []);
  useEffect(() => {
    document.title = "Store";
    const beat = setInterval(() => document.hidden || reload(), 3000);
    return () => clearInterval(beat);
  }, []);
  if (error) return <main id="main" class="page"><h1>Store</h1><Problem>{error}</Problem></main>;
  if (!value) return <main id="main" class="page" aria-busy="true"><h1>Store</h1></main>;
  const { sidecar } = value;
  return (
    <main id="main" class="page">
      <h1>Store</h1>
      <dl class="facts tall">
        <div class="wide"><dt>File</dt><dd class="mono"><Text value={value.path} limit={1000} /></dd></div>
        <div><dt>Size</dt><dd>{bytes(value.size)}{value.wal > 0 && <span class="faint"> and {bytes(value.wal)} of log</span>}</dd></div>
        <div><dt>Runs</dt><dd>{value.runs === null ? "not counted: it takes too long" : count(value.runs)}</dd></div>
        <div><dt>Spans</dt><dd>{value.spans === null ? "not counted: it takes too long" : count(value.spans)}</dd></div>
        {value.oldest !== null && <div><dt>Oldest run</dt><dd title={fullMoment(value.oldest)}>{ago(value.oldest)}</dd></div>}
        {value.newest !== null && <div><dt>Newest run</dt><dd title={fullMoment(value.newest)}>{ago(value.newest)}</dd></div>}
        <div><dt>Version</dt><dd>{value.version}{value.version < value.known && <span class="faint"> of {value.known}: counters, ledgers and running steps are missing</span>}</dd></div>
        <div><dt>Access</dt><dd>{value.readonly ? "read-only file" : "opened to read"}</dd></div>
      </dl>
      {sidecar && (
        <section>
          <h2>Index of this viewer</h2>
          <dl class="facts tall">
            <div class="wide"><dt>File</dt><dd class="mono"><Text value={sidecar.path} limit={1000} /></dd></div>
            <div><dt>Size</dt><dd>{bytes(sidecar.size)}</dd></div>
            <div><dt>State</dt><dd>{sidecar.state}{sidecar.state !== "off" && `, ${percent(sidecar.indexed, sidecar.total)}`}</dd></div>
          </dl>
          <p class="faint">It holds what search and statistics need, is made by the viewer alone, and may be deleted at any time.</p>
          {sidecar.problem && <Problem>{sidecar.problem}</Problem>}
        </section>
      )}
      {value.exporters.length > 0 && (
        <section>
          <h2>What became of what was recorded</h2>
          <div class="table-box" tabIndex={0} role="region" aria-label="Ledgers">
            <table class="list">
              <thead><tr><th scope="col">Exporter</th><th scope="col" class="number">Accepted</th><th scope="col" class="number">Delivered</th><th scope="col" class="number">Failed</th><th scope="col" class="number">Pending</th><th scope="col">Dropped</th></tr></thead>
              <tbody>
                {value.exporters.map((each) => (
                  <tr><th scope="row"><Text value={each.exporter} limit={80} /></th><td class="number">{count(each.accepted)}</td><td class="number">{count(each.delivered)}</td><td class="number">{each.failed ? <span class="warn">{count(each.failed)}</span> : "0"}</td><td class="number">{count(each.pending)}</td><td>{Object.entries(each.dropped).map(([reason, number]) => <span class="chip warn">{count(number)} {plain(reason, 60)}</span>)}</td></tr>
                ))}
              </tbody>
            </table>
          </div>
        </section>
      )}
      {value.processes.length > 0 && (
        <section>
          <h2>{plural(value.processes.filter((each) => each.alive).length, "process writes", "processes write")} to it now</h2>
          <div class="table-box" tabIndex={0} role="region" aria-label="Processes">
            <table class="list">
              <thead><tr><th scope="col">Process</th><th scope="col">Host</th><th scope="col">State</th><th scope="col">Last seen</th></tr></thead>
              <tbody>{value.processes.map((each) => <tr><th scope="row" class="mono">{each.pid}</th><td><Text value={each.host} limit={80} /></td><td>{each.alive ? "writing" : "ended"}</td><td>{ago(each.seen)}</td></tr>)}</tbody>
            </table>
          </div>
        </section>
      )}
    </main>
  );
}
