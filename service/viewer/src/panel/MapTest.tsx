/** Deletion and insertion for this very finding, against random orders: whether its map means anything here. */

import { faithfulness } from "../api/client";
import type { Analysis, Faithfulness, Finding, ModelClass } from "../api/types";
import { hasMaps } from "../maps/useMaps";
import { LinePlot } from "../parts/plot";
import { lower, percent } from "../words";
import { beats, judged } from "./figures";
import { useLoaded } from "./loaded";
import { placesOf } from "./order";
import { Pending } from "./Pending";
import { Section } from "./Section";

interface Props {
  analysis: Analysis;
  finding: Finding;
  classes: readonly ModelClass[];
}

export function MapTest(props: Props) {
  if (!hasMaps(props.finding)) return null;
  return (
    <Section name="map-test" minor title="Test of this map against chance" aside="computed on demand">
      <Test {...props} />
    </Section>
  );
}

function Test({ analysis, finding, classes }: Props) {
  const test = useLoaded(`faithfulness ${analysis.id} ${finding.id}`, (signal) =>
    faithfulness(analysis.id, finding.id, signal),
  );
  const places = placesOf(analysis, finding);
  return (
    <Pending of={test} lines={24} wait="Computing: parts are taken away and the model is asked again, many times ...">
      {(done) => (
        <Shown
          test={done}
          label={classes.find((one) => one.name === done.class)?.label ?? done.class}
          where={places.length > 1 ? `Slice ${(places[done.slice] ?? done.slice) + 1}` : ""}
        />
      )}
    </Pending>
  );
}

function Shown(props: { test: Faithfulness; label: string; where: string }) {
  const { test, label } = props;
  const verdict = judged(test);
  const p = `p(${lower(label)})`;
  return (
    <div class="map-test" data-testid="map-test">
      <p class={`judged ${verdict.tone}`} data-testid="map-judged">
        {verdict.text}
      </p>
      <Curve
        title="Deletion"
        says={`${p} while the map's strongest parts are taken away first; the faster it falls, the better.`}
        p={p}
        fraction={test.fraction}
        curve={test.deletion.curve}
        mean={test.random.deletion}
        auc={test.deletion.auc}
        random={test.random.deletion_auc}
        n={test.random.n}
        better="lower"
      />
      <Curve
        title="Insertion"
        says={`${p} while the map's strongest parts are shown first; the faster it rises, the better.`}
        p={p}
        fraction={test.fraction}
        curve={test.insertion.curve}
        mean={test.random.insertion}
        auc={test.insertion.auc}
        random={test.random.insertion_auc}
        n={test.random.n}
        better="higher"
      />
      <p class="quiet">
        {props.where && `${props.where}, `}
        {test.steps} steps; what is taken away is replaced by {test.filler}. One image: it says something about this
        map, not about the model.
      </p>
    </div>
  );
}

function Curve(props: {
  title: string;
  says: string;
  p: string;
  fraction: readonly number[];
  curve: readonly number[];
  mean: readonly number[];
  auc: number;
  random: { mean: number; sd: number };
  n: number;
  better: "lower" | "higher";
}) {
  const { random, auc } = props;
  const { by, verdict } = beats(auc, random, props.better);
  const numbers = `Area ${auc.toFixed(2)}, random orders ${random.mean.toFixed(2)} ± ${random.sd.toFixed(2)} (n = ${props.n})`;
  const word = { better: "better than chance", same: "within chance", worse: "worse than chance" }[verdict];
  const points = (values: readonly number[]) => values.map((value, k) => [props.fraction[k] ?? 0, value] as const);
  const sds = Number.isFinite(by) ? ` by ${Math.abs(by).toFixed(1)} sd` : "";
  return (
    <div>
      <h4>
        {props.title}: {word}
        {verdict === "same" ? "" : sds}
      </h4>
      <LinePlot
        text={`${props.title}. ${props.says} ${numbers}: ${word}.`}
        height={112}
        x={{ label: "share of the image", min: 0, max: 1, ticks: [0, 0.5, 1], format: (value) => percent(value) }}
        y={{ label: props.p, min: 0, max: 1, ticks: [0, 0.5, 1] }}
        lines={[
          { name: "this map", tone: "main", points: points(props.curve) },
          { name: "random, mean", tone: "other", points: points(props.mean) },
        ]}
      />
      <p class="quiet">
        {props.says} {numbers}.
      </p>
    </div>
  );
}
