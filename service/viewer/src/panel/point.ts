/** What an operating point says, in words that cannot be taken for more than they are. */

import type { Finding, OperatingPoint, Probabilities } from "../api/types";
import { probability } from "../words";

/** An operating point of the installed model. */
export interface ModelPoint extends Omit<OperatingPoint, "score" | "decision"> {
  score_classes: string[];
}

/** What is called, and what is not, at a point: of the test set, in the plural. */
const NAMES: Record<string, [string, string]> = {
  mtmDR: ["eyes with more than mild retinopathy", "eyes without it"],
  vtDR: ["eyes with vision-threatening retinopathy", "eyes without it"],
};

function groups(point: { name: string }, task: "nodule" | "eye" | "other"): [string, string] {
  if (NAMES[point.name]) return NAMES[point.name]!;
  return task === "nodule" ? ["malignant nodules", "benign nodules"] : ["positive cases", "negative cases"];
}

export function taskOf(finding: Pick<Finding, "grade" | "probabilities">): "nodule" | "eye" | "other" {
  if (finding.grade !== undefined) return "eye";
  return "malignant" in finding.probabilities ? "nodule" : "other";
}

/** "At this point 80 of 100 malignant nodules of the test set were called and 20 were missed; of 100 benign nodules 12 were called, too." */
export function frequencies(
  point: Pick<OperatingPoint, "name" | "sensitivity" | "specificity">,
  task: "nodule" | "eye" | "other",
): string {
  const [with_, without] = groups(point, task);
  const called = Math.round(100 * point.sensitivity);
  const wrongly = Math.round(100 * (1 - point.specificity));
  return `At this point ${called} of 100 ${with_} of the test set were called and ${100 - called} missed; of 100 ${without} ${wrongly} were called, too.`;
}

/** "0.89, at or above 0.46". The two are written so that they never look equal when they are not. */
export function comparison(score: number, threshold: number): string {
  let digits = 2;
  while (digits < 6 && score !== threshold && score.toFixed(digits) === threshold.toFixed(digits)) digits += 1;
  const write = (value: number) => (digits === 2 ? probability(value) : value.toFixed(digits));
  return `${write(score)}, ${score >= threshold ? "at or above" : "below"} ${write(threshold)}`;
}

/** Classes whose probabilities add up to the score: the last ones in order, or a single one. Empty when none do. */
export function scoreClasses(finding: Pick<Finding, "probabilities" | "operating_point">): string[] {
  const names = Object.keys(finding.probabilities);
  const { score } = finding.operating_point;
  const ends = names.map((_, k) => names.slice(names.length - 1 - k));
  return [...ends, ...names.map((name) => [name])].find((some) => near(sum(finding.probabilities, some), score)) ?? [];
}

export function sum(probabilities: Probabilities, classes: readonly string[]): number {
  return classes.reduce((total, name) => total + (probabilities[name] ?? 0), 0);
}

function near(a: number, b: number): boolean {
  return Math.abs(a - b) < 1e-6;
}

/** What a decision is called for people. */
export function decided(finding: Finding): string {
  const positive = finding.operating_point.decision === "positive";
  return taskOf(finding) === "nodule"
    ? positive
      ? "Suspicious"
      : "Not suspicious"
    : positive
      ? "Positive"
      : "Negative";
}

/** Where the likeliest class and the decision seem to contradict each other: why they do not. Empty otherwise. */
export function contradiction(finding: Finding): string {
  const { decision, threshold, score } = finding.operating_point;
  if (taskOf(finding) !== "nodule") return "";
  const likeliest = (finding.probabilities.malignant ?? 0) > 0.5;
  if ((decision === "positive") === likeliest) return "";
  return decision === "positive"
    ? `Benign is the likelier class, yet ${probability(score)} reaches the threshold ${probability(threshold)}, which is set so as to miss few.`
    : `Malignant is the likelier class, yet ${probability(score)} does not reach the threshold ${probability(threshold)}.`;
}

/** Where grade and referral of an eye seem to contradict each other: why they do not. Empty otherwise. */
export function gradeContradiction(finding: Finding): string {
  const { grade, referable } = finding;
  if (grade === undefined || !referable) return "";
  const odd = [
    ["mtmDR", 2],
    ["vtDR", 3],
  ].filter(([name, from]) => name! in referable && referable[name!] !== grade >= (from as number));
  if (odd.length === 0) return "";
  return `The grade is the likeliest of five; ${odd.map(([name]) => name).join(" and ")} ${odd.length > 1 ? "add" : "adds"} up all grades that count, against a threshold of ${odd.length > 1 ? "their" : "its"} own. So the two can differ.`;
}
