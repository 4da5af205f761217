// The application: the bar on top, the page of the address, and what may lie over it.
import { signal } from "@preact/signals";
import type { ComponentType } from "preact";
import { useEffect } from "preact/hooks";
import { useShortcuts } from "./keyboard";
import { QueuePage } from "./pages/queue/queue_page";
import { RunPage } from "./pages/run/run_page";
import { RunsPage } from "./pages/runs/runs_page";
import { WorkflowPage } from "./pages/workflows/workflow_page";
import { WorkflowsPage } from "./pages/workflows/workflows_page";
import { Empty } from "./parts/feedback";
import { HelpDialog } from "./parts/help";
import { SignIn } from "./parts/sign_in";
import { TopBar } from "./parts/top_bar";
import { followLink, match, navigate, place } from "./router";
import { signInReason, token } from "./session";

type Page = ComponentType<Record<string, string>>;

/** Paths that the server knows, too: runengine_server/http/console.py. */
const PAGES: readonly (readonly [string, unknown])[] = [
  ["/runs", RunsPage],
  ["/runs/{id}", RunPage],
  ["/queue", QueuePage],
  ["/workflows", WorkflowsPage],
  ["/workflows/{name}", WorkflowPage],
];

const isHelpOpen = signal(false);

export function App() {
  useShortcuts([
    { keys: "?", does: "Show these keys", run: () => (isHelpOpen.value = true) },
    { keys: "g r", does: "Go to runs", run: () => navigate("/runs") },
    { keys: "g q", does: "Go to the queue", run: () => navigate("/queue") },
    { keys: "g w", does: "Go to workflows", run: () => navigate("/workflows") },
  ]);
  useEffect(() => {
    addEventListener("click", followLink);
    return () => removeEventListener("click", followLink);
  }, []);
  return (
    <>
      <a class="skip-link" href="#main">
        Skip to content
      </a>
      <TopBar onHelp={() => (isHelpOpen.value = true)} />
      {signInReason.value && <SignIn />}
      {isHelpOpen.value && <HelpDialog onClose={() => (isHelpOpen.value = false)} />}
      <main id="main" tabIndex={-1}>
        {/* Without a token that counts nothing is shown or asked; another one may see other things: pages begin anew. */}
        {signInReason.value === "" && <CurrentPage key={token.value} />}
      </main>
    </>
  );
}

function CurrentPage() {
  const path = place.value.path;
  useEffect(() => {
    if (path === "/") navigate("/runs", "replace");
  }, [path]);
  if (path === "/") return null;
  for (const [pattern, page] of PAGES) {
    const found = match(pattern, path);
    if (found !== null) {
      const Shown = page as Page;
      return <Shown key={path} {...found} />;
    }
  }
  return (
    <Empty title="There is no such page">
      <p>
        Nothing is at <code>{path}</code>. <a href="/runs">All runs</a>
      </p>
    </Empty>
  );
}
