/** The answer first: what was decided, at which operating point, and what to do where there is no answer. */

import type { ComponentChildren } from "preact";
import { useEffect, useState } from "preact/hooks";
import { analysisPath, unfinished } from "../api/client";
import type { Analysis, Finding, OperatingPoint } from "../api/types";
import { finding, siblings, sliceOf, unknownFinding } from "../case/state";
import { ProblemNotice, Spinner } from "../parts/controls";
import { Bar } from "../parts/plot";
import { answer, capital, EYES, millimetres, moment, percent, plain, probability } from "../words";
import { sameWeights, useModel } from "./model";
import { numberOf } from "./order";
import { onlyNamed, places, summary } from "./others";
import {
  comparison,
  contradiction,
  decided,
  frequencies,
  gradeContradiction,
  type ModelPoint,
  sum,
  taskOf,
} from "./point";
import { Rerun } from "./Rerun";
import { ShowAnalysis } from "./ShowAnalysis";

export function Answer({ analysis, finding }: { analysis: Analysis; finding: Finding | null }) {
  return (
    <section class="answer" aria-label="Answer" data-testid="answer" data-outcome={analysis.outcome ?? analysis.status}>
      {analysis.superseded_by && (
        <p class="notice warn" data-testid="superseded">
          <strong>Replaced by a newer analysis.</strong>
          <ShowAnalysis id={analysis.superseded_by}>Show the newer one</ShowAnalysis>
        </p>
      )}
      <Said analysis={analysis} finding={finding} />
      <Looked analysis={analysis} />
      {analysis.warnings.map((text) => (
        <p key={text} class="warning">
          <Sign>!</Sign>
          <span>{capital(text)}.</span>
        </p>
      ))}
      {(analysis.revision ?? 0) > 0 && (
        <p class="quiet">Revised after assessment: revision {analysis.revision} of the DICOM objects.</p>
      )}
      <p class="disclaimer">{analysis.disclaimer}</p>
    </section>
  );
}

/** What this analysis was about, where it is not all that is known of the series. */
function Looked({ analysis }: { analysis: Analysis }) {
  const others = analysis.superseded_by ? [] : siblings.value;
  const missing = unknownFinding.value;
  // Who sees only this one would take it for all.
  const loud =
    others.some((one) => one.outcome === "positive") && (onlyNamed(analysis) || analysis.outcome !== "positive");
  return (
    <>
      {missing && (
        <p class="notice warn" data-testid="no-such-finding">
          The address names finding “{missing}”, which this analysis does not have.
          {finding.value && " The most suspicious one is shown."}
        </p>
      )}
      {onlyNamed(analysis) && (
        <p data-testid="only-named">
          Only {places(analysis.findings.length)} that a reader named {analysis.findings.length === 1 ? "was" : "were"}{" "}
          judged here; the rest of the series was not.
        </p>
      )}
      {others.length > 0 && (
        <p class={loud ? "notice warn" : undefined} data-testid="siblings">
          <span>
            Also of this series:{" "}
            {others.map((one, k) => (
              <span key={one.id}>
                {k > 0 && "; "}
                <ShowAnalysis id={one.id}>{summary(one)}</ShowAnalysis> ({moment(one.created)})
              </span>
            ))}
          </span>
        </p>
      )}
    </>
  );
}

function Said({ analysis, finding }: { analysis: Analysis; finding: Finding | null }) {
  if (unfinished(analysis)) return <Running analysis={analysis} />;
  if (analysis.status === "failed")
    return (
      <>
        <h1 class="bad">
          <Sign>×</Sign> Failed
        </h1>
        {analysis.error && <ProblemNotice problem={analysis.error} />}
        <p>There is no answer. Put right what is said above and send the images again, or run it again here.</p>
        <Rerun analysis={analysis} />
      </>
    );
  switch (analysis.outcome) {
    case "ungradable":
      return (
        <Unusable analysis={analysis} title="Cannot be graded">
          The photograph was not graded. That says nothing about the eye: take it again.
        </Unusable>
      );
    case "out_of_scope":
      return (
        <Unusable analysis={analysis} title="Out of scope">
          The model was not made for this input and did not answer. That says nothing about the patient.
        </Unusable>
      );
    case "no_region":
      return (
        <>
          <h1>No nodule marked</h1>
          <p>
            Nobody named a place, and the search found none or is switched off.{" "}
            <strong>That is no negative result.</strong> Click a nodule in the images to have it judged now.
          </p>
        </>
      );
    case "graded":
      return finding ? <Graded analysis={analysis} finding={finding} /> : null;
    default:
      return <Called analysis={analysis} />;
  }
}

