/** One study of the worklist: a line an analysis, or one that says what it waits for. */

import type { ComponentChildren } from "preact";
import { useState } from "preact/hooks";
import { analysisPath, problemOf, unfinished } from "../api/client";
import type { Analysis, AnalysisRow, Problem, StudyRow } from "../api/types";
import { Badge } from "../parts/controls";
import { format, go } from "../route";
import { dicomDate, EYES, moment, outcome, personName, probability, SEXES } from "../words";
import { placeOf } from "./place";

interface Props {
  study: StudyRow;
  chosen: boolean;
  onChoose: () => void;
  onAgain: (analysis: AnalysisRow) => Promise<Analysis>;
  onForget: (analysis: AnalysisRow) => Promise<void>;
}

export function StudyRows({ study, chosen, onChoose, onAgain, onForget }: Props) {
  const lines: (AnalysisRow | null)[] = study.analyses.length > 0 ? study.analyses : [null];
  return (
    <tbody data-testid="study" data-key={study.key} data-chosen={chosen || undefined}>
      {lines.map((analysis, k) => (
        <tr
          key={analysis?.id ?? "none"}
          onClick={(event) => {
            onChoose();
            if (!(event.target as HTMLElement).closest("a, button") && !getSelection()?.toString())
              go(placeOf(study, analysis ?? undefined));
          }}
        >
          {k === 0 && <Who study={study} span={lines.length} analysis={analysis} />}
          {analysis ? (
            <AnalysisCells study={study} analysis={analysis} onAgain={onAgain} onForget={onForget} />
          ) : (
            <Waiting study={study} />
          )}
        </tr>
      ))}
    </tbody>
  );
}

function Who({ study, span, analysis }: { study: StudyRow; span: number; analysis: AnalysisRow | null }) {
  const { patient } = study;
  const images = study.series.reduce((sum, one) => sum + one.instances, 0);
  const facts = dotted(
    patient.id && <bdi>{patient.id}</bdi>,
    patient.birth_date && <span class="whole">{dicomDate(patient.birth_date)}</span>,
    SEXES[patient.sex] ?? patient.sex,
  );
  return (
    <>
      <th scope="row" rowSpan={span} class="who">
        {!study.study && analysis && analysis.status !== "failed" && (
          <img class="thumbnail" src={`${analysisPath(analysis.id)}/images/0.jpg?size=128`} alt="" loading="lazy" />
        )}
        <a href={format(placeOf(study, analysis ?? undefined))}>
          <bdi>{study.study ? personName(patient.name) || patient.id || "No patient name" : "Image file"}</bdi>
        </a>
        <div class="quiet">{facts}</div>
      </th>
      <td rowSpan={span} class="what">
        <div>
          <span class="whole">{dicomDate(study.study_date)}</span> <bdi>{study.description}</bdi>
          {study.study && !study.study_date && !study.description && "No date"}
        </div>
        <div class="quiet">
          {dotted(
            study.modalities.join(", "),
            images > 0 && `${images} ${images === 1 ? "image" : "images"}`,
            study.accession && (
              <>
                accession <bdi>{study.accession}</bdi>
              </>
            ),
          )}
        </div>
      </td>
    </>
  );
}

/** What there is of it, with dots between. */
function dotted(...parts: ComponentChildren[]) {
  return parts.filter(Boolean).flatMap((part, k) => (k === 0 ? [part] : [" · ", part]));
}

function Waiting({ study }: { study: StudyRow }) {
  return (
    <>
      <td colSpan={4}>
        {study.arriving.length > 0 ? (
          study.arriving.map((one) => (
            <div key={one.series} class="row">
              <span class="spinner" aria-hidden="true" />
              <Badge>Arriving</Badge>
              <span class="quiet">
                {one.modality} series, {one.instances} so far{one.waiting_for && `; ${one.waiting_for}`}
              </span>
            </div>
          ))
        ) : (
          <Badge>Not analysed</Badge>
        )}
      </td>
      <td>{moment(study.changed)}</td>
      <td />
    </>
  );
}

