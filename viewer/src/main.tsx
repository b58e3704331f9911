// The page that the viewer's server gives.
import { render } from "preact";
import { useMemo } from "preact/hooks";
import { server, takeToken } from "./api";
import { ComparePage } from "./compare";
import { ConversationPage } from "./conversation";
import { joined } from "./joined";
import { bind, listenToKeys } from "./keys";
import { RunPage } from "./run";
import { RunsPage } from "./runs";
import { SearchPage } from "./search";
import { Shell } from "./shell";
import { address, go, helpShown, listen, nextTheme, parse, route } from "./state";
import { StatisticsPage } from "./statistics";
import { StorePage } from "./storepage";

function App() {
  const { page, id, query } = route.value;
  return <Shell>{pageOf(page, id, query.has("joined"))}</Shell>;
}

function Joined({ id }: { id: string }) {
  const source = useMemo(() => joined(id), [id]);
  return <RunPage source={source} id={id} />;
}

function pageOf(page: string, id: string, whole: boolean) {
  switch (page) {
    case "run":
      return whole ? <Joined key={`${id} joined`} id={id} /> : <RunPage key={id} source={server} id={id} />;
    case "conversation":
      return <ConversationPage key={id} id={id} />;
    case "compare":
      return <ComparePage />;
    case "search":
      return <SearchPage />;
    case "stats":
      return <StatisticsPage />;
    case "store":
      return <StorePage />;
    default:
      return <RunsPage />;
  }
}

takeToken();
route.value = parse(location.hash);
listen();
listenToKeys();
// Before those of any page, which win.
bind({ t: nextTheme, "?": () => (helpShown.value = true), "/": () => go(address("search")) });
render(<App />, document.getElementById("app")!);