const STAGES: Record<string, string> = {
  decode: "reading the images",
  quality: "checking quality",
  model: "asking the model",
  maps: "computing maps",
  objects: "making DICOM objects",
};

function Running({ analysis }: { analysis: Analysis }) {
  const [stage, setStage] = useState("");
  useEffect(() => {
    const events = new EventSource(`${analysisPath(analysis.id)}/events`);
    events.addEventListener("status", (event) => {
      const said = JSON.parse((event as MessageEvent<string>).data) as { status: string; stage: string | null };
      setStage(said.stage ?? "");
      if (said.status !== "queued" && said.status !== "running") events.close();
    });
    events.onerror = () => events.close(); // the answer itself is asked for anyway
    return () => events.close();
  }, [analysis.id]);
  return (
    <>
      <h1>{analysis.status === "queued" ? "Waiting" : "Running"}</h1>
      <Spinner>
        {analysis.status === "queued"
          ? "Waiting for its turn. This page goes on by itself."
          : `${stage ? `Now ${STAGES[stage] ?? stage}` : "The analysis runs"}. This page goes on by itself.`}
      </Spinner>
    </>
  );
}

function Unusable(props: { analysis: Analysis; title: string; children: ComponentChildren }) {
  const { quality, input } = props.analysis;
  const failed = input.checks.filter((check) => check.result === "fail");
  const reasons = quality?.reasons ?? [];
  return (
    <>
      <h1 class="bad">
        <Sign>×</Sign> {props.title}
      </h1>
      <p>{props.children}</p>
      <ul class="retakes" data-testid="reasons">
        {reasons.map((reason) => (
          <li key={reason.code + reason.message}>
            <span>{capital(reason.message)}.</span>
            {reason.retake && <strong>{reason.retake}</strong>}
          </li>
        ))}
        {reasons.length === 0 &&
          failed.map((check) => (
            <li key={check.message}>
              {check.message} (found {plain(check.value)}, allowed {plain(check.limit)})
            </li>
          ))}
      </ul>
    </>
  );
}

/** Nodules: how many reach the threshold, and the most suspicious one. */
function Called({ analysis }: { analysis: Analysis }) {
  const all = analysis.findings;
  const called = all.filter((one) => one.operating_point.decision === "positive");
  const top = [...all].sort((a, b) => b.operating_point.score - a.operating_point.score)[0];
  if (!top) return <h1>{analysis.outcome ?? "Completed"}</h1>;
  const point = top.operating_point;
  const positive = analysis.outcome === "positive";
  const at = sliceOf(analysis, top);
  const where = [
    top.location.diameter_mm !== null &&
      top.location.diameter_mm !== undefined &&
      millimetres(top.location.diameter_mm),
    at !== undefined && `slice ${at + 1}`,
  ].filter(Boolean);
  return (
    <>
      <h1 class={positive ? "warn" : undefined}>
        <Sign>{positive ? "◆" : "○"}</Sign> {positive ? "Positive" : "Negative"}
        <small>
          {called.length} of {all.length} {all.length === 1 ? "finding" : "findings"} at or above the threshold
        </small>
      </h1>
      <p>
        Most suspicious: finding {numberOf(analysis, top.id)}
        {where.length > 0 && ` (${where.join(", ")})`}, p(malignant) {comparison(point.score, point.threshold)}.
      </p>
      {contradiction(top) && <p class="quiet">{contradiction(top)}</p>}
      <Point point={point} task={taskOf(top)} />
      {all.some((one) => one.location.origin === "candidate") && (
        <p class="quiet">
          That is of nodules which readers had marked; among places of the search expect more false alarms.
        </p>
      )}
    </>
  );
}

