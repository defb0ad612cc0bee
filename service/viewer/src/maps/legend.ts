/** What has to be said to read a map, as `service/maps/render.py` says it below its pictures. */

import type { Finding, ModelClass } from "../api/types";
import { percent, probability } from "../words";
import { classOf, type Overlay } from "./overlay";
import { AGAINST, HOT, MOST_CLASSES, negativeOf, palette, ranked, rgb, top } from "./paint";
import { classMap, type ResponseMaps } from "./response";

/** A ramp of colours, the weakest first, and what its end means. */
export interface Entry {
  ramp: string[];
  text: string;
}

const BLACK = "#000000";

function css(color: readonly number[]): string {
  return `rgb(${color.join(" ")})`;
}

/** Names and probabilities of a model's classes, in the order of its maps. */
export function naming(names: readonly string[], finding: Finding, classes: readonly ModelClass[]) {
  const known = new Map(classes.map((one) => [one.name, one]));
  return names.map((name) => ({
    name,
    label: known.get(name)?.label ?? name,
    color: known.get(name)?.color ?? "#969696",
    probability: finding.probabilities[name] ?? 0,
  }));
}

/** What the kind of map shows, and its colours. */
export function entries(
  kind: string,
  names: readonly string[],
  finding: Finding,
  classes: readonly ModelClass[],
): { title: string; entries: Entry[] } {
  const all = naming(names, finding, classes);
  const chosen = classOf(kind, names);
  if (chosen !== null) {
    const { label, color, probability: p } = all[chosen]!;
    return {
      title: `Response map of one class: ${label} (probability ${probability(p)})`,
      entries: [
        { ramp: [BLACK, css(negativeOf(rgb(color)))], text: `speaks against ${label}` },
        { ramp: [BLACK, color], text: `speaks for ${label}` },
      ],
    };
  }
  const p = all.map((one) => one.probability);
  const order = ranked(p);
  if (kind === "two-sided") {
    const first = all[order[0]!]!;
    const rest = order.slice(1).reduce((sum, c) => sum + p[c]!, 0);
    return {
      title: "Two-sided map: the most probable class against the strongest of all others",
      entries: [
        { ramp: [BLACK, css(HOT)], text: `${first.label} ${probability(first.probability)}` },
        { ramp: [BLACK, css(AGAINST)], text: `all others ${probability(rest)} together` },
      ],
    };
  }
  const colors = palette(
    p,
    all.map((one) => one.color),
  );
  const rest = order.slice(MOST_CLASSES);
  const own = order.slice(0, MOST_CLASSES).sort((a, b) => a - b);
  return {
    title:
      "CLEAR map: colour = class with the strongest response, brightness = its strength. Numbers are probabilities.",
    entries: [
      ...own.map((c) => ({
        ramp: [BLACK, css(colors[c]!)],
        text: `${all[c]!.label} ${probability(all[c]!.probability)}`,
      })),
      ...(rest.length
        ? [
            {
              ramp: [BLACK, css(colors[rest[0]!]!)],
              text: `other (${rest.length} classes) ${probability(rest.reduce((sum, c) => sum + p[c]!, 0))}`,
            },
          ]
        : []),
    ],
  };
}

/** Scale, what it is worth here, rule and start. `slice` is of the maps; null where the image that is shown has none. */
export function notes(
  maps: ResponseMaps | null,
  slice: number | null,
  how: Pick<Overlay, "kind" | "scale" | "threshold">,
  finding: Finding,
): string[] {
  const { rule, start } = finding.evidence;
  const said = [];
  if (maps && slice === null) said.push("The image shown has no map: it lies outside this finding.");
  if (maps && slice !== null) {
    const chosen = classOf(how.kind, maps.classes);
    const [strongest, positive] = extent(maps, slice, chosen);
    const several = maps.shape[0] > 1;
    if (!(positive > 0))
      said.push(`No positive response${chosen === null ? "" : " of this class"}${several ? " in this slice" : ""}.`);
    const full = top(maps, how.scale);
    const whose =
      how.scale === "per_model"
        ? "comparable: the same for all images"
        : several
          ? `this image: 99.9 % of what its ${maps.shape[0]} slices respond is weaker`
          : "this image: 99.9 % of its responses are weaker";
    said.push(`Full strength ${number(full)} (${whose}); brightness by square root.`);
    if (strongest > full * (1 + 1e-6))
      said.push(`The strongest here, ${number(strongest)}, is drawn at full strength.`);
    else if (positive > 0 && strongest < full / 2)
      said.push(`The strongest here is ${number(strongest)}, ${percent(strongest / full)} of it.`);
  }
  if (how.threshold > 0) said.push(`Below ${percent(how.threshold)} of full strength nothing is drawn.`);
  const alike = finding.evidence.class_correlation;
  if (start === "class" && typeof alike === "number")
    said.push(`Correlation of the classes' maps ${alike.toFixed(2)} (1 = the map says nothing about the class).`);
  if (rule) said.push(`Rule ${rule}, start ${start}.`);
  return said;
}

/** Largest drawn response, signs aside for one class, and the largest positive one. */
function extent(maps: ResponseMaps, slice: number, chosen: number | null): [number, number] {
  let low = 0;
  let high = 0;
  for (let c = 0; c < maps.shape[1]; c++) {
    if (chosen !== null && c !== chosen) continue;
    for (const value of classMap(maps, slice, c)) {
      if (value > high) high = value;
      else if (value < low) low = value;
    }
  }
  return [chosen === null ? high : Math.max(high, -low), high];
}

function number(value: number): string {
  return String(Number(value.toPrecision(3)));
}
