/** Run an analysis again with its own request; the new one replaces it. */

import { useState } from "preact/hooks";
import { analyseAgain, problemOf } from "../api/client";
import type { Analysis, Problem } from "../api/types";
import { watch } from "../case/state";
import { ProblemNotice } from "../parts/controls";

export function Rerun({ analysis }: { analysis: Analysis }) {
  const [asked, setAsked] = useState(false);
  const [busy, setBusy] = useState(false);
  const [problem, setProblem] = useState<Problem | null>(null);
  const judged = (analysis.assessments ?? []).length > 0;
  const start = async () => {
    setAsked(false);
    setBusy(true);
    setProblem(null);
    try {
      await watch(await analyseAgain({ analysis: analysis.id }));
    } catch (error) {
      setProblem(problemOf(error));
    } finally {
      setBusy(false);
    }
  };
  return (
    <div class="rerun">
      {asked ? (
        <p class="notice warn">
          The new result replaces this one, here and in the PACS, and starts without verdicts.
          <span class="row">
            <button type="button" class="primary" onClick={start}>
              Run it again
            </button>
            <button type="button" onClick={() => setAsked(false)}>
              Keep this one
            </button>
          </span>
        </p>
      ) : (
        <button
          type="button"
          disabled={busy}
          data-testid="rerun"
          title="The same images with the same request; the new result replaces this one"
          onClick={() => (judged ? setAsked(true) : start())}
        >
          {busy ? "Running ..." : "Run again"}
        </button>
      )}
      {problem && <ProblemNotice problem={problem} />}
    </div>
  );
}
