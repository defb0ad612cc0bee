/** Findings in the order in which they are read, and their numbers. */

import type { Analysis, Finding } from "../api/types";

/** The most suspicious first; equal ones stay in the order of the analysis. */
export function bySuspicion(findings: readonly Finding[]): Finding[] {
  return [...findings].sort((a, b) => b.operating_point.score - a.operating_point.score);
}

/** Number of a finding, from 1: its place in the analysis, which is the same whatever the list is sorted by. */
export function numberOf(analysis: Pick<Analysis, "findings">, finding: string): number {
  return analysis.findings.findIndex((one) => one.id === finding) + 1;
}

/** The next (1) or previous (-1) finding of the list; stays at its ends. */
export function neighbour(findings: readonly Finding[], finding: string, step: 1 | -1): Finding | undefined {
  const order = bySuspicion(findings);
  const at = order.findIndex((one) => one.id === finding);
  return order[Math.min(order.length - 1, Math.max(0, at + step))];
}

/** The next finding of the list without a verdict, after this one and then from the top; undefined when all have one. */
export function nextOpen(analysis: Analysis, finding: string): Finding | undefined {
  const judged = new Set(analysis.assessments.map((one) => one.finding));
  const order = bySuspicion(analysis.findings);
  const at = order.findIndex((one) => one.id === finding);
  return [...order.slice(at + 1), ...order.slice(0, at)].find((one) => !judged.has(one.id));
}

const ORIGINS: Record<string, string> = {
  candidate: "found by the search",
  reference: "marked in the PACS",
  request: "named by a reader",
};

/** Who named the place of a finding. */
export function origin(finding: Finding): string {
  return ORIGINS[finding.location.origin ?? ""] ?? "";
}

/** Places of a finding's slices in the stack, 0-based; a slice that is not in it counts from 0 among the finding's own. */
export function placesOf(analysis: Analysis, finding: Finding): number[] {
  const slices = finding.slices ?? [];
  const places = slices.map((one) => analysis.input.instances.indexOf(one.sop_instance_uid));
  return places.some((at) => at < 0) ? slices.map((_, k) => k) : places;
}

/** Which of a finding's slices is shown: the one that is in the images, else the one with the map's peak, else the middle one. */
export function sliceShown(places: readonly number[], slice: number | null, peak: number | undefined): number {
  const at = slice === null ? -1 : places.indexOf(slice);
  return at >= 0 ? at : (peak ?? Math.floor(Math.max(0, places.length - 1) / 2));
}
