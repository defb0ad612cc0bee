/** The frame round every page: name, places, who reads, what this is not for. */

import { useEffect, useState } from "preact/hooks";
import { CasePage } from "./case/CasePage";
import { Help } from "./parts/Help";
import { QualityPage } from "./quality/QualityPage";
import { go, route } from "./route";
import { reader } from "./settings";
import { useShortcuts } from "./shortcuts";
import { WorklistPage } from "./worklist/WorklistPage";

export function App() {
  const [help, setHelp] = useState(false);
  useShortcuts(() => [
    { keys: ["?"], what: "This list", group: "Everywhere", run: () => setHelp(true) },
    { keys: ["w"], what: "Worklist", group: "Everywhere", run: () => go({ page: "worklist" }) },
    { keys: ["q"], what: "Quality dashboard", group: "Everywhere", run: () => go({ page: "quality" }) },
  ]);
  const { page } = route.value;
  useEffect(() => setHelp(false), [page]);
  return (
    <>
      <a
        class="skip"
        href="#main"
        onClick={(event) => {
          event.preventDefault();
          document.getElementById("main")?.focus();
        }}
      >
        Skip to the content
      </a>
      <header class="top">
        <a class="brand" href="#/">
          <img src="./icon.svg" alt="" width="22" height="22" /> Pellucid
        </a>
        <nav aria-label="Places">
          <a href="#/" aria-current={page === "worklist" ? "page" : undefined}>
            Worklist
          </a>
          <a href="#/quality" aria-current={page === "quality" ? "page" : undefined}>
            Quality
          </a>
        </nav>
        <p class="research" role="note">
          Research use. Not for primary diagnosis.
        </p>
        <label class="reader">
          <span>Reader</span>
          <input
            type="text"
            maxLength={64}
            placeholder="name or code"
            value={reader.value}
            autocomplete="off"
            onChange={(event) => {
              reader.value = event.currentTarget.value.trim();
            }}
          />
        </label>
        <button
          type="button"
          class="plain"
          onClick={() => setHelp(true)}
          aria-label="Keyboard shortcuts"
          title="Keyboard shortcuts (?)"
        >
          ?
        </button>
      </header>
      <main id="main" tabIndex={-1} class={page}>
        {page === "case" ? <CasePage /> : page === "quality" ? <QualityPage /> : <WorklistPage />}
      </main>
      {help && <Help onClose={() => setHelp(false)} />}
    </>
  );
}
