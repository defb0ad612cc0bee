/** The reader's verdict on the finding that is selected; always at hand below the rest of the panel. */

import { useEffect, useRef } from "preact/hooks";
import type { Analysis, Assessment, Finding, ModelClass, Verdict } from "../api/types";
import { select } from "../case/state";
import { ProblemNotice, Segments, Toggle } from "../parts/controls";
import { reader } from "../settings";
import { useShortcuts } from "../shortcuts";
import { moment } from "../words";
import { begin, type Draft, draft, draftOf, failure, onward, saving, send, told, write } from "./assessing";
import { numberOf } from "./order";
import { Section } from "./Section";
import { ShowAnalysis } from "./ShowAnalysis";
import {
  answered,
  choices,
  claim,
  corrected,
  historyOf,
  lacking,
  pacsCopy,
  reasons,
  reasonText,
  SAID,
} from "./verdicts";

interface Props {
  analysis: Analysis;
  finding: Finding;
  classes: readonly ModelClass[];
}

export function Assess(props: Props) {
  const { analysis, finding, classes } = props;
  const closed = Boolean(analysis.superseded_by);
  useShortcuts(
    () =>
      closed
        ? []
        : [
            {
              keys: ["a"],
              what: "Accept this finding",
              group: "Assessment",
              run: () => draft.peek() === null && begin("accepted"),
            },
            { keys: ["r"], what: "Reject this finding", group: "Assessment", run: () => begin("rejected") },
            { keys: ["e"], what: "Correct this finding", group: "Assessment", run: () => begin("modified") },
          ],
    [closed],
  );
  if (closed)
    return (
      <section class="assess" aria-label="Assessment">
        <p>
          This analysis was replaced. <ShowAnalysis id={analysis.superseded_by!}>Assess the newer one</ShowAnalysis>
        </p>
      </section>
    );
  const open = draftOf(analysis, finding);
  const history = historyOf(analysis, finding.id);
  const newest = history[0];
  return (
    <section class="assess" aria-label="Assessment" data-testid="assess" data-verdict={newest?.verdict ?? ""}>
      {open && <Form {...props} open={open} />}
      {failure.value && <ProblemNotice problem={failure.value} />}
      <div class="assess-of">
        <span>
          {analysis.findings.length > 1 ? `Finding ${numberOf(analysis, finding.id)}: ` : ""}
          <strong>{claim(finding)}</strong>
        </span>
        {analysis.findings.length > 1 && (
          <Toggle
            label="then next"
            title="Go to the next finding without a verdict after each"
            checked={onward.value}
            onChange={(checked) => {
              onward.value = checked;
            }}
          />
        )}
      </div>
      {newest && (
        <p>
          <Given verdict={newest} finding={finding} classes={classes} />
        </p>
      )}
      <div class="assess-buttons">
        {(["accepted", "rejected", "modified"] as const).map((verdict) => (
          <button
            key={verdict}
            type="button"
            data-testid={`assess-${verdict}`}
            aria-pressed={(open?.verdict ?? newest?.verdict) === verdict}
            disabled={saving.value}
            onClick={() => begin(verdict)}
          >
            {BUTTONS[verdict].text} <kbd>{BUTTONS[verdict].key}</kbd>
          </button>
        ))}
      </div>
      <p class="assess-status quiet" role="status" data-testid="assess-status">
        {saving.value ? "Storing ..." : <Told {...props} />}
      </p>
      {history.length > 0 && (
        <Section name="history" minor title={`History (${history.length}) and PACS copy`}>
          <ul class="history" data-testid="history">
            {history.map((one) => (
              <li key={one.id}>
                <Given verdict={one} finding={finding} classes={classes} full />
              </li>
            ))}
          </ul>
          {pacsCopy(analysis).map((text) => (
            <p key={text} class="quiet">
              {text}
            </p>
          ))}
          <p class="quiet">The newest verdict counts. To undo one, give another.</p>
        </Section>
      )}
    </section>
  );
}

const BUTTONS: Record<Verdict, { text: string; key: string }> = {
  accepted: { text: "Accept", key: "A" },
  rejected: { text: "Reject", key: "R" },
  modified: { text: "Correct", key: "E" },
};

