/** How the model does on cases like this one, and how good its maps are: published figures with what chance gives. */

import type { Analysis, Figure, Finding, ModelClass } from "../api/types";
import { Bars } from "../parts/plot";
import { millimetres } from "../words";
import { bySet, chance, meaning, ofClass, strata, stratumOf } from "./figures";
import { type ModelFacts, sameWeights, useModel } from "./model";
import { Pending } from "./Pending";
import { taskOf } from "./point";
import { Section } from "./Section";

interface Props {
  analysis: Analysis;
  finding: Finding;
  classes: readonly ModelClass[];
}

export function Figures(props: Props) {
  const { analysis, finding, classes } = props;
  const model = useModel(analysis.model.name);
  const card = analysis.model.card ?? `/v2/models/${encodeURIComponent(analysis.model.name)}/card`;
  return (
    <>
      <div class="part" data-testid="figures">
        <h3>On cases like this one</h3>
        <Pending of={model} lines={5}>
          {(facts) => (
            <>
              <Weights analysis={analysis} facts={facts} />
              <LikeThis finding={finding} metrics={facts.metrics} />
            </>
          )}
        </Pending>
        <p>
          <a href={card} target="_blank" rel="noopener">
            Model card: all figures, data and limits
          </a>
        </p>
      </div>
      <div class="part" data-testid="evidence">
        <h3>Do its maps point at the right place?</h3>
        <Pending of={model} lines={5}>
          {(facts) =>
            facts.evidence.length === 0 ? (
              <p class="quiet">Not available from this service; see the model card.</p>
            ) : (
              <FigureList
                figures={ofClass(
                  facts.evidence,
                  finding.label,
                  classes.map((one) => one.label),
                )}
              />
            )
          }
        </Pending>
      </div>
    </>
  );
}

function Weights({ analysis, facts }: { analysis: Analysis; facts: ModelFacts }) {
  if (sameWeights(analysis, facts)) return null;
  return (
    <p class="notice warn" data-testid="other-weights">
      These figures are of version {facts.version}, which is installed now. Version{" "}
      {analysis.model.version ?? "unknown"} gave this answer: run the analysis again to have figures that belong to it.
    </p>
  );
}

function LikeThis({ finding, metrics }: { finding: Finding; metrics: readonly Figure[] }) {
  if (metrics.length === 0) return <p class="quiet">Not available from this service; see the model card.</p>;
  const { first, others } = bySet(metrics);
  const eye = taskOf(finding) === "eye";
  const size = finding.location.diameter_mm;
  const group = !eye && typeof size === "number" ? stratumOf(first, size) : undefined;
  const grade = eye ? first.find((one) => one.name === `recall of grade ${finding.grade}`) : undefined;
  const main = first.filter(
    (one) => !/^recall of grade|mm\b/.test(one.name) && !/^AUC by slice|at least three/.test(one.name),
  );
  const rest = [...first.filter((one) => !main.includes(one) && one !== group?.figure && one !== grade), ...others];
  const own = group?.figure ?? grade;
  return (
    <>
      {own && (
        <p data-testid="own-figure">
          {group
            ? `For nodules of ${range(group.low, group.high)} (this one: ${millimetres(size!)}${finding.location.origin === "candidate" ? " by the search" : ""}) the AUC is `
            : `Of ${own.n} photographs of grade ${finding.grade} in the test set it graded right `}
          <strong>{number(own)}</strong>
          {own.interval && ` (95 %: ${own.interval.map((value) => value.toFixed(2)).join(" to ")})`}
          {group && `, n = ${own.n}`}.
        </p>
      )}
      {!eye && !group && strata(first).length > 0 && (
        <p data-testid="own-figure">
          {typeof size === "number"
            ? `There is no figure for nodules of ${millimetres(size)}.`
            : "The size of this nodule is not known: the figure of its size cannot be named."}{" "}
          By size:
        </p>
      )}
      <FigureList figures={[...(own ? [own] : strata(first).map((one) => one.figure)), ...main]} own={own} />
      {rest.length > 0 && (
        <Section name="all-figures" minor title={`${rest.length} more figures`}>
          <FigureList figures={rest} />
        </Section>
      )}
    </>
  );
}

/** Figures as bars, each with what chance gives, n, and what it means. */
export function FigureList(props: { figures: readonly Figure[]; own?: Figure }) {
  const { figures } = props;
  if (figures.length === 0) return null;
  const set = figures[0]!.data_set;
  const same = figures.every((one) => one.data_set === set);
  return (
    <>
      <ul class="figures">
        {figures.map((figure) => {
          const by = chance(figure);
          return (
            <li key={`${figure.name} ${figure.data_set}`} class={figure === props.own ? "own" : undefined}>
              <Bars
                label={figure.name}
                max={Math.max(1, figure.value)}
                rows={[
                  {
                    name: figure.name,
                    label: figure.name,
                    value: figure.value,
                    text: by === null ? number(figure) : `${number(figure)} vs ${small(by)}`,
                    interval: figure.interval,
                    chance: by,
                  },
                ]}
              />
              <p class="quiet">
                {meaning(figure.name) || figure.formula || ""}{" "}
                {[
                  figure.interval && `95 %: ${figure.interval.map(small).join(" to ")}`,
                  `n = ${figure.n}`,
                  !same && figure.data_set,
                ]
                  .filter(Boolean)
                  .join("; ")}
                .
              </p>
            </li>
          );
        })}
      </ul>
      <p class="quiet">
        {[
          same && `${set}.`,
          figures.some((one) => chance(one) !== null) && "vs, dotted line: by chance.",
          figures.some((one) => one.interval) && "Thin line: 95 % interval.",
        ]
          .filter(Boolean)
          .join(" ")}
      </p>
    </>
  );
}

function number(figure: Figure): string {
  return small(figure.value);
}

function small(value: number): string {
  return value === 0 ? "0" : value.toFixed(Math.abs(value) < 0.095 ? 3 : 2);
}

function range(low: number, high: number): string {
  return Number.isFinite(high) ? `${low} to ${high} mm` : `${low} mm and more`;
}
