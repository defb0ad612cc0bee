/** Sending verdicts, and what is being written before one is sent. */

import { signal } from "@preact/signals";
import { assess, analysis as fetchAnalysis, problemOf } from "../api/client";
import type { Analysis, Finding, Problem, Verdict } from "../api/types";
import { analysis, finding, renewed, select } from "../case/state";
import { reader } from "../settings";
import { nextOpen, numberOf } from "./order";
import { lacking, reasonText, SAID, unsettled, verdictOf } from "./verdicts";

export interface Draft {
  analysis: string;
  finding: string;
  verdict: Verdict;
  clicked: string[];
  written: string;
  value: string;
}

/** The verdict that is being written; of one finding at a time. */
export const draft = signal<Draft | null>(null);
export const saving = signal(false);
export const failure = signal<Problem | null>(null);
/** The last verdict that was stored, for people. */
export const told = signal<{ analysis: string; finding: string; text: string } | null>(null);
/** Go to the next finding without a verdict after each. */
export const onward = signal(true);

/** Begin a verdict; an acceptance is sent at once when it is known who reads. */
export function begin(verdict: Verdict): void {
  const [whole, one] = [analysis.peek(), finding.peek()];
  if (!whole || !one || saving.peek()) return;
  failure.value = null;
  const open = draftOf(whole, one);
  if (open && open.verdict === verdict) return;
  if (verdict === "accepted" && !open && reader.peek()) {
    send({ analysis: whole.id, finding: one.id, verdict, clicked: [], written: "", value: "" });
    return;
  }
  draft.value = {
    analysis: whole.id,
    finding: one.id,
    verdict,
    clicked: [],
    written: open?.written ?? "",
    value: "",
  };
}

/** The draft, where it is of this finding. */
export function draftOf(whole: Analysis, one: Finding): Draft | null {
  const open = draft.value;
  return open && open.analysis === whole.id && open.finding === one.id ? open : null;
}

export function write(change: Partial<Draft>): void {
  if (draft.peek()) draft.value = { ...draft.peek()!, ...change };
}

/** Store a verdict; then the next finding, where that is wanted. */
export async function send(what: Draft): Promise<void> {
  const whole = analysis.peek();
  const one = whole?.findings.find((each) => each.id === what.finding);
  if (!whole || whole.id !== what.analysis || !one || saving.peek()) return;
  const reason = reasonText(what.clicked, what.written);
  if (lacking(what.verdict, one, { reader: reader.peek(), reason, value: what.value })) return;
  saving.value = true;
  failure.value = null;
  const before = verdictOf(whole, one.id)?.verdict;
  try {
    const body = await assess(whole.id, {
      finding: one.id,
      verdict: what.verdict,
      reader: reader.peek(),
      ...(reason && { reason }),
      ...(what.verdict === "modified" && { value: what.value }),
    });
    renewed(body);
    draft.value = null;
    told.value = {
      analysis: whole.id,
      finding: one.id,
      text: `${whole.findings.length > 1 ? `Finding ${numberOf(whole, one.id)}` : "Answer"} ${SAID[what.verdict].toLowerCase()}.`,
    };
    const changes = what.verdict !== "accepted" || before === "rejected" || before === "modified";
    settle(body, changes ? whole.revision : undefined);
    const next = onward.peek() && finding.peek()?.id === one.id ? nextOpen(body, one.id) : undefined;
    if (next) select(next.id);
  } catch (error) {
    const problem = problemOf(error);
    const of = whole.findings.length > 1 ? `Finding ${numberOf(whole, one.id)}: not` : "Not";
    failure.value = { ...problem, title: `${of} stored. ${problem.title}` };
  } finally {
    saving.value = false;
  }
}

const PAUSES_S = [1, 1, 2, 3, 5, 8, 10, 10];
let round = 0;

/** Ask again for a while, as objects are made anew and sent. `revision` is the one before, where another is to come. */
async function settle(body: Analysis, revision: number | undefined): Promise<void> {
  round += 1;
  const mine = round;
  let now = body;
  for (const pause of PAUSES_S) {
    if (!unsettled(now, revision)) return;
    await new Promise((resolve) => setTimeout(resolve, 1000 * pause));
    if (mine !== round || analysis.peek()?.id !== body.id) return;
    try {
      now = await fetchAnalysis(body.id);
    } catch {
      return; // whoever wants to know reloads
    }
    if (mine === round) renewed(now);
  }
}
