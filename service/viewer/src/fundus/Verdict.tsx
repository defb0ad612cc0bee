/** What is said about one eye on its photograph: can it be graded, the grade, the referral. */

import type { Analysis, Finding } from "../api/types";
import { classes } from "../case/state";
import { ProblemNotice, Spinner } from "../parts/controls";
import { answer, sentence } from "../words";

const REFERRALS: Record<string, string> = { mtmDR: "more than mild (mtmDR)", vtDR: "vision-threatening (vtDR)" };

/** Grade, referral and quality, as a badge. */
export function Grade(props: { analysis: Analysis | null; finding: Finding | null }) {
  const { analysis, finding } = props;
  if (!analysis) return <span class="quiet grade">Not analysed</span>;
  if (!finding) return null;
  const color = classes.value.find(
    (one) => finding.probabilities[one.name] !== undefined && one.label === finding.label,
  )?.color;
  const decided = Object.entries(finding.referable ?? {});
  const referred = decided.filter(([, yes]) => yes);
  const said = (referred.length ? referred : decided).map(([name]) => name).join(", ");
  const meant = decided.map(([name, yes]) => `${REFERRALS[name] ?? name}: ${yes ? "yes" : "no"}`).join(", ");
  return (
    <div class="grade" data-testid="grade">
      <strong>
        {color && <i class="swatch" style={{ backgroundColor: color }} />}
        {answer(finding)}
      </strong>
      {decided.length > 0 && (
        <span class={referred.length ? "refer" : undefined} title={meant}>
          {referred.length ? "Refer" : "Not referable"}: {said}
        </span>
      )}
    </div>
  );
}

/** Everything that is no grade: a photograph that cannot be graded comes first, with what to do. */
export function Verdict(props: { analysis: Analysis | null }) {
  const { analysis } = props;
  if (!analysis) return null;
  if (analysis.status === "failed")
    return (
      <div class="verdict">
        <ProblemNotice problem={analysis.error ?? { title: "The analysis failed", detail: "Analyse it again." }} />
      </div>
    );
  if (analysis.status !== "completed")
    return (
      <div class="verdict">
        <Spinner>{analysis.status === "queued" ? "Waiting to be analysed ..." : "Being analysed ..."}</Spinner>
      </div>
    );
  if (analysis.outcome !== "ungradable" && analysis.outcome !== "out_of_scope") return null;
  const reasons = analysis.quality?.reasons ?? [];
  return (
    <div class="verdict" role="alert" data-testid="verdict" data-outcome={analysis.outcome}>
      <div class="notice bad">
        <strong class="big">
          {analysis.outcome === "ungradable"
            ? "Cannot be graded: take it again"
            : "Not graded: outside what the model reads"}
        </strong>
        {reasons.length > 0 ? (
          <ul>
            {reasons.map((reason) => (
              <li key={reason.code}>
                {sentence(reason.message)}
                <br />
                <strong>{reason.retake}</strong>
              </li>
            ))}
          </ul>
        ) : (
          <p>The quality check gives no reason. Send another photograph of this eye.</p>
        )}
        <p class="quiet">No grade and no map. This says nothing about the eye.</p>
      </div>
    </div>
  );
}