function Point({
  point,
  task,
}: {
  point: Omit<OperatingPoint, "score" | "decision">;
  task: ReturnType<typeof taskOf>;
}) {
  return (
    <div class="point" data-testid="operating-point">
      <p>{frequencies(point, task)}</p>
      <p class="quiet" title={point.data_set}>
        “{point.name}”: threshold {probability(point.threshold)}, sensitivity {percent(point.sensitivity)}, specificity{" "}
        {percent(point.specificity)}, n = {point.n}, {setName(point.data_set)}
      </p>
    </div>
  );
}

/** A data set without how it was split, which the title and the model card say. */
function setName(text: string): string {
  return text.split(/, by (?:nodule|patient)/)[0] ?? text;
}

const REFERRALS: Record<string, string> = {
  mtmDR: "More than mild retinopathy",
  vtDR: "Vision-threatening retinopathy",
};

/** A photograph: the grade, and whether it is to be referred. */
function Graded({ analysis, finding }: { analysis: Analysis; finding: Finding }) {
  const model = useModel(analysis.model.name);
  const points = model.state === "done" && sameWeights(analysis, model.value) ? model.value.points : [];
  const referable = Object.entries(finding.referable ?? {});
  const p = finding.probabilities[String(finding.grade)] ?? 0;
  return (
    <>
      <h1 class={finding.operating_point.decision === "positive" ? "warn" : undefined}>
        {answer(finding)}
        <small>
          {EYES[analysis.input.laterality] ?? "Side not stated"} · probability of this grade {probability(p)}
        </small>
      </h1>
      {referable.length > 0 ? (
        <ul class="referrals" data-testid="referrals">
          {referable.map(([name, yes]) => (
            <Referral key={name} name={name} yes={yes} finding={finding} points={points} />
          ))}
        </ul>
      ) : (
        <p>
          {decided(finding)}: {comparison(finding.operating_point.score, finding.operating_point.threshold)}.
        </p>
      )}
      {gradeContradiction(finding) && <p class="quiet">{gradeContradiction(finding)}</p>}
    </>
  );
}

function Referral(props: { name: string; yes: boolean; finding: Finding; points: readonly ModelPoint[] }) {
  const { name, yes, finding } = props;
  const own = finding.operating_point.name === name ? finding.operating_point : undefined;
  const known = props.points.find((one) => one.name === name);
  const point = own ?? known;
  const score = own ? own.score : known ? sum(finding.probabilities, known.score_classes) : undefined;
  return (
    <li>
      <div class="referral">
        <span>
          {REFERRALS[name] ?? name} <span class="quiet">({name})</span>
        </span>
        <strong class={yes ? "warn" : undefined}>
          <Sign>{yes ? "◆" : "○"}</Sign> {yes ? "Yes: refer" : "No"}
        </strong>
      </div>
      <div class="referral-numbers">
        {point && score !== undefined ? (
          <>
            <Bar value={score} threshold={point.threshold} />
            <span class="num">{comparison(score, point.threshold)}</span>
          </>
        ) : (
          <span class="quiet">The threshold of the weights that answered is not at hand.</span>
        )}
      </div>
      {point && (
        <details class="plain-details">
          <summary>
            Sensitivity {percent(point.sensitivity)}, specificity {percent(point.specificity)}, n = {point.n}
          </summary>
          <p class="quiet">
            {frequencies(point, "eye")} {point.data_set}
          </p>
        </details>
      )}
    </li>
  );
}

function Sign({ children }: { children: string }) {
  return (
    <span class="sign" aria-hidden="true">
      {children}
    </span>
  );
}
