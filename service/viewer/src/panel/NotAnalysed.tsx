/** A series that no model has seen: analyse it now. */

import { useState } from "preact/hooks";
import { analyseAgain, problemOf } from "../api/client";
import type { Problem } from "../api/types";
import { current, series, watch } from "../case/state";
import { ProblemNotice } from "../parts/controls";

export function NotAnalysed() {
  const [busy, setBusy] = useState(false);
  const [problem, setProblem] = useState<Problem | null>(null);
  const study = current.value?.study ?? "";
  const start = async () => {
    setBusy(true);
    setProblem(null);
    try {
      await watch(await analyseAgain({ study, series: series.peek() }));
    } catch (error) {
      setProblem(problemOf(error));
    } finally {
      setBusy(false);
    }
  };
  return (
    <section class="answer" aria-label="Answer">
      <h1>Not analysed</h1>
      <p>No model has looked at this series.</p>
      {study && series.value && (
        <p>
          <button type="button" class="primary" disabled={busy} onClick={start} data-testid="analyse">
            {busy ? "Analysing ..." : "Analyse this series"}
          </button>
        </p>
      )}
      {problem && <ProblemNotice problem={problem} />}
    </section>
  );
}
