import { describe, expect, it } from "vitest";
import type { Analysis } from "../src/api/types";
import { type Eye, panesOf, type Shot, shotOf, shotsOf } from "../src/fundus/shots";

function shot(key: string, eye: Eye): Shot {
  return { key, eye, analysis: null, places: [], label: key, name: key };
}

const [r1, r2, l1, l2, u1] = [shot("r1", "R"), shot("r2", "R"), shot("l1", "L"), shot("l2", "L"), shot("u1", "")];
const shown = (...of: Parameters<typeof panesOf>) => panesOf(...of).map((pane) => pane.shown.key);

describe("which photographs stand side by side", () => {
  it("puts the right eye on the left side of the screen", () => {
    expect(shown(r1!, [r1!, l1!], {}, null)).toEqual(["r1", "l1"]);
    expect(shown(l1!, [r1!, l1!], {}, null)).toEqual(["r1", "l1"]);
  });

  it("shows one eye alone where there is no other", () => {
    expect(shown(r1!, [r1!, r2!], {}, null)).toEqual(["r1"]);
    expect(panesOf(r1!, [r1!, r2!], {}, null)[0]!.shots).toEqual([r1, r2]);
  });

  it("takes the newest photograph of the other eye, or the one that was picked", () => {
    expect(shown(r1!, [r1!, l2!, l1!], {}, null)).toEqual(["r1", "l2"]);
    expect(shown(r1!, [r1!, l2!, l1!], { L: "l1" }, null)).toEqual(["r1", "l1"]);
    expect(shown(r1!, [r1!, l2!, l1!], { L: "gone" }, null)).toEqual(["r1", "l2"]);
  });

  it("leaves an eye that nobody stated alone", () => {
    expect(shown(u1!, [r1!, l1!, u1!], {}, null)).toEqual(["u1"]);
  });

  it("puts what was picked for comparison beside it, right eye first", () => {
    const by = (key: string, eye: Eye, first = false) => ({ shot: shot(key, eye), first });
    expect(shown(u1!, [u1!], {}, by("x", ""))).toEqual(["u1", "x"]);
    expect(shown(u1!, [u1!], {}, by("x", "", true))).toEqual(["x", "u1"]);
    expect(shown(l1!, [l1!], {}, by("x", "R"))).toEqual(["x", "l1"]);
    expect(shown(r1!, [r1!], {}, by("x", "L", true))).toEqual(["r1", "x"]);
    expect(shown(u1!, [u1!], {}, by("x", "L", true))).toEqual(["u1", "x"]);
    expect(shown(u1!, [u1!], {}, by("u1", ""))).toEqual(["u1"]);
  });
});

it("a photograph is looked for with its analysis first, then in the archive", () => {
  const analysis = {
    id: "a b",
    created: "2026-01-01T10:00:00Z",
    status: "completed",
    outcome: "graded",
    findings: [{ id: "eye", label: "Moderate NPDR", grade: 2 }],
    input: { study: "1.2", series: "1.2.3", instances: ["1.2.3.4#1"], laterality: "L" },
  } as unknown as Analysis;
  const one = shotOf(analysis);
  expect(one.eye).toBe("L");
  expect(one.label).toContain("Grade 2: Moderate NPDR");
  expect(one.places).toEqual([
    "/api/v1/analyses/a%20b/images/0.jpg",
    "/dicomweb/studies/1.2/series/1.2.3/instances/1.2.3.4/rendered",
  ]);
  expect(shotOf({ ...analysis, input: { ...analysis.input, study: "", laterality: "B" } }).places).toHaveLength(1);
});

it("photographs without an analysis take their eye from Image Laterality, then Laterality", () => {
  const of = (tags: Record<string, string>) =>
    shotsOf("1", "2", [
      Object.fromEntries(Object.entries(tags).map(([tag, value]) => [tag, { vr: "CS", Value: [value] }])),
    ])[0]!;
  expect(of({ "00080018": "9", "00200062": "R", "00200060": "L" })).toMatchObject({ key: "9", eye: "R" });
  expect(of({ "00080018": "9", "00200060": "L" }).eye).toBe("L");
  expect(of({ "00080018": "9" }).eye).toBe("");
});
