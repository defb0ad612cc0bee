/** What came in, what became of it, and what waits for a reader. */

import { signal } from "@preact/signals";
import { useEffect, useRef, useState } from "preact/hooks";
import { analyseAgain, problemOf, remove, worklist } from "../api/client";
import type { AnalysisRow, Problem, StudyRow, Worklist } from "../api/types";
import { ProblemNotice, Spinner } from "../parts/controls";
import { go, refine, route } from "../route";
import { useShortcuts } from "../shortcuts";
import "../styles/worklist.css";
import { Filters } from "./Filters";
import { placeOf } from "./place";
import { Sending } from "./Sending";
import { StudyRows } from "./StudyRows";

const PAGE = 50;
const BUSY_MS = 1000;
const QUIET_MS = 4000;

/** Key of the study that the keyboard is on, and how many are listed: kept, so that a reader comes back to the same place. */
const chosen = signal("");
const listed = signal(PAGE);

export function WorklistPage() {
  const query = route.value.page === "worklist" ? (route.value.query ?? {}) : {};
  const [asked, setAsked] = useState(0);
  const { list, problem } = usePolled(query, listed.value, asked);
  const search = useRef<HTMLInputElement>(null);
  const studies = list?.studies ?? [];
  const found = studies.findIndex((one) => one.key === chosen.value);
  const at = Math.max(0, found);
  /** Not of the last drawing: a key that is held comes faster than a long list is drawn. */
  const now = () =>
    Math.max(
      0,
      studies.findIndex((one) => one.key === chosen.peek()),
    );
  const open = (study: StudyRow | undefined) => study && go(placeOf(study));
  const step = (by: number) => {
    const next = studies[Math.max(0, Math.min(studies.length - 1, now() + by))];
    if (!next) return;
    chosen.value = next.key;
    requestAnimationFrame(scrollToChosen);
  };
  useShortcuts(
    () => [
      { keys: ["j", "ArrowDown"], what: "Next study", group: "Worklist", run: () => step(1) },
      { keys: ["k", "ArrowUp"], what: "Previous study", group: "Worklist", run: () => step(-1) },
      { keys: ["Enter"], what: "Open the study", group: "Worklist", run: () => open(studies[now()]) },
      { keys: ["/"], what: "Search", group: "Worklist", run: () => search.current?.focus() },
    ],
    [list],
  );
  const filled = studies.length > 0;
  useEffect(() => {
    // What comes in later moves the study, but neither the choice nor the page.
    if (filled && found < 0) chosen.value = studies[0]!.key;
  }, [list]);
  useEffect(scrollToChosen, [filled]);
  const change = (to: Record<string, string>) => {
    listed.value = PAGE;
    refine({
      page: "worklist",
      query: Object.fromEntries(Object.entries({ ...query, ...to }).filter(([, value]) => value)),
    });
  };
  const again = async (analysis: AnalysisRow) => {
    const started = await analyseAgain({ analysis: analysis.id });
    setAsked((n) => n + 1);
    return started;
  };
  const forget = async (analysis: AnalysisRow) => {
    await remove(analysis.id);
    setAsked((n) => n + 1);
  };
  return (
    <div class="worklist-page">
      <h1 class="sr-only">Worklist</h1>
      <Sending />
      <Filters query={query} counts={list?.counts ?? null} onChange={change} search={search} />
      {problem && <ProblemNotice problem={problem} />}
      {!list && !problem && <Spinner>Loading the worklist ...</Spinner>}
      {list && studies.length === 0 && <Nothing filtered={Object.keys(query).length > 0} />}
      {studies.length > 0 && (
        <table class="studies">
          <thead>
            <tr>
              <th scope="col">Patient</th>
              <th scope="col">Study</th>
              <th scope="col">Status</th>
              <th scope="col">Answer</th>
              <th scope="col">Assessed</th>
              <th scope="col">Model</th>
              <th scope="col">Changed</th>
              <th scope="col">
                <span class="sr-only">Actions</span>
              </th>
            </tr>
          </thead>
          {studies.map((study, k) => (
            <StudyRows
              key={study.key}
              study={study}
              chosen={k === at}
              onChoose={() => {
                chosen.value = study.key;
              }}
              onAgain={again}
              onForget={forget}
            />
          ))}
        </table>
      )}
      {list?.next && (
        <p>
          <button
            type="button"
            onClick={() => {
              listed.value += PAGE;
            }}
          >
            Show more
          </button>
        </p>
      )}
    </div>
  );
}

function scrollToChosen(): void {
  document.querySelector(".studies tbody[data-chosen]")?.scrollIntoView({ block: "nearest" });
}

/** The worklist, asked for again and again: often while something is going on. */
function usePolled(query: Record<string, string>, most: number, asked: number) {
  const [list, setList] = useState<Worklist | null>(null);
  const [problem, setProblem] = useState<Problem | null>(null);
  const key = JSON.stringify(query);
  useEffect(() => {
    const leaving = new AbortController();
    let timer = 0;
    const ask = async () => {
      let wait = QUIET_MS;
      try {
        const now = await worklist(query, most, leaving.signal);
        if (leaving.signal.aborted) return;
        setList(now);
        setProblem(null);
        const { queued, running } = now.counts;
        if (queued + running > 0 || now.studies.some((study) => study.arriving.length > 0)) wait = BUSY_MS;
      } catch (error) {
        if (leaving.signal.aborted) return;
        setProblem(problemOf(error));
      }
      timer = window.setTimeout(
        () => {
          timer = 0;
          ask();
        },
        document.hidden ? 4 * QUIET_MS : wait,
      );
    };
    ask();
    document.addEventListener(
      "visibilitychange",
      () => {
        if (document.hidden || !timer) return;
        clearTimeout(timer);
        timer = 0;
        ask();
      },
      { signal: leaving.signal },
    );
    return () => {
      leaving.abort();
      clearTimeout(timer);
    };
  }, [key, most, asked]);
  return { list, problem };
}

function Nothing({ filtered }: { filtered: boolean }) {
  return filtered ? (
    <p class="nothing">
      Nothing fits these filters. <a href="#/">Show everything</a>
    </p>
  ) : (
    <div class="nothing">
      <p>Nothing has come in yet.</p>
      <p class="quiet">
        Send images above, let the PACS send them (C-STORE or STOW-RS), or run <code>pellucid demo</code>, which writes
        a synthetic CT and a synthetic photograph.
      </p>
    </div>
  );
}