/** What was stored last: of another finding with the way back to it. */
function Told({ analysis, finding }: Props) {
  const last = told.value;
  if (!last || last.analysis !== analysis.id) return null;
  return (
    <>
      {last.text} {pacsCopy(analysis)[0]}{" "}
      {last.finding !== finding.id && (
        <button type="button" class="link" onClick={() => select(last.finding)}>
          Back to it
        </button>
      )}
    </>
  );
}

function Given(props: { verdict: Assessment; finding: Finding; classes: readonly ModelClass[]; full?: boolean }) {
  const { verdict } = props;
  const value = corrected(verdict.value, props.finding, props.classes);
  const who = verdict.reader ?? verdict.account ?? "unknown reader";
  return (
    <span class={`given ${verdict.verdict}`}>
      <b>
        {SAID[verdict.verdict]}
        {value && ` to ${value}`}
      </b>{" "}
      by {who}
      {verdict.account && verdict.reader && verdict.account !== verdict.reader && ` (account ${verdict.account})`},{" "}
      {moment(verdict.created)}
      {props.full && verdict.reason && `: ${verdict.reason}`}
    </span>
  );
}

/** Nothing is said after all; the keyboard is where it was. */
function close(verdict: Verdict): void {
  draft.value = null;
  document.querySelector<HTMLElement>(`[data-testid=assess-${verdict}]`)?.focus();
}

function Form({ finding, classes, open }: Props & { open: Draft }) {
  const form = useRef<HTMLFormElement>(null);
  const reason = reasonText(open.clicked, open.written);
  const lacks = lacking(open.verdict, finding, { reader: reader.value, reason, value: open.value });
  // Asked for until it is stored, also while it is being typed.
  const asks = useRef(!reader.peek());
  useEffect(() => {
    form.current?.querySelector<HTMLElement>("input, button")?.focus();
  }, [open.verdict]);
  const toggle = (text: string) =>
    write({
      clicked: open.clicked.includes(text) ? open.clicked.filter((one) => one !== text) : [...open.clicked, text],
    });
  return (
    <form
      ref={form}
      class="assess-form"
      data-testid="assess-form"
      aria-label={`${SAID[open.verdict]}: what is needed`}
      onSubmit={(event) => {
        event.preventDefault();
        send(open);
      }}
      onKeyDown={(event) => {
        if (event.key === "Escape") {
          event.preventDefault();
          close(open.verdict);
        } else if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) {
          event.preventDefault();
          send(open);
        }
      }}
    >
      {open.verdict === "modified" && (
        <Segments
          label="What is right?"
          options={choices(finding, classes).map((one) => ({
            ...one,
            label: one.value === answered(finding) ? `${one.label} (model)` : one.label,
          }))}
          value={open.value}
          onChange={(value) => write({ value })}
        />
      )}
      {open.verdict !== "accepted" && (
        <>
          <div class="reasons" role="group" aria-label="Reason">
            {reasons(finding, open.verdict).map((text) => (
              <button
                key={text}
                type="button"
                class="small"
                aria-pressed={open.clicked.includes(text)}
                onClick={() => toggle(text)}
              >
                {text}
              </button>
            ))}
          </div>
          <label>
            <span class="sr-only">Reason in words</span>
            <input
              type="text"
              maxLength={1000}
              placeholder="Reason in words"
              autocomplete="off"
              value={open.written}
              data-testid="reason"
              onInput={(event) => write({ written: event.currentTarget.value })}
            />
          </label>
        </>
      )}
      {asks.current && (
        <label class="who">
          <span>Reader</span>
          <input
            type="text"
            maxLength={64}
            placeholder="name or code"
            autocomplete="off"
            value={reader.value}
            data-testid="reader"
            onInput={(event) => {
              reader.value = event.currentTarget.value.trimStart();
            }}
          />
        </label>
      )}
      <div class="row">
        <button type="submit" class="primary" disabled={Boolean(lacks) || saving.value} data-testid="assess-save">
          Save
        </button>
        <button type="button" onClick={() => close(open.verdict)}>
          Cancel
        </button>
        <span class="quiet">{lacks || (open.verdict === "rejected" ? "It will leave the copy in the PACS." : "")}</span>
      </div>
    </form>
  );
}
