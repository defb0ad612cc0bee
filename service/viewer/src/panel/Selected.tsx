/** The finding that is selected: probabilities, slice by slice, and what the model saw. */

import type { Analysis, Finding, ModelClass } from "../api/types";
import { showSlice, slice, sliceOf } from "../case/state";
import { Bars, LinePlot } from "../parts/plot";
import { capital, lower, millimetres, percent, probability } from "../words";
import { numberOf, origin, placesOf } from "./order";
import { contradiction, decided, scoreClasses, sum, taskOf } from "./point";
import { Section } from "./Section";
import { Window } from "./Window";

interface Props {
  analysis: Analysis;
  finding: Finding;
  classes: readonly ModelClass[];
}

export function Selected(props: Props) {
  const { analysis, finding } = props;
  const eye = taskOf(finding) === "eye";
  return (
    <Section
      name="finding"
      open
      title={eye ? "This eye" : `Finding ${numberOf(analysis, finding.id)}`}
      aside={eye ? undefined : decided(finding)}
    >
      {!eye && <Whereabouts {...props} />}
      <Probabilities {...props} />
      <Slices {...props} />
      <Window key={finding.id} {...props} />
      <MapNumbers {...props} />
    </Section>
  );
}

function Whereabouts({ analysis, finding }: Props) {
  const at = sliceOf(analysis, finding);
  const size = finding.location.diameter_mm;
  const facts = [
    typeof size === "number" && `${millimetres(size)} across`,
    at !== undefined && `slice ${at + 1}`,
    origin(finding),
  ].filter(Boolean);
  const odd = contradiction(finding);
  return (
    <div class="part">
      <p>{capital(facts.join(", "))}</p>
      {odd && <p class="quiet">{odd}</p>}
    </div>
  );
}

function Probabilities({ finding, classes }: Props) {
  const best = Object.entries(finding.probabilities).sort((a, b) => b[1] - a[1])[0]?.[0];
  return (
    <div class="part">
      <h3>Probabilities</h3>
      <Bars
        label="Probability of each class"
        rows={named(finding.probabilities, classes, taskOf(finding) === "eye").map((one) => ({
          ...one,
          text: probability(one.value),
          strong: one.name === best,
        }))}
      />
    </div>
  );
}

/** Values by class with labels and colours, in the order of the model. */
export function named(values: Record<string, number>, classes: readonly ModelClass[], numbered = false) {
  const order = classes.some((one) => one.name in values)
    ? classes.filter((one) => one.name in values)
    : Object.keys(values).map((name) => ({ name, label: name, color: undefined }));
  return order.map(({ name, label, color }) => ({
    name,
    label: numbered && label !== name ? `${name} ${label}` : label,
    value: values[name] ?? 0,
    color,
  }));
}

function Slices({ analysis, finding, classes }: Props) {
  const slices = finding.slices ?? [];
  const counted = scoreClasses(finding);
  if (slices.length < 2 || counted.length === 0) return null;
  const places = placesOf(analysis, finding);
  const values = slices.map((one) => sum(one.probabilities, counted));
  const peak = finding.evidence.peak_slice;
  const here = slice.value ?? sliceOf(analysis, finding);
  const what = counted.map((name) => lower(classes.find((one) => one.name === name)?.label ?? name)).join(" + ");
  const inStack = places[0] !== 0 || analysis.input.instances.length >= slices.length;
  const { threshold, score } = finding.operating_point;
  const low = Math.min(...places);
  const high = Math.max(...places);
  const every = Math.max(1, Math.ceil(places.length / 8));
  return (
    <div class="part">
      <h3>Slice by slice</h3>
      <LinePlot
        testid="slice-plot"
        text={`p(${what}) in each slice: ${places.map((at, k) => `slice ${at + 1} ${probability(values[k]!)}`).join(", ")}. Threshold ${probability(threshold)}.`}
        x={{
          label: "slice",
          min: low - 0.5,
          max: high + 0.5,
          ticks: places.filter((_, k) => k % every === 0),
          format: (at) => String(at + 1),
        }}
        y={{ label: `p(${what})`, min: 0, max: 1, ticks: [0, 0.5, 1] }}
        threshold={{ value: threshold, label: `threshold ${probability(threshold)}` }}
        lines={[{ name: `p(${what})`, tone: "main", points: places.map((at, k) => [at, values[k]!] as const) }]}
        dots={places.map((at, k) => ({
          x: at,
          y: values[k]!,
          label: `Slice ${at + 1}: ${probability(values[k]!)}${k === peak ? ", peak of the map" : ""}`,
          current: here === at,
          marked: k === peak,
        }))}
        onPick={inStack ? (k) => showSlice(places[k]!) : undefined}
        caption={
          <span>
            p({what}); the decision is made on the mean, {probability(score)}. ▲ slice with the map's peak
          </span>
        }
      />
    </div>
  );
}

/** What the map amounts to, in numbers. */
function MapNumbers({ finding, classes }: Props) {
  const { dominant_class_share: share, class_correlation: alike, scale, rule, start } = finding.evidence;
  if (Object.keys(share).length === 0) return null;
  return (
    <div class="part">
      <h3>What the map is made of</h3>
      <Bars
        label="Share of each class in the dominant response"
        rows={named(share, classes, taskOf(finding) === "eye").map((one) => ({ ...one, text: percent(one.value) }))}
      />
      <p class="quiet">
        Share of the response in which each class is the strongest; it is no probability.
        {typeof alike === "number" &&
          ` The maps of the classes have a correlation of ${alike.toFixed(2)} (1: the map says nothing about the class).`}
        {rule && ` Rule ${rule}, start ${start}.`}
        {scale &&
          ` Strongest response ${figure(scale.per_image)}; the model's reference is ${figure(scale.per_model)}${scale.per_model > 0 ? ` (${percent(scale.per_image / scale.per_model)} of it)` : ""}.`}
      </p>
    </div>
  );
}

function figure(value: number): string {
  return String(Number(value.toPrecision(3)));
}
