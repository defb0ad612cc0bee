import { describe, expect, test } from "vitest";
import type { Analysis, Finding } from "../src/api/types";
import { marksOn, placeOf, range, toneOf } from "../src/ct/marks";
import type { Slice } from "../src/ct/slices";

const slice = (z: number, key = "here") =>
  ({
    key,
    placed: true,
    position: [0, 0, z],
    row: [1, 0, 0],
    column: [0, 1, 0],
    spacing: [0.5, 0.5],
    thickness: 2,
  }) as unknown as Slice;
const finding = (id: string, z: number, diameter: number | null, decision = "positive") =>
  ({
    id,
    operating_point: { decision },
    location: { sop_instance_uid: "its own", center_mm: [10, 20, z], diameter_mm: diameter, box_px: [0, 0, 96, 96] },
  }) as unknown as Finding;
const analysis = (findings: Finding[], verdicts: [string, string][] = []) =>
  ({
    findings,
    assessments: verdicts.map(([one, verdict], k) => ({ id: k + 1, finding: one, verdict })),
  }) as unknown as Analysis;

describe("marks", () => {
  test("on the slices of its diameter whole, beside them dashed, further away not at all", () => {
    const all = analysis([finding("a", 50, 8)]);
    const at = (z: number) => marksOn(all, slice(z), 1, "a").map((one) => one.on);
    expect([at(50), at(54), at(54.5), at(59), at(60)]).toEqual([[true], [true], [false], [false], []]);
  });

  test("without a diameter only the slice that holds the centre is its own", () => {
    const all = analysis([finding("a", 50.2, null)]);
    expect([50, 51].map((z) => marksOn(all, slice(z), 1, undefined)[0]!.on)).toEqual([true, false]);
  });

  test("place in pixels: pixel k covers k..k+1", () => {
    const [mark] = marksOn(analysis([finding("a", 50, 6), finding("b", 50, 6)]), slice(50), 1, "b");
    expect(mark).toMatchObject({ x: 20.5, y: 40.5, radius: (3 + 2) / 0.5, number: 1, selected: false });
  });

  test("without millimetres: the middle of its box, on its own slice only", () => {
    const one = finding("a", 0, null);
    one.location.center_mm = null;
    expect(placeOf(one, slice(0, "its own"))).toEqual({ x: 48, y: 48, height: 0 });
    expect(placeOf(one, slice(0))).toBeNull();
  });

  test("the newest verdict counts", () => {
    const one = finding("a", 0, 5, "negative");
    expect(toneOf(analysis([one]), one)).toBe("negative");
    expect(toneOf(analysis([one], [["a", "rejected"]]), one)).toBe("rejected");
    expect(
      toneOf(
        analysis(
          [one],
          [
            ["a", "rejected"],
            ["a", "accepted"],
          ],
        ),
        one,
      ),
    ).toBe("negative");
  });
});

test("slices in words", () => {
  expect(range([61, 63, 62])).toBe("slices 62 to 64");
  expect(range([6])).toBe("slice 7");
  expect(range([])).toBe("");
});
