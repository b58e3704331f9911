// The page that the viewer's server gives.
import { render } from "preact";
import { server, takeToken } from "./api";
import { ComparePage } from "./compare";
import { ConversationPage } from "./conversation";
import { bind, listenToKeys } from "./keys";
import { RunPage } from "./run";
import { RunsPage } from "./runs";
import { SearchPage } from "./search";
import { Shell } from "./shell";
import { address, go, helpShown, listen, nextTheme, parse, route } from "./state";
import { StatisticsPage } from "./statistics";
import { StorePage } from "./storepage";

function App() {
  const { page, id } = route.value;
  return <Shell>{pageOf(page, id)}</Shell>;
}

function pageOf(page: string, id: string) {
  switch (page) {
    case "run":
      return <RunPage key={id} source={server} id={id} />;
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
