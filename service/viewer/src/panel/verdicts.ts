/** Readers' verdicts on findings: which one counts, what may be said, and what happens to the copy in the PACS. */

import type { Analysis, Assessment, Finding, ModelClass, Verdict } from "../api/types";
import { answer, probability } from "../words";
import { decided, taskOf } from "./point";

/** The newest verdict on a finding: the one that counts. */
export function verdictOf(analysis: Pick<Analysis, "assessments">, finding: string): Assessment | undefined {
  return historyOf(analysis, finding)[0];
}

/** All verdicts on a finding, the newest first. */
export function historyOf(analysis: Pick<Analysis, "assessments">, finding: string): Assessment[] {
  return (analysis.assessments ?? []).filter((one) => one.finding === finding).sort((a, b) => b.id - a.id);
}

export const SAID: Record<Verdict, string> = { accepted: "Accepted", rejected: "Rejected", modified: "Corrected" };

/** What accepting means, in the words of the answer. */
export function claim(finding: Finding): string {
  return taskOf(finding) === "eye"
    ? answer(finding)
    : `${decided(finding)} (${probability(finding.operating_point.score)})`;
}

export interface Choice {
  value: string;
  label: string;
}

/** What a finding can be corrected to. */
export function choices(finding: Finding, classes: readonly ModelClass[]): Choice[] {
  const eye = taskOf(finding) === "eye";
  const names = Object.keys(finding.probabilities).map((name) => {
    const label = classes.find((one) => one.name === name)?.label ?? name;
    return { value: name, label: eye ? `${name} ${label}` : label };
  });
  return taskOf(finding) === "nodule" ? [...names, { value: "not_a_nodule", label: "Not a nodule" }] : names;
}

/** The value of a correction for people. */
export function corrected(value: string | null, finding: Finding, classes: readonly ModelClass[]): string {
  if (!value) return "";
  return choices(finding, classes).find((one) => one.value === value)?.label ?? value;
}

/** The class that the model answered. */
export function answered(finding: Finding): string {
  if (finding.grade !== undefined) return String(finding.grade);
  const [best] = Object.entries(finding.probabilities).sort((a, b) => b[1] - a[1]);
  return best?.[0] ?? "";
}

/** True where a correction would say what the model says, in class and in decision. */
export function noCorrection(finding: Finding, value: string): boolean {
  if (value !== answered(finding)) return false;
  if (taskOf(finding) !== "nodule") return true;
  return (finding.operating_point.decision === "positive") === (value === "malignant");
}

const REASONS: Record<"nodule" | "eye" | "other", Record<"rejected" | "modified", string[]>> = {
  nodule: {
    rejected: ["vessel", "scar", "lymph node", "pleura", "motion", "atelectasis", "mucus", "rib", "artefact"],
    modified: [
      "calcified",
      "fat",
      "stable over time",
      "perifissural",
      "spiculated",
      "growing",
      "part-solid",
      "pathology known",
    ],
  },
  eye: {
    rejected: ["other disease", "artefact", "image quality", "not this eye", "laser scars", "marks no lesion"],
    modified: [
      "lesion missed",
      "artefact taken for a lesion",
      "other disease",
      "image quality",
      "laser scars",
      "new vessels",
    ],
  },
  other: { rejected: ["artefact", "image quality"], modified: ["artefact", "image quality"] },
};

/** Reasons for one click. */
export function reasons(finding: Finding, verdict: Verdict): string[] {
  return verdict === "accepted" ? [] : REASONS[taskOf(finding)][verdict];
}

/** A reason as it is stored: what was clicked, then what was written. */
export function reasonText(clicked: readonly string[], written: string): string {
  return [...clicked, written.trim()].filter(Boolean).join("; ");
}

/** What the rest of the page has to know before a verdict can be sent; empty when nothing lacks. */
export function lacking(
  verdict: Verdict,
  finding: Finding,
  given: { reader: string; reason: string; value: string },
): string {
  if (verdict === "modified" && !given.value) return "Choose what is right.";
  if (verdict === "modified" && noCorrection(finding, given.value))
    return "This is what the model says: accept it instead.";
  if (verdict !== "accepted" && !given.reason) return "Give a reason.";
  if (!given.reader.trim()) return "Say who reads.";
  return "";
}

/** What happened, or will happen, to the objects in the PACS; one short sentence each. */
export function pacsCopy(analysis: Analysis): string[] {
  const objects = analysis.objects ?? [];
  if (objects.length === 0) return ["No DICOM objects were made of this result, so verdicts stay in this service."];
  const current = new Set(objects.map((one) => one.sop_instance_uid));
  const sent = (analysis.delivery ?? []).filter((one) => one.object && current.has(one.object));
  const said: string[] = [];
  const changed = analysis.findings.filter((one) => {
    const verdict = verdictOf(analysis, one.id)?.verdict;
    return verdict === "rejected" || verdict === "modified";
  }).length;
  if (analysis.revision)
    said.push(
      `The DICOM objects are revision ${analysis.revision}: they hold the verdicts and replace the earlier ones.`,
    );
  else if (changed > 0 && analysis.revision === 0)
    said.push("The DICOM objects are being made anew with the verdicts.");
  const destinations = new Set(sent.map((one) => one.destination));
  if (destinations.size === 0) said.push("The DICOM objects are kept here and sent nowhere.");
  for (const name of destinations) {
    const own = sent.filter((one) => one.destination === name);
    const there = own.filter((one) => one.state === "sent" || one.state === "committed").length;
    const dead = own.filter((one) => one.state === "dead").length;
    said.push(
      `${name}: ${there === own.length ? "all" : `${there} of`} ${own.length} sent${dead ? `, ${dead} set aside (see Details)` : ""}.`,
    );
  }
  return said;
}

/** True while objects or deliveries are expected to change by themselves. */
export function unsettled(analysis: Analysis, revision: number | undefined): boolean {
  if (
    (analysis.delivery ?? []).some((one) => one.state === "sending" || (one.state === "waiting" && one.attempts === 0))
  )
    return true;
  return analysis.revision !== undefined && analysis.objects.length > 0 && analysis.revision === revision;
}