interface CellProps extends Omit<Props, "chosen" | "onChoose"> {
  analysis: AnalysisRow;
}

function AnalysisCells({ study, analysis, onAgain, onForget }: CellProps) {
  return (
    <>
      <td>
        <State analysis={analysis} />
        {study.arriving.length > 0 && <div class="quiet">more images are arriving</div>}
      </td>
      <td>
        <Answer analysis={analysis} />
      </td>
      <td>
        <Assessed analysis={analysis} />
      </td>
      <td class="quiet">
        {analysis.model.name}
        {analysis.model.version && ` ${analysis.model.version}`}
      </td>
      <td>{moment(analysis.created)}</td>
      <td>
        <Actions analysis={analysis} onAgain={onAgain} onForget={onForget} />
      </td>
    </>
  );
}

function State({ analysis }: { analysis: AnalysisRow }) {
  if (analysis.status === "failed") return <Badge tone="bad">Failed</Badge>;
  if (unfinished(analysis))
    return (
      <span class="row">
        <span class="spinner" aria-hidden="true" />
        {analysis.status === "running" && analysis.stage ? `${analysis.stage} ...` : `${analysis.status} ...`}
      </span>
    );
  if (analysis.outcome === "ungradable" || analysis.outcome === "out_of_scope")
    return <Badge tone="warn">{outcome(analysis)}</Badge>;
  return <Badge tone="good">Completed</Badge>;
}

function Answer({ analysis }: { analysis: AnalysisRow }) {
  const eye = EYES[analysis.laterality];
  const line = (...parts: ComponentChildren[]) => (
    <div>
      {eye && <span class="quiet">{eye}: </span>}
      {parts}
    </div>
  );
  if (analysis.error)
    return (
      <div class="why">
        <strong>{analysis.error.title}</strong>
        {analysis.error.detail && <div>{analysis.error.detail}</div>}
      </div>
    );
  if (analysis.status !== "completed") return null;
  const { top } = analysis;
  if (!top) return line(outcome(analysis));
  if (top.grade !== null) {
    return line(
      <strong>
        Grade {top.grade}: {top.label}
      </strong>,
      <span class="quiet"> {probability(top.probability)} </span>,
      top.decision === "positive" && <Badge tone="bad">refer</Badge>,
    );
  }
  return line(
    <strong class={top.decision}>{top.decision === "positive" ? `${top.label}` : outcome(analysis)}</strong>,
    <span class="quiet">
      {" "}
      {probability(top.probability)}
      {analysis.findings > 1 && ` · ${analysis.positive} of ${analysis.findings} findings positive`}
    </span>,
  );
}

function Assessed({ analysis }: { analysis: AnalysisRow }) {
  if (analysis.findings === 0) return <span class="quiet">–</span>;
  const all = analysis.assessed === analysis.findings;
  return (
    <span>
      <Badge tone={all ? "good" : "plain"}>
        {analysis.assessed} of {analysis.findings}
      </Badge>
      {analysis.rejected > 0 && <span class="quiet"> {analysis.rejected} rejected</span>}
    </span>
  );
}

function Actions({ analysis, onAgain, onForget }: Omit<CellProps, "study">) {
  const [problem, setProblem] = useState<Problem | null>(null);
  const [busy, setBusy] = useState(false);
  if (unfinished(analysis)) return null;
  const act = async (what: (analysis: AnalysisRow) => Promise<unknown>) => {
    setBusy(true);
    setProblem(null);
    try {
      await what(analysis);
    } catch (error) {
      setProblem(problemOf(error));
    }
    setBusy(false);
  };
  return (
    <div class="row">
      <button type="button" disabled={busy} onClick={() => act(onAgain)}>
        Re-run
      </button>
      {analysis.status === "failed" && (
        <button
          type="button"
          class="plain"
          disabled={busy}
          title="Delete this failed analysis"
          onClick={() => act(onForget)}
        >
          Delete
        </button>
      )}
      {problem && (
        <span role="alert" class="why">
          {problem.title}: {problem.detail}
        </span>
      )}
    </div>
  );
}
