/** The summary of both eyes, in the order and words of the page. */

import type { EyePhotograph, EyesSummary, Side } from "../api/types";
import { percent, probability, QUALITY, SIDE_FROM, sentence } from "../words";

/** What is said of one eye. */
export interface EyeCell {
  side: Side | null;
  /** True for the eye that is worse than the other. */
  worse: boolean;
  /** "Grade 3: Severe NPDR", or that there is none. */
  grade: string;
  graded: boolean;
  /** "Refer: mtmDR, vtDR"; empty where there is no grade. */
  referral: string;
  referred: boolean;
  /** Smaller facts: how sure, who says so, quality, how the side is known. */
  facts: string[];
  /** The photographs, the newest first. */
  photographs: { analysis: string; text: string; worst: boolean }[];
}

/** Right, left, and the eye that is not known where there is one. */
export function cells(summary: EyesSummary): EyeCell[] {
  return summary.eyes.map((eye) => {
    const shown = eye.photographs.find((one) => one.analysis === eye.worst) ?? eye.photographs[0];
    const yes = Object.entries(eye.referable ?? {}).filter(([, positive]) => positive);
    const names = (yes.length ? yes : Object.entries(eye.referable ?? {})).map(([name]) => name).join(", ");
    return {
      side: eye.laterality,
      worse: summary.worse_eye !== null && summary.worse_eye === eye.laterality,
      grade: shown?.answer
        ? `Grade ${shown.answer.grade}: ${shown.answer.label}`
        : shown
          ? noGrade(shown)
          : "No photograph",
      graded: Boolean(shown?.answer),
      referral: eye.referable ? `${yes.length ? "Refer" : "Not referable"}: ${names}` : "",
      referred: yes.length > 0,
      facts: shown ? facts(shown) : [],
      photographs: eye.photographs.map((one, k) => ({
        analysis: one.analysis,
        text: `${k + 1}: ${one.answer ? `grade ${one.answer.grade}` : why(one) || "no grade"}`,
        worst: one.analysis === eye.worst,
      })),
    };
  });
}

function noGrade(one: EyePhotograph): string {
  if (one.model_grade !== null) return "Grade rejected by a reader";
  return why(one) ? `Not gradable: ${why(one)}` : "Not gradable";
}

/** Why a photograph has no grade, in a word or two each. */
function why(one: EyePhotograph): string {
  if (one.model_grade !== null) return "rejected";
  return one.quality.reasons.map((reason) => QUALITY[reason.code] ?? sentence(reason.code).toLowerCase()).join(", ");
}

function facts(one: EyePhotograph): string[] {
  const { answer, verdict, model_grade } = one;
  const by = verdict?.reader || "a reader";
  return [
    answer?.probability != null && `probability ${probability(answer.probability)}`,
    answer?.by === "reader" && `as ${by} says; model: grade ${model_grade}`,
    verdict?.verdict === "accepted" && `accepted by ${by}`,
    one.quality.gradable && `quality ${probability(one.quality.score)}`,
    sideKnown(one),
  ].filter((fact): fact is string => Boolean(fact));
}

/** How it is known which eye it is: "from the disc's position, 96 %"; empty where the service does not say. */
export function sideKnown(one: Pick<EyePhotograph, "laterality_source" | "laterality_confidence">): string {
  if (!one.laterality_source) return "";
  const from = SIDE_FROM[one.laterality_source] ?? sentence(one.laterality_source).toLowerCase();
  return one.laterality_confidence === null || one.laterality_confidence === 1
    ? `side ${from}`
    : `side ${from}, ${percent(one.laterality_confidence)}`;
}

/** Why this is advised, and what the advice leaves out; what is missing is said elsewhere. */
export function grounds(summary: EyesSummary): string[] {
  const said = new Set(summary.missing.map((one) => one.message));
  const { name, citation, doi } = summary.scheme;
  return [
    ...summary.decision.because.filter((line) => !said.has(line)),
    ...summary.caveats,
    `Intervals: ${name}. ${citation} doi:${doi}`,
  ];
}

/** What the folded summary says beside the advice: which eye is worse, how much is missing, how much contradicts. */
export function glance(summary: EyesSummary): string {
  const worse = { R: "right eye worse", L: "left eye worse", equal: "both eyes alike" };
  const [lacking, apart] = [summary.missing.length, summary.contradictions.length];
  return [
    summary.worse_eye && worse[summary.worse_eye],
    lacking && `${lacking} missing`,
    apart && `${apart} ${apart === 1 ? "contradiction" : "contradictions"}`,
  ]
    .filter(Boolean)
    .join(" · ");
}
