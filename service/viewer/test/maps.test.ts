import { beforeAll, describe, expect, it } from "vitest";
import type { Finding } from "../src/api/types";
import { entries, notes } from "../src/maps/legend";
import { classNames, kindsOf } from "../src/maps/overlay";
import { negativeOf, paint, palette, ranked, top } from "../src/maps/paint";
import type { ResponseMaps } from "../src/maps/response";

beforeAll(() => {
  // Node has no ImageData.
  globalThis.ImageData ??= class {
    readonly data: Uint8ClampedArray;
    constructor(
      readonly width: number,
      readonly height: number,
    ) {
      this.data = new Uint8ClampedArray(4 * width * height);
    }
  } as unknown as typeof ImageData;
});

const COLORS = ["#0000ff", "#ff0000"];

/** One row of four pixels and two classes, to be checked with a pencil. */
const maps: ResponseMaps = {
  shape: [1, 2, 1, 4],
  classes: ["benign", "malignant"],
  box_px: [[0, 0, 4, 1]],
  sources: ["1"],
  peak_slice: 0,
  scale: { per_image: 4, per_model: 16 },
  values: new Float32Array([1, -4, 0, -1, /**/ 4, 0.25, 0, -2]),
};

function pixel(kind: string, k: number, more = {}): number[] {
  const how = { kind, scale: "per_image" as const, threshold: 0, ...more };
  return [...paint(maps, 0, [0.3, 0.7], COLORS, how).data.slice(4 * k, 4 * k + 4)];
}

describe("painting", () => {
  it("CLEAR takes the colour of the strongest class, brightness is the root of its share", () => {
    expect(pixel("clear", 0)).toEqual([255, 0, 0, 255]); // 4 of 4
    expect(pixel("clear", 1)).toEqual([255, 0, 0, 64]); // 255 * sqrt(0.25 / 4) = 63.75
    expect(pixel("clear", 2)[3]).toBe(0);
    expect(pixel("clear", 3)[3]).toBe(0); // all negative: no class
  });

  it("the comparable scale is the model's", () => {
    expect(pixel("clear", 0, { scale: "per_model" })[3]).toBe(128); // sqrt(4 / 16) = 1/2
    expect(top(maps, "per_model")).toBe(16);
  });

  it("below the threshold, a share of the scale, nothing is drawn", () => {
    expect(pixel("clear", 1, { threshold: 0.0626 })[3]).toBe(0); // 0.25 / 4 = 0.0625
    expect(pixel("clear", 1, { threshold: 0.0624 })[3]).toBe(64);
  });

  it("one class: its colour speaks for it, the pale one further away against it", () => {
    expect(negativeOf([0, 0, 255])).toEqual([255, 226, 120]); // blue: pale yellow
    expect(pixel("class-benign", 0)).toEqual([0, 0, 255, 128]); // sqrt(1 / 4)
    expect(pixel("class-benign", 1)).toEqual([255, 226, 120, 255]);
    expect(pixel("class-benign", 2)[3]).toBe(0);
  });

  it("two-sided: orange for the most probable, green for the strongest other, both add up", () => {
    // hot = sqrt(4 / 4) = 1, other = sqrt(1 / 4) = 0.5: (255, 96 + 79.5, 70)
    expect(pixel("two-sided", 0)).toEqual([255, 176, 70, 255]);
    expect(pixel("two-sided", 1)).toEqual([255, 96, 0, 64]);
  });

  it("of more than ten classes the ten most probable keep their colours", () => {
    const p = [...Array(12).keys()].map((k) => (k === 3 ? 0.5 : 0.01 * k));
    expect(ranked(p).slice(0, 2)).toEqual([3, 11]);
    const colors = palette(p, Array(12).fill("#010203"));
    expect(colors.map((color) => color[0] === 150)).toEqual([...Array(12).keys()].map((k) => k < 2));
  });
});

const finding = {
  probabilities: { benign: 0.3, malignant: 0.7 },
  evidence: { rule: "guided", start: "contrast", class_correlation: 0.4 },
} as unknown as Finding;
const classes = [
  { name: "benign", label: "Benign", color: "#0000ff" },
  { name: "malignant", label: "Malignant", color: "#ff0000" },
] as never[];

describe("the legend", () => {
  it("names the model's classes and nothing else", () => {
    expect(entries("clear", maps.classes, finding, classes).entries.map((one) => one.text)).toEqual([
      "Benign 0.30",
      "Malignant 0.70",
    ]);
    expect(entries("two-sided", maps.classes, finding, classes).entries.map((one) => one.text)).toEqual([
      "Malignant 0.70",
      "all others 0.30 together",
    ]);
    const one = entries("class-benign", maps.classes, finding, classes);
    expect(one.title).toContain("Benign (probability 0.30)");
    expect(one.entries.map((entry) => entry.text)).toEqual(["speaks against Benign", "speaks for Benign"]);
    expect(one.entries[0]!.ramp[1]).toBe("rgb(255 226 120)");
  });

  const said = (
    kind: string,
    scale: "per_image" | "per_model",
    of: ResponseMaps | null = maps,
    slice: number | null = 0,
  ) => notes(of, slice, { kind, scale, threshold: 0 }, finding).join(" ");

  it("says what full strength is, and on which scale", () => {
    expect(said("clear", "per_image")).toContain("Full strength 4 (this image");
    expect(said("clear", "per_model")).toMatch(/Full strength 16 \(comparable.*strongest here is 4, 25 % of it/);
    expect(said("clear", "per_image")).toContain("Rule guided, start contrast");
  });

  it("says when nothing speaks for a class", () => {
    const none = { ...maps, values: new Float32Array([-1, -4, 0, -1, 4, 0.25, 0, -2]) };
    expect(said("class-benign", "per_image", none)).toContain("No positive response of this class.");
    expect(said("clear", "per_image", none)).not.toContain("No positive");
    expect(said("clear", "per_image", maps, null)).toContain("has no map");
  });

  it("prints the correlation of the classes' maps where the start makes them alike", () => {
    const plain = { ...finding, evidence: { ...finding.evidence, start: "class" } } as Finding;
    expect(notes(maps, 0, { kind: "clear", scale: "per_image", threshold: 0 }, plain).join(" ")).toContain("maps 0.40");
    expect(said("clear", "per_image")).not.toContain("Correlation");
  });
});

it("kinds come as CLEAR, every class, two-sided", () => {
  const all = { "two-sided": "", "class-0": "", clear: "", "class-1": "" };
  expect(kindsOf(all)).toEqual(["clear", "class-0", "class-1", "two-sided"]);
  expect(classNames(all)).toEqual(["0", "1"]);
});
