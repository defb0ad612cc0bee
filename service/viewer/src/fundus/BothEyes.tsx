/** Both eyes of the patient in one: what a screening scheme advises, the worst grade of each eye, what is missing. */

import type { Analysis } from "../api/types";
import { Section } from "../panel/Section";
import { format } from "../route";
import { EYE_NAMES } from "./shots";
import { cells, type EyeCell, glance, grounds } from "./summary";
import { useEyes } from "./use";

/** CSS pixels of a window that has room for the summary beside the photographs. */
const TALL = 900;

export function BothEyes(props: { study: string; analyses: readonly Analysis[]; shown: string }) {
  const { study } = props;
  const { summary, problem } = useEyes(study, props.analyses);
  if (problem)
    return (
      <p class="both-eyes quiet" role="status">
        No summary of both eyes: {problem.detail ?? problem.title}
      </p>
    );
  if (!summary) return null;
  const { decision } = summary;
  return (
    <section class="both-eyes" aria-label="Both eyes" data-testid="both-eyes" data-action={decision.action}>
      <Section
        name="both-eyes"
        open={innerHeight >= TALL}
        title={<span class={`advice ${decision.action}`}>{decision.text}</span>}
        aside={glance(summary)}
      >
        <div class="sides">
          {cells(summary).map((cell) => (
            <Cell key={cell.side ?? ""} cell={cell} study={study} shown={props.shown} />
          ))}
        </div>
        {summary.missing.length + summary.contradictions.length > 0 && (
          <ul class="lacking">
            {summary.missing.map((one) => (
              <li key={`${one.code} ${one.eye}`} data-code={one.code}>
                <span class="quiet">Missing:</span> {one.message} <strong>{one.advice}</strong>
              </li>
            ))}
            {summary.contradictions.map((one) => (
              <li key={`${one.code} ${one.analyses} ${one.message}`} data-code={one.code}>
                <span class="quiet">Contradiction:</span> {one.message}
              </li>
            ))}
          </ul>
        )}
        <Section name="both-eyes-why" minor title="Why, and what this leaves out">
          <ul class="why">
            {grounds(summary).map((line) => (
              <li key={line}>{line}</li>
            ))}
          </ul>
        </Section>
      </Section>
    </section>
  );
}

function Cell(props: { cell: EyeCell; study: string; shown: string }) {
  const { cell, study } = props;
  return (
    <div class={cell.worse ? "side-eye worse" : "side-eye"} data-testid="eye-summary" data-eye={cell.side ?? ""}>
      <p>
        <strong>{cell.side ? EYE_NAMES[cell.side] : "Unknown eye"}</strong>
        {cell.worse && <span class="badge warn">Worse eye</span>}
        <span class={cell.graded ? "said" : "said unstated"}>{cell.grade}</span>
        {cell.referral && <span class={cell.referred ? "refer" : "quiet"}>{cell.referral}</span>}
      </p>
      <p class="quiet">
        {cell.facts.join(" · ")}
        {cell.photographs.length > 0 && (
          <span class="links">
            <span>{cell.photographs.length > 1 ? "Photographs" : "Photograph"}</span>
            {cell.photographs.map((one) => (
              <a
                key={one.analysis}
                href={format({ page: "case", study, analysis: one.analysis })}
                aria-current={one.analysis === props.shown ? "true" : undefined}
              >
                {one.text}
              </a>
            ))}
          </span>
        )}
      </p>
    </div>
  );
}
