import { describe, expect, it } from "vitest";
import { mostAttentive } from "../src/fundus/attention";
import type { ResponseMaps } from "../src/maps/response";

const SIDE = 64;
const image = { width: 640, height: 480 };

/** Two classes on a 64 x 64 map over the middle of an image: map pixel = 10 image pixels, the map reaches 80 above and below. */
function maps(set: (put: (c: number, x: number, y: number, value: number) => void) => void): ResponseMaps {
  const values = new Float32Array(2 * SIDE * SIDE);
  set((c, x, y, value) => {
    values[(c * SIDE + y) * SIDE + x] = value;
  });
  return {
    shape: [1, 2, SIDE, SIDE],
    classes: ["0", "1"],
    box_px: [[0, -80, 640, 560]],
    sources: ["1"],
    peak_slice: 0,
    scale: { per_image: 1, per_model: 1 },
    values,
  };
}

// 1/16 of the map: 5 x 5 pixels are averaged.
describe("the most attentive region", () => {
  it("is where most response lies together, not where one pixel is strongest", () => {
    const found = mostAttentive(
      maps((put) => {
        put(0, 10, 20, 3); // the peak, alone
        for (let y = 40; y < 44; y++) for (let x = 50; x < 54; x++) put(1, x, y, 1);
      }),
      "clear",
      [0.4, 0.6],
      image,
    )!;
    expect(found.c).toBe(1);
    expect(found.share).toBeCloseTo(16 / 19, 6);
    const [x0, y0, x1, y1] = found.box;
    expect(x0).toBeLessThanOrEqual(500);
    expect(x1).toBeGreaterThanOrEqual(540);
    expect(y0).toBeLessThanOrEqual(320); // row 40: -80 + 400
    expect(y1).toBeGreaterThanOrEqual(360);
    // The mean of 5 x 5 is at least 8 of 16 where the window holds two whole rows or columns: one pixel beyond each side.
    expect(found.box).toEqual([490, 310, 550, 370]);
  });

  it("is named after the class that is dominant in it", () => {
    const both = maps((put) => {
      for (let x = 20; x < 24; x++) {
        put(0, x, 30, 1);
        put(1, x, 30, 0.9); // weaker everywhere: never dominant
        put(0, x, 31, 0.1);
        put(1, x, 31, 0.5);
      }
    });
    expect(mostAttentive(both, "clear", [0.5, 0.5], image)!.c).toBe(0);
    expect(mostAttentive(both, "class-1", [0.5, 0.5], image)!.c).toBe(1);
    expect(mostAttentive(both, "two-sided", [0.1, 0.9], image)!.c).toBe(1);
  });

  it("does not count what lies beyond the image", () => {
    const found = mostAttentive(
      maps((put) => {
        put(0, 30, 2, 50); // row 2: -55 px
        put(1, 30, 30, 1);
      }),
      "clear",
      [0.5, 0.5],
      image,
    )!;
    expect([found.c, found.share]).toEqual([1, 1]);
    expect(found.box[1]).toBeGreaterThanOrEqual(0);
  });

  it("is none where nothing is positive", () => {
    const none = maps((put) => put(0, 5, 20, -1));
    expect(mostAttentive(none, "clear", [0.5, 0.5], image)).toBeNull();
    expect(mostAttentive(none, "class-1", [0.5, 0.5], image)).toBeNull();
  });
});
