import { describe, expect, test } from "vitest";
import * as g from "../src/ct/geometry";

const axial: g.Plane = { position: [-190, -360, 57.5], row: [1, 0, 0], column: [0, 1, 0], spacing: [0.75, 0.5] };

describe("patient space", () => {
  test("pixel k covers k..k+1, its centre lies at k + 0.5: PS3.3 equation C.7.6.2.1-1", () => {
    // Column 100, row 40: -190 + 100 * 0.5 = -140; -360 + 40 * 0.75 = -330.
    expect(g.toPatient(axial, 100.5, 40.5)).toEqual([-140, -330, 57.5]);
    expect(g.fromPatient(axial, [-140, -330, 60])).toEqual({ x: 100.5, y: 40.5, height: 2.5 });
  });

  test("the way there and back on a tilted plane", () => {
    const c = Math.cos(0.3);
    const s = Math.sin(0.3);
    const tilted: g.Plane = { ...axial, row: [c, 0, s], column: [0, 1, 0] };
    const { x, y, height } = g.fromPatient(tilted, g.toPatient(tilted, 12.25, 77));
    expect([x, y, height]).toEqual([expect.closeTo(12.25, 9), expect.closeTo(77, 9), expect.closeTo(0, 9)]);
  });
});

describe("the screen", () => {
  const t: g.Affine = { a: 0, b: -2, c: 2, d: 0, e: 30, f: 500 }; // turned by a quarter, twice as large

  test("places there and back", () => {
    expect(g.apply(t, 10, 20)).toEqual([70, 480]);
    expect(g.invert(t, 70, 480)).toEqual([10, 20]);
  });

  test("from three places", () => {
    expect(g.affine([30, 500], [30, 300], [230, 500], 100, 100)).toEqual(t);
  });

  test("sides of an axial image as it comes, mirrored and turned", () => {
    const sides = (view: g.Affine) =>
      [
        [-1, 0],
        [1, 0],
        [0, -1],
        [0, 1],
      ].map(([X, Y]) => g.letters(g.direction(view, axial, X!, Y!)));
    expect(sides({ a: 1, b: 0, c: 0, d: 1, e: 0, f: 0 })).toEqual(["R", "L", "A", "P"]);
    expect(sides({ a: -1, b: 0, c: 0, d: 1, e: 512, f: 0 })).toEqual(["L", "R", "A", "P"]);
    expect(sides({ a: 0, b: 1, c: -1, d: 0, e: 512, f: 0 })).toEqual(["P", "A", "R", "L"]);
  });

  test("letters of oblique directions name the larger part first", () => {
    expect(g.letters([0.8, 0, 0.6])).toBe("LH");
    expect(g.letters([-0.1, -0.995, 0])).toBe("A");
  });

  test("the usual view of the three planes", () => {
    const view: g.Affine = { a: 1, b: 0, c: 0, d: 1, e: 0, f: 0 };
    expect(g.agreement(view, axial)).toBeCloseTo(2);
    expect(g.agreement(view, { ...axial, row: [-1, 0, 0], column: [0, -1, 0] })).toBeCloseTo(-2);
    expect(g.agreement(view, { ...axial, row: [1, 0, 0], column: [0, 0, -1] })).toBeCloseTo(2); // coronal
    expect(g.agreement(view, { ...axial, row: [0, 1, 0], column: [0, 0, -1] })).toBeCloseTo(2); // sagittal
    expect(g.agreement({ ...view, a: -1 }, axial)).toBeCloseTo(0);
  });

  test("scale", () => {
    expect(g.perMillimetre({ a: 1.5, b: 0, c: 0, d: 2.25, e: 0, f: 0 }, axial)).toBeCloseTo(3); // 1.5 / 0.5 = 2.25 / 0.75
    expect(g.roundLength(1.4)).toBe(50);
    expect(g.roundLength(70)).toBe(1);
    expect(g.roundLength(0.01)).toBe(500);
  });

  test("lengths that are whole in both kinds of pixels", () => {
    expect(g.wholeLength(767.4, 1)).toBe(767);
    expect(g.wholeLength(767.4, 1.25)).toBe(764); // 955 pixels of the screen
    expect(g.wholeLength(767.4, 1.5)).toBe(766);
  });
});

test("down the screen is towards the feet", () => {
  const at = (z: number): g.Plane => ({ ...axial, position: [-190, -360, z] });
  expect(g.downwards(at(-5), at(90))).toBe(-1);
  expect(g.downwards(at(90), at(-5))).toBe(1);
  const coronal: g.Plane = { ...axial, column: [0, 0, -1] };
  expect(g.downwards(coronal, { ...coronal, position: [-190, -300, 90] })).toBe(1);
});

test("position in words", () => {
  expect(g.side(axial)).toBe("H 57.5 mm");
  expect(g.side({ ...axial, position: [0, 0, -4.45] })).toBe("F 4.5 mm");
});
