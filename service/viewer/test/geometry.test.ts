import { describe, expect, it } from "vitest";
import {
  affine,
  fitScale,
  held,
  mirrored,
  panned,
  snapped,
  toImage,
  trueZoom,
  WHOLE,
  zoomedAt,
} from "../src/fundus/geometry";

const pane = { width: 800, height: 600 };
const image = { width: 4000, height: 2000 };

describe("a photograph in its pane", () => {
  it("fits whole and lies in the middle", () => {
    expect(fitScale(pane, image)).toBe(0.2);
    expect(affine(WHOLE, pane, image)).toEqual({ scale: 0.2, x: 0, y: 100 }); // 400 of 600 px high
  });

  it("keeps the point under the pointer where it is", () => {
    const point = { x: 700, y: 150 };
    let place = WHOLE;
    const before = toImage(affine(place, pane, image), point);
    expect(before).toEqual({ x: 3500, y: 250 });
    for (const factor of [1.3, 2, 0.7, 1.9]) {
      place = zoomedAt(place, factor, point, pane, image);
      const after = toImage(affine(place, pane, image), point);
      expect(after.x).toBeCloseTo(before.x, 6);
      expect(after.y).toBeCloseTo(before.y, 6);
    }
    expect(place.zoom).toBeCloseTo(1.3 * 2 * 0.7 * 1.9, 9);
  });

  it("moves with the hand", () => {
    const place = panned({ ...WHOLE, zoom: 4 }, 30, -20, pane, image);
    const [then, now] = [affine({ ...WHOLE, zoom: 4 }, pane, image), affine(place, pane, image)];
    expect(now.x - then.x).toBeCloseTo(30, 9);
    expect(now.y - then.y).toBeCloseTo(-20, 9);
  });

  it("never loses the image and never grows beyond 16 screen pixels a pixel", () => {
    const far = panned({ ...WHOLE, zoom: 4 }, 1e6, -1e6, pane, image);
    expect([far.cx, far.cy]).toEqual([0, 1]);
    expect(held({ zoom: 1e6, cx: 0.5, cy: 0.5 }, pane, image).zoom).toBeCloseTo(16 / 0.2, 9);
    expect(held({ zoom: 0, cx: 0.5, cy: 0.5 }, pane, image).zoom).toBe(0.5);
  });

  it("shows pixel for pixel whatever the screen's density", () => {
    for (const ratio of [1, 2, 1.5]) {
      const { scale } = affine({ ...WHOLE, zoom: trueZoom(pane, image, ratio) }, pane, image);
      expect(scale * ratio).toBeCloseTo(1, 12);
    }
  });

  it("lies on whole screen pixels at 1:1 and only there", () => {
    expect(snapped({ scale: 0.5, x: 3.3, y: -1.4 }, 2)).toEqual({ scale: 0.5, x: 3.5, y: -1.5 });
    expect(snapped({ scale: 0.6, x: 3.3, y: -1.4 }, 2)).toEqual({ scale: 0.6, x: 3.3, y: -1.4 });
  });

  it("looks at the mirror image in the fellow eye", () => {
    expect(mirrored({ zoom: 3, cx: 0.2, cy: 0.7 })).toEqual({ zoom: 3, cx: 0.8, cy: 0.7 });
    expect(mirrored(mirrored({ zoom: 3, cx: 0.25, cy: 0.7 })).cx).toBe(0.25);
  });
});
