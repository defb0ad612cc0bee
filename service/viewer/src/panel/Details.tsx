/** What made this answer, how long it took, and where it went. */

import { useState } from "preact/hooks";
import { analysis as again, analysisPath, call, problemOf, unfinished } from "../api/client";
import type { Analysis, Delivery, Finding, Problem, ResultObject } from "../api/types";
import { renewed } from "../case/state";
import { kindsOf } from "../maps/overlay";
import { Badge, ProblemNotice } from "../parts/controls";
import { format, route } from "../route";
import { moment, sentence } from "../words";
import { Copy } from "./Copy";
import { Rerun } from "./Rerun";
import { Section } from "./Section";
import { ShowAnalysis } from "./ShowAnalysis";

export function Details({ analysis, finding }: { analysis: Analysis; finding: Finding | null }) {
  const { model } = analysis;
  const dead = analysis.delivery.filter((one) => one.state === "dead").length;
  return (
    <Section
      name="details"
      title="Details"
      aside={dead > 0 ? <Badge tone="bad">{dead} not delivered</Badge> : `${model.name} ${model.version ?? ""}`}
    >
      <p class="row">
        <Copy text={linkTo(analysis, finding)} testid="copy-link">
          Copy link to this {finding ? "finding" : "analysis"}
        </Copy>
        <a class="button" href={analysisPath(analysis.id)} target="_blank" rel="noopener">
          JSON
        </a>
        {!unfinished(analysis) && analysis.status !== "failed" && <Rerun analysis={analysis} />}
      </p>
      <dl class="facts">
        <Fact name="Analysis">
          <code>{analysis.id.slice(0, 8)}</code> <Copy text={analysis.id}>Copy</Copy> {moment(analysis.created)}
        </Fact>
        {analysis.supersedes && (
          <Fact name="Replaces">
            <ShowAnalysis id={analysis.supersedes}>an earlier analysis</ShowAnalysis>
          </Fact>
        )}
        <Fact name="Model">
          {model.name} {model.version}
        </Fact>
        {model.sha256 && (
          <Fact name="Weights">
            <code title={model.sha256}>{model.sha256.slice(0, 12)}</code> <Copy text={model.sha256}>Copy</Copy>
          </Fact>
        )}
        {finding && (
          <Fact name="Finding">
            {finding.id} <Copy text={finding.tracking_uid}>Copy tracking UID</Copy>
          </Fact>
        )}
        <Fact name="Images">
          {analysis.input.instances.length} {analysis.input.modality || "image files"}
        </Fact>
        {analysis.timing_ms.total !== undefined && (
          <Fact name="Time">
            {seconds(analysis.timing_ms.total)}
            <span class="quiet">
              {" "}
              (
              {Object.entries(analysis.timing_ms)
                .filter(([stage, ms]) => stage !== "total" && ms >= 1)
                .map(([stage, ms]) => `${stage} ${seconds(ms)}`)
                .join(", ")}
              )
            </span>
          </Fact>
        )}
      </dl>
      <Maps finding={finding} />
      <Objects objects={analysis.objects} revision={analysis.revision} />
      <Deliveries analysis={analysis} />
    </Section>
  );
}

function linkTo(analysis: Analysis, finding: Finding | null): string {
  const at = route.value;
  const study = at.page === "case" ? at.study : undefined;
  const place = format({ page: "case", study, analysis: analysis.id, finding: finding?.id });
  return `${location.origin}${location.pathname}${place}`;
}

function Fact(props: { name: string; children: preact.ComponentChildren }) {
  return (
    <div>
      <dt>{props.name}</dt>
      <dd>{props.children}</dd>
    </div>
  );
}

function seconds(ms: number): string {
  return ms < 1000 ? `${Math.round(ms)} ms` : `${(ms / 1000).toFixed(1)} s`;
}

