/** How often readers agree with each version of each model, over time. */

import { useEffect, useState } from "preact/hooks";
import { agreement, problemOf } from "../api/client";
import type { Agreement, Problem, Share } from "../api/types";
import { ProblemNotice, Segments, Spinner } from "../parts/controls";
import "../styles/quality.css";
import { percent, sentence } from "../words";
import { AgreementPlot } from "./AgreementPlot";
import { Recent } from "./Recent";

const BY = [
  { value: "day", label: "Day" },
  { value: "week", label: "Week" },
  { value: "month", label: "Month" },
] as const;

type By = (typeof BY)[number]["value"];
type Model = Agreement["models"][number];

/** Fewer verdicts than this say nothing yet. */
const FEW = 20;

export function QualityPage() {
  const [by, setBy] = useState<By>("week");
  const [found, setFound] = useState<Agreement | null>(null);
  const [problem, setProblem] = useState<Problem | null>(null);
  useEffect(() => {
    const leaving = new AbortController();
    agreement({ by }, leaving.signal)
      .then((now) => {
        setFound(now);
        setProblem(null);
      })
      .catch((error) => {
        if (!leaving.signal.aborted) setProblem(problemOf(error));
      });
    return () => leaving.abort();
  }, [by]);
  return (
    <div class="quality-page">
      <header class="row">
        <h1>Do readers agree?</h1>
        <Segments label="By" options={BY} value={by} onChange={setBy} />
        <span class="row downloads">
          <a class="button" href="/api/v1/assessments.csv" download="assessments.csv">
            All assessments (CSV)
          </a>
          <a class="button" href="/api/v1/assessments">
            JSON
          </a>
        </span>
      </header>
      <p class="quiet">
        Agreement is the share of assessed findings that a reader accepted; the newest verdict of a finding counts. In
        brackets: its 95 % interval (Wilson). Readers see the model's answer before they judge, and choose what they
        judge: these figures watch for change, they are no measure of accuracy.
      </p>
      {problem && <ProblemNotice problem={problem} />}
      {!found && !problem && <Spinner>Counting verdicts ...</Spinner>}
      {found && found.models.length === 0 && (
        <p class="nothing">
          No finding has been assessed yet. Open a study and accept, correct or reject its findings (keys A, E, R).
        </p>
      )}
      {found?.models.map((model) => (
        <ModelSection key={`${model.name} ${model.version}`} model={model} by={by} />
      ))}
      {found && found.unassessed > 0 && <p class="quiet">{found.unassessed} findings have no verdict.</p>}
      {found && found.models.length > 0 && <Recent />}
    </div>
  );
}

/** "83 % (71 % to 91 %), n = 42"; never a share without its n. */
export function share(of: Share): string {
  if (of.n === 0 || of.agreement === null) return "none assessed";
  const [low, high] = of.interval ?? [0, 1];
  return `${percent(of.agreement)} (${percent(low)} to ${percent(high)}), n = ${of.n}`;
}

function ModelSection({ model, by }: { model: Model; by: By }) {
  return (
    <section class="model" aria-label={`${model.name} ${model.version}`} data-testid="agreement">
      <div>
        <h2>
          {model.name} {model.version}
        </h2>
        <p class="headline">{share(model)}</p>
        {model.n < FEW && <p class="quiet">Fewer than {FEW} verdicts: too few to conclude anything.</p>}
        <table>
          <thead>
            <tr>
              <th scope="col">Model said</th>
              <th scope="col" class="num">
                Accepted
              </th>
              <th scope="col" class="num">
                Corrected
              </th>
              <th scope="col" class="num">
                Rejected
              </th>
              <th scope="col">Agreement</th>
            </tr>
          </thead>
          <tbody>
            {Object.entries(model.by_decision).map(([decision, one]) => (
              <tr key={decision}>
                <th scope="row">{sentence(decision)}</th>
                <td class="num">{one.accepted}</td>
                <td class="num">{one.modified}</td>
                <td class="num">{one.rejected}</td>
                <td>{share(one)}</td>
              </tr>
            ))}
          </tbody>
        </table>
        {model.corrections.length > 0 && (
          <>
            <h3>Corrections</h3>
            <ul>
              {model.corrections.map((one) => (
                <li key={`${one.answered} ${one.corrected}`}>
                  {one.answered} → {sentence(one.corrected)}: {one.n}
                </li>
              ))}
            </ul>
          </>
        )}
      </div>
      <AgreementPlot periods={model.periods} by={by} />
    </section>
  );
}
