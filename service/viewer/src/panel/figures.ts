/** Which published figures of a model fit the case at hand, and what a figure means. */

import type { Faithfulness, Figure } from "../api/types";

export interface Stratum {
  low: number;
  high: number;
  figure: Figure;
}

/** Range of sizes in mm that a figure is about: "AUC by nodule, 8-15 mm", "..., over 15 mm", "..., at least 15 mm". */
export function sizes(name: string): { low: number; high: number } | null {
  const range = /(\d+(?:\.\d+)?)\s*(?:-|–|to)\s*(\d+(?:\.\d+)?)\s*mm/.exec(name);
  if (range) return { low: Number(range[1]), high: Number(range[2]) };
  const open = /(?:over|above|at least|from|>=?)\s*(\d+(?:\.\d+)?)\s*mm/.exec(name);
  return open ? { low: Number(open[1]), high: Number.POSITIVE_INFINITY } : null;
}

/** The figures that are given by size, in the order of size. */
export function strata(metrics: readonly Figure[]): Stratum[] {
  return metrics
    .flatMap((figure) => {
      const range = sizes(figure.name);
      return range ? [{ ...range, figure }] : [];
    })
    .sort((a, b) => a.low - b.low);
}

/** The figure of cases of this size; the lower end belongs to a range. */
export function stratumOf(metrics: readonly Figure[], diameter: number): Stratum | undefined {
  return strata(metrics).find((one) => diameter >= one.low && diameter < one.high);
}

/** Figures of the data set that is named first, and all others. */
export function bySet(metrics: readonly Figure[]): { first: Figure[]; others: Figure[] } {
  const set = metrics[0]?.data_set;
  return {
    first: metrics.filter((one) => one.data_set === set),
    others: metrics.filter((one) => one.data_set !== set),
  };
}

/** What chance would score; null where that depends on the data. */
export function chance(figure: Figure): number | null {
  if (typeof figure.null === "number") return figure.null;
  if (/^AUC\b/.test(figure.name)) return 0.5;
  if (/kappa/i.test(figure.name)) return 0;
  return null;
}

/** Classes' names in figures come last: "pointing game, malignant". Figures of this class first, then those of none. */
export function ofClass(figures: readonly Figure[], label: string, labels: readonly string[]): Figure[] {
  const about = (figure: Figure) =>
    labels.find((one) => figure.name.toLowerCase().endsWith(`, ${one.toLowerCase()}`))?.toLowerCase();
  const rank = (figure: Figure) => {
    const whose = about(figure);
    return whose === undefined ? 1 : whose === label.toLowerCase() ? 0 : 2;
  };
  return [...figures].sort((a, b) => rank(a) - rank(b));
}

const MEANINGS: [RegExp, string][] = [
  [
    /^share of positive response/i,
    "How much of the map lies on what readers had drawn; by chance as much as its area.",
  ],
  [/^pointing game/i, "How often the map's strongest pixel lies on what readers had drawn."],
  [
    /class correlation|class specificity/i,
    "How alike the maps of two classes are: 1 is the same picture whatever the class, 0 are unrelated ones.",
  ],
  [/deletion/i, "How fast the answer falls when the map's strongest pixels are taken away: the lower, the better."],
  [/insertion/i, "How fast the answer comes back when the map's strongest pixels are shown: the higher, the better."],
  [/stability|robust/i, "How much the map changes when a little noise is added to the image: the lower, the better."],
  [
    /randomi[sz]ation/i,
    "How alike maps are before and after the network's weights are made random: the lower, the better.",
  ],
  [/^AUC of the readers' mean diameter/i, "What size alone would score, without any model."],
  [/^AUC/i, "How often the model puts a positive case above a negative one."],
  [/calibration error/i, "How far the probabilities are from the observed shares."],
  [/kappa/i, "Agreement with the reference grade, large differences counted more; 1 is perfect."],
  [/always answering/i, "What one gets without looking at the images."],
  [/^accuracy/i, "Share of exactly right answers."],
  [/^recall of grade/i, "Share of the photographs of this grade that got it."],
  [
    /neighbour|label agreement|agree/i,
    "How often the nearest known cases tell the truth of patients they do not know.",
  ],
];

/** One sentence for people; empty when the name says nothing to us. */
export function meaning(name: string): string {
  return MEANINGS.find(([pattern]) => pattern.test(name))?.[1] ?? "";
}

/** Standard deviations by which a map beats random orders; positive is better than chance. */
export function beats(
  auc: number,
  random: { mean: number; sd: number },
  better: "lower" | "higher",
): { by: number; verdict: "better" | "same" | "worse" } {
  const gain = better === "lower" ? random.mean - auc : auc - random.mean;
  const by = random.sd > 0 ? gain / random.sd : gain === 0 ? 0 : Math.sign(gain) * Number.POSITIVE_INFINITY;
  return { by, verdict: by > 2 ? "better" : by < -2 ? "worse" : "same" };
}

/** Whether this map says more than chance about this answer. */
export function judged(test: Faithfulness): { tone: "good" | "warn" | "bad"; text: string } {
  const two = [
    beats(test.deletion.auc, test.random.deletion_auc, "lower").verdict,
    beats(test.insertion.auc, test.random.insertion_auc, "higher").verdict,
  ];
  const better = two.filter((one) => one === "better").length;
  if (better === 2)
    return { tone: "good", text: "Here the map beats chance in both tests: the answer hangs on what it marks." };
  if (two.includes("worse"))
    return {
      tone: "bad",
      text: "Here the map does worse than chance in one test at least: do not take what it marks for the reason of the answer.",
    };
  if (better === 1)
    return { tone: "warn", text: "Here the map beats chance in one test of two: read it with reserve." };
  return {
    tone: "bad",
    text: "Here the map is not better than chance: do not take what it marks for the reason of the answer.",
  };
}
