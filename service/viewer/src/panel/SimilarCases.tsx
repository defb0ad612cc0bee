/** Known cases that look most like this one to the network, with their truth. */

import { similar } from "../api/client";
import type { Analysis, Figure, Finding, ModelClass, Similar } from "../api/types";
import { Bars } from "../parts/plot";
import { millimetres, percent, probability } from "../words";
import { FigureList } from "./Figures";
import { chance } from "./figures";
import { useLoaded } from "./loaded";
import { Pending } from "./Pending";
import { Section } from "./Section";
import { named } from "./Selected";

interface Props {
  analysis: Analysis;
  finding: Finding;
  classes: readonly ModelClass[];
}

export function SimilarCases(props: Props) {
  return (
    <Section name="similar" minor open title="Similar known cases">
      <Cases {...props} />
    </Section>
  );
}

function Cases({ analysis, finding, classes }: Props) {
  const found = useLoaded(`similar ${analysis.id} ${finding.id}`, (signal) => similar(analysis.id, finding.id, signal));
  return (
    <Pending of={found} lines={16}>
      {(answer) => <Shown answer={answer} classes={classes} eye={finding.grade !== undefined} />}
    </Pending>
  );
}

const SPLITS: Record<string, string> = {
  train: "training data",
  validation: "validation data",
  test: "test data",
};

/** Of labels that are none of the model's classes. */
const OTHER = "#969696";

function Shown({ answer, classes, eye }: { answer: Similar; classes: readonly ModelClass[]; eye: boolean }) {
  const label = (name: string) => {
    const known = classes.find((one) => one.name === name)?.label;
    return known
      ? eye
        ? `${name} ${known}`
        : known
      : name.charAt(0).toUpperCase() + name.slice(1).replaceAll("_", " ");
  };
  const color = (name: string) => classes.find((one) => one.name === name)?.color;
  const shares = named(answer.share, classes, eye);
  const odd = Object.keys(answer.share)
    .filter((name) => !shares.some((one) => one.name === name))
    .map((name) => ({ name, label: label(name), value: answer.share[name]!, color: OTHER }));
  if (answer.cases.length === 0) return <p class="quiet">There is none of another patient.</p>;
  return (
    <div class="similar" data-testid="similar">
      <p>
        The nearest of {answer.n} known cases of other patients, by what the network itself looks at. They show what it
        takes for alike; they do not show that this case has the same truth.
      </p>
      <Bars
        label="True labels of the nearest cases"
        rows={[...shares, ...odd].map((one) => ({ ...one, text: percent(one.value) }))}
      />
      <ol>
        {answer.cases.map((one) => (
          <li key={one.id} data-testid="similar-case">
            <div class="similar-head">
              <i class="swatch" style={{ backgroundColor: color(one.label) ?? OTHER }} />
              <strong>{label(one.label)}</strong>
              <span class="quiet num">distance {one.distance.toFixed(3)}</span>
            </div>
            <p class="quiet">
              {one.same_image && <strong class="warn">This very image. </strong>}
              {one.truth.text !== `grade ${label(one.label).replace(" ", ": ")}` && one.truth.text}
              {typeof one.truth.diameter_mm === "number" && `, ${millimetres(one.truth.diameter_mm)}`}
            </p>
            <p class="quiet">
              {one.id}, <span class={one.split === "train" ? "warn" : undefined}>{SPLITS[one.split] ?? one.split}</span>
              . {modelSaid(one, label)}
            </p>
          </li>
        ))}
      </ol>
      {answer.cases.some((one) => one.split === "train") && (
        <p class="quiet">
          <span class="warn">Training data</span>: the model has learnt these, so its own answer there proves nothing.
        </p>
      )}
      <p class="quiet">
        {answer.data_set}; {answer.distance} distance of the network's last features.
      </p>
      {answer.evidence[0] && (
        <Section
          name="neighbours"
          minor
          title="How well do neighbours tell the truth?"
          aside={headline(answer.evidence[0])}
        >
          <FigureList figures={answer.evidence} />
        </Section>
      )}
    </div>
  );
}

function headline(figure: Figure): string {
  const by = chance(figure);
  return `${figure.value.toFixed(2)}${by === null ? "" : ` vs ${by.toFixed(2)}`}`;
}

function modelSaid(one: Similar["cases"][number], label: (name: string) => string): string {
  const [best] = Object.entries(one.probabilities).sort((a, b) => b[1] - a[1]);
  if (!best) return "";
  const right = one.correct === true ? ": right" : one.correct === false ? ": wrong" : "";
  return `The model says ${label(best[0])} (${probability(best[1])})${right}.`;
}
