/** Several analyses of one series: what each of them looked at, so that none is taken for all of them. */

import type { Analysis } from "../api/types";
import { answer, EYES, outcome } from "../words";

type Looked = Pick<Analysis, "status" | "outcome" | "findings" | "input">;

/** True for a series of which nothing but places that a reader named was judged. */
export function onlyNamed(analysis: Pick<Analysis, "findings" | "input">): boolean {
  return (
    analysis.input.series !== "" &&
    analysis.findings.length > 0 &&
    analysis.findings.every((one) => one.location.origin === "request")
  );
}

export function places(count: number): string {
  return count === 1 ? "one place" : `${count} places`;
}

/** "Positive, 2 of 6 findings", "Negative, one place that a reader named", "left eye: Grade 2: ...". */
export function summary(analysis: Looked): string {
  const all = analysis.findings;
  const eye = EYES[analysis.input.laterality];
  if (eye) return `${eye.toLowerCase()}: ${all[0] ? answer(all[0]) : outcome(analysis)}`;
  if (all.length === 0) return outcome(analysis);
  if (onlyNamed(analysis)) return `${outcome(analysis)}, ${places(all.length)} that a reader named`;
  const called = all.filter((one) => one.operating_point.decision === "positive").length;
  return `${outcome(analysis)}, ${called} of ${all.length} ${all.length === 1 ? "finding" : "findings"}`;
}
