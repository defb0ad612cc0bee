import { describe, expect, it } from "vitest";
import { levelFor } from "../src/fundus/levels";
import { changed, grey, inverted, localContrast, redFree } from "../src/fundus/looks";

function pixels(...colors: [number, number, number][]): Uint8ClampedArray {
  return new Uint8ClampedArray(colors.flatMap((color) => [...color, 255]));
}

/** A retina-like square: a soft slope of luminance with fine stripes, dark beyond a circle. */
function disc(side: number, stripe: number): Uint8ClampedArray {
  const out = new Uint8ClampedArray(4 * side * side);
  for (let y = 0; y < side; y++)
    for (let x = 0; x < side; x++) {
      const inside = Math.hypot(x - side / 2, y - side / 2) < 0.45 * side;
      const value = inside ? 90 + (20 * x) / side + (Math.floor(x / 4) % 2 ? stripe : 0) : 2;
      out.set([value, 0.6 * value, 0.3 * value, 255], 4 * (y * side + x));
    }
  return out;
}

function luminances(of: Uint8ClampedArray, side: number, row: number): number[] {
  return Array.from({ length: side }, (_, x) => {
    const k = 4 * (row * side + x);
    return 0.299 * of[k]! + 0.587 * of[k + 1]! + 0.114 * of[k + 2]!;
  });
}

describe("views", () => {
  it("red-free is the green channel", () => {
    const all = pixels([200, 80, 10], [0, 255, 0]);
    redFree(all);
    expect([...all]).toEqual([80, 80, 80, 255, 255, 255, 255, 255]);
  });

  it("grey is the luminance of BT.601, rounded", () => {
    const all = pixels([255, 0, 0], [0, 255, 0], [0, 0, 255], [200, 80, 10]);
    grey(all);
    // 0.299, 0.587, 0.114 of 255; 59.8 + 46.96 + 1.14 = 107.9
    expect([all[0], all[4], all[8], all[12]]).toEqual([76, 150, 29, 108]);
    expect(all[3]).toBe(255);
  });

  it("inverting twice changes nothing", () => {
    const all = pixels([1, 2, 3], [250, 128, 0]);
    inverted(all);
    expect([...all.slice(0, 4)]).toEqual([254, 253, 252, 255]);
    inverted(all);
    expect(all).toEqual(pixels([1, 2, 3], [250, 128, 0]));
  });

  it("local contrast strengthens fine structure, keeps colours and leaves the dark surround alone", () => {
    const side = 160;
    const [before, after] = [disc(side, 6), disc(side, 6)];
    localContrast(after, side, side);
    const row = luminances(after, side, side / 2);
    const old = luminances(before, side, side / 2);
    const step = (of: number[]) => {
      const middle = of.slice(50, 110);
      return middle.slice(4).reduce((sum, value, k) => sum + Math.abs(value - middle[k]!), 0) / (middle.length - 4);
    };
    expect(step(row)).toBeGreaterThan(2 * step(old));
    for (const k of [0, 4 * (side - 1), 4 * side * side - 4])
      expect([...after.slice(k, k + 4)]).toEqual([...before.slice(k, k + 4)]);
    const middle = 4 * ((side / 2) * side + side / 2);
    expect(after[middle + 1]! / after[middle]!).toBeCloseTo(0.6, 1);
    expect(after[middle + 2]! / after[middle]!).toBeCloseTo(0.3, 1);
  });

  it("an even surface stays even", () => {
    const side = 64;
    const all = new Uint8ClampedArray(4 * side * side).fill(120);
    localContrast(all, side, side);
    expect(new Set(all.filter((_, k) => k % 4 < 3)).size).toBe(1);
  });

  it("a view and its inverse are made in this order", () => {
    const all = pixels([200, 80, 10]);
    changed(all, 1, 1, { view: "red_free", invert: true });
    expect([...all]).toEqual([175, 175, 175, 255]);
  });
});

it("the smallest level that is wide enough is drawn", () => {
  const levels = [{ width: 4288 }, { width: 2144 }, { width: 1072 }, { width: 536 }];
  expect(levelFor(levels, 5000).width).toBe(4288);
  expect(levelFor(levels, 2144).width).toBe(2144);
  expect(levelFor(levels, 1100).width).toBe(2144);
  expect(levelFor(levels, 20).width).toBe(536);
});
