/** What came in, what became of it, and what waits for a reader. */

import { useEffect, useRef, useState } from "preact/hooks";
import { analyseAgain, problemOf, remove, unfinished, worklist } from "../api/client";
import type { AnalysisRow, Problem, StudyRow, Worklist } from "../api/types";
import { ProblemNotice, Spinner } from "../parts/controls";
import { go, refine, route } from "../route";
import { useShortcuts } from "../shortcuts";
import "../styles/worklist.css";
import { Filters } from "./Filters";
import { Sending } from "./Sending";
import { StudyRows } from "./StudyRows";

const PAGE = 50;
const BUSY_MS = 1000;
const QUIET_MS = 4000;

export function WorklistPage() {
  const query = route.value.page === "worklist" ? (route.value.query ?? {}) : {};
  const [limit, setLimit] = useState(PAGE);
  const [asked, setAsked] = useState(0);
  const { list, problem } = usePolled({ ...query, limit: String(limit) }, asked);
  const [chosen, setChosen] = useState(0);
  const search = useRef<HTMLInputElement>(null);
  const studies = list?.studies ?? [];
  const at = Math.min(chosen, studies.length - 1);
  const open = (study: StudyRow | undefined, analysis?: AnalysisRow) => study && go(placeOf(study, analysis));
  const step = (by: number) => setChosen(Math.max(0, Math.min(studies.length - 1, at + by)));
  useShortcuts(
    () => [
      { keys: ["j", "ArrowDown"], what: "Next study", group: "Worklist", run: () => step(1) },
      { keys: ["k", "ArrowUp"], what: "Previous study", group: "Worklist", run: () => step(-1) },
      { keys: ["Enter"], what: "Open the study", group: "Worklist", run: () => open(studies[at]) },
      { keys: ["/"], what: "Search", group: "Worklist", run: () => search.current?.focus() },
    ],
    [list, at],
  );
  useEffect(() => {
    document.querySelector(".studies tbody[data-chosen]")?.scrollIntoView({ block: "nearest" });
  }, [at]);
  const change = (to: Record<string, string>) => {
    setLimit(PAGE);
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
            <StudyRows key={study.key} study={study} chosen={k === at} onAgain={again} onForget={forget} />
          ))}
        </table>
      )}
      {list?.next && (
        <p>
          <button type="button" onClick={() => setLimit(limit + PAGE)}>
            Show more
          </button>
        </p>
      )}
    </div>
  );
}

/** Where a row leads. */
export function placeOf(study: StudyRow, analysis: AnalysisRow | undefined = study.analyses[0]) {
  return {
    page: "case" as const,
    ...(study.study ? { study: study.study } : {}),
    ...(analysis ? { analysis: analysis.id } : {}),
  };
}

/** The worklist, asked for again and again: often while something is going on. */
function usePolled(query: Record<string, string>, asked: number): { list: Worklist | null; problem: Problem | null } {
  const [list, setList] = useState<Worklist | null>(null);
  const [problem, setProblem] = useState<Problem | null>(null);
  const key = JSON.stringify(query);
  useEffect(() => {
    const leaving = new AbortController();
    let timer = 0;
    const ask = async () => {
      let wait = QUIET_MS;
      try {
        const now = await worklist(query, leaving.signal);
        setList(now);
        setProblem(null);
        if (now.studies.some((study) => study.arriving.length > 0 || study.analyses.some(unfinished))) wait = BUSY_MS;
      } catch (error) {
        if (leaving.signal.aborted) return;
        setProblem(problemOf(error));
      }
      timer = window.setTimeout(ask, document.hidden ? 4 * QUIET_MS : wait);
    };
    ask();
    return () => {
      leaving.abort();
      clearTimeout(timer);
    };
  }, [key, asked]);
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