function Maps({ finding }: { finding: Finding | null }) {
  const maps = finding?.evidence.maps ?? {};
  const kinds = kindsOf(maps);
  if (kinds.length === 0) return null;
  return (
    <div class="part">
      <h3>Maps of this finding</h3>
      <ul class="downloads">
        {kinds.map((kind) => (
          <li key={kind}>
            {kind}{" "}
            <a
              href={`${maps[kind]}?legend=1&overlay=0.6`}
              download={`${finding!.id}-${kind}.png`}
              aria-label={`${kind} as PNG`}
            >
              PNG
            </a>{" "}
            <a
              href={maps[kind]!.replace(/\.png$/, ".npz")}
              download={`${finding!.id}-${kind}.npz`}
              aria-label={`${kind} as arrays`}
            >
              NPZ
            </a>
          </li>
        ))}
      </ul>
    </div>
  );
}

interface Validation {
  validator?: string | null;
  errors?: unknown;
  warnings?: unknown;
  messages?: string[];
}

function Objects({ objects, revision }: { objects: readonly ResultObject[]; revision?: number }) {
  if (objects.length === 0) return null;
  return (
    <div class="part" data-testid="objects">
      <h3>DICOM objects{revision ? `, revision ${revision}` : ""}</h3>
      <ul class="downloads">
        {objects.map((one) => {
          const checked = one.validation as Validation | null;
          return (
            <li key={one.sop_instance_uid}>
              <a href={one.href} download title={one.sop_instance_uid}>
                {one.kind}
              </a>{" "}
              <span class="quiet">
                {checked
                  ? `${checked.validator ?? "checked"}: ${count(checked.errors, "error")}, ${count(checked.warnings, "warning")}`
                  : "not in the sample that is validated"}
              </span>
            </li>
          );
        })}
      </ul>
    </div>
  );
}

function count(of: unknown, what: string): string {
  const n = Array.isArray(of) ? of.length : Number(of ?? 0);
  return `${n} ${what}${n === 1 ? "" : "s"}`;
}

const STATES: Record<string, string> = { dead: "Set aside", committed: "Kept there" };
const TONES: Record<string, "good" | "bad" | "plain"> = { sent: "good", committed: "good", dead: "bad" };

/** What counts first; what was replaced last. */
function inOrder(all: readonly Delivery[]): Delivery[] {
  const old = (one: Delivery) => one.state === "superseded";
  return [...all.filter((one) => !old(one)), ...all.filter(old)];
}

function Deliveries({ analysis }: { analysis: Analysis }) {
  const [problem, setProblem] = useState<Problem | null>(null);
  if (analysis.delivery.length === 0) {
    return analysis.objects.length > 0 ? <p class="quiet">Sent nowhere: no destination is set.</p> : null;
  }
  const replay = async (one: Delivery) => {
    setProblem(null);
    try {
      await call(`/api/v1/deliveries/${encodeURIComponent(one.id)}/replay`, { method: "POST" });
      await new Promise((resolve) => setTimeout(resolve, 1000));
      renewed(await again(analysis.id));
    } catch (error) {
      setProblem(problemOf(error));
    }
  };
  return (
    <div class="part" data-testid="deliveries">
      <h3>Deliveries</h3>
      <ul class="deliveries">
        {inOrder(analysis.delivery).map((one) => (
          <li key={one.id}>
            <span>
              {one.kind} to {one.destination}
            </span>
            <Badge tone={TONES[one.state] ?? "plain"}>{STATES[one.state] ?? sentence(one.state)}</Badge>
            {(one.state === "dead" || one.state === "sent") && (
              <button type="button" class="small" onClick={() => replay(one)}>
                Send again
              </button>
            )}
            <span class="quiet">
              {one.attempts} {one.attempts === 1 ? "try" : "tries"}, {moment(one.changed)}
              {one.due && `, next ${moment(one.due)}`}
              {one.last_error && `: ${one.last_error}`}
            </span>
          </li>
        ))}
      </ul>
      {problem && <ProblemNotice problem={problem} />}
    </div>
  );
}
