/** What is drawn over a slice: response map, outline of the critical region, box of the window, marks of the findings. */

import type { CriticalRegion } from "../api/types";
import { drawLayers, type Layers } from "../maps/draw";
import { type Affine, apply, magnification } from "./geometry";

export type Tone = "positive" | "negative" | "rejected";

export interface Mark {
  /** Centre on the image, pixel k covering k..k+1. */
  x: number;
  y: number;
  /** Image pixels. */
  radius: number;
  number: number;
  tone: Tone;
  /** False where it lies beside this slice, not on it. */
  on: boolean;
  selected: boolean;
}

export interface Scene {
  map: { layers: Layers; box: readonly [number, number, number, number]; opacity: number } | null;
  contour: CriticalRegion["slices"][number]["polygons"];
  box: readonly [number, number, number, number] | null;
  marks: readonly Mark[];
}

/** Colours of decisions; the shapes say the same. */
export const TONES: Record<Tone, string> = { positive: "#f2c14e", negative: "#7cc4ff", rejected: "#a9b3c0" };
const DARK = "#000c";
const LEAST_RADIUS = 11;
/** Size of the text that the widths of lines are meant for. */
const USUAL_SIZE = 14;

/** Draw a scene. `t` and all lengths in CSS pixels; the context is scaled to them. `size` = of the text: lines follow it. */
export function drawScene(context: CanvasRenderingContext2D, t: Affine, scene: Scene, size: number): void {
  if (scene.map) drawMap(context, t, scene.map);
  if (scene.contour.length) drawContour(context, t, scene.contour, size / USUAL_SIZE);
  if (scene.box) drawBox(context, t, scene.box, size / USUAL_SIZE);
  for (const mark of scene.marks) drawMark(context, t, mark, size);
}

/** Onto the empty canvas. */
function drawMap(context: CanvasRenderingContext2D, t: Affine, map: NonNullable<Scene["map"]>): void {
  context.save();
  context.transform(t.a, t.b, t.c, t.d, t.e, t.f);
  drawLayers(context, map.layers, map.box);
  context.resetTransform();
  context.globalCompositeOperation = "destination-in";
  context.globalAlpha = map.opacity;
  context.fillRect(0, 0, context.canvas.width, context.canvas.height);
  context.restore();
}

/** A light line on a dark one is seen on every ground. */
function stroke(
  context: CanvasRenderingContext2D,
  path: Path2D,
  color: string,
  width: number,
  dash: number[] = [],
): void {
  context.setLineDash(dash);
  context.lineWidth = width + (width < 1 ? 1 : 2);
  context.strokeStyle = DARK;
  context.stroke(path);
  context.lineWidth = width;
  context.strokeStyle = color;
  context.stroke(path);
  context.setLineDash([]);
}

function drawContour(context: CanvasRenderingContext2D, t: Affine, rings: Scene["contour"], unit: number): void {
  const path = new Path2D();
  for (const ring of rings) {
    ring.forEach(([x, y], k) => {
      const [X, Y] = apply(t, x, y);
      if (k === 0) path.moveTo(X, Y);
      else path.lineTo(X, Y);
    });
    path.closePath();
  }
  stroke(context, path, "#ffffff", unit * (magnification(t) < 2 ? 0.75 : 1.5));
}

function drawBox(
  context: CanvasRenderingContext2D,
  t: Affine,
  [x0, y0, x1, y1]: NonNullable<Scene["box"]>,
  unit: number,
): void {
  const path = new Path2D();
  const corners = [
    [x0, y0],
    [x1, y0],
    [x1, y1],
    [x0, y1],
  ].map(([x, y]) => apply(t, x!, y!));
  corners.forEach(([X, Y], k) => {
    if (k === 0) path.moveTo(X, Y);
    else path.lineTo(X, Y);
  });
  path.closePath();
  stroke(context, path, "#ffffffd0", unit, [6 * unit, 4 * unit]);
}

/** Radius of a mark on the screen, CSS pixels. */
export function radiusOf(t: Affine, mark: Pick<Mark, "radius">): number {
  return Math.max(LEAST_RADIUS, mark.radius * magnification(t));
}

function drawMark(context: CanvasRenderingContext2D, t: Affine, mark: Mark, size: number): void {
  const [X, Y] = apply(t, mark.x, mark.y);
  const r = radiusOf(t, mark);
  const color = TONES[mark.tone];
  const unit = size / USUAL_SIZE;
  const ring = new Path2D();
  ring.arc(X, Y, r, 0, 2 * Math.PI);
  if (mark.selected)
    for (const [u, v] of [
      [1, 0],
      [-1, 0],
      [0, 1],
      [0, -1],
    ] as const) {
      ring.moveTo(X + u * r, Y + v * r);
      ring.lineTo(X + u * (r + 9 * unit), Y + v * (r + 9 * unit));
    }
  if (mark.tone === "rejected") {
    ring.moveTo(X - r * Math.SQRT1_2, Y + r * Math.SQRT1_2);
    ring.lineTo(X + r * Math.SQRT1_2, Y - r * Math.SQRT1_2);
  }
  context.globalAlpha = mark.on ? 1 : 0.75;
  stroke(context, ring, color, unit * (mark.selected ? 2 : 1.25), mark.on ? [] : [5 * unit, 5 * unit]);
  drawNumber(context, X + r * Math.SQRT1_2 + 4, Y - r * Math.SQRT1_2 - 4, mark, size);
  context.globalAlpha = 1;
}

function drawNumber(context: CanvasRenderingContext2D, X: number, Y: number, mark: Mark, size: number): void {
  const sign = mark.tone === "positive" ? "◆" : mark.tone === "negative" ? "○" : "×";
  const text = `${mark.number} ${sign}`;
  context.font = `${mark.selected ? "bold " : ""}${size}px system-ui, "DejaVu Sans", sans-serif`;
  context.textBaseline = "bottom";
  const { width } = context.measureText(text);
  context.fillStyle = DARK;
  context.fillRect(X - 2, Y - size - 1, width + 5, size + 3);
  context.fillStyle = TONES[mark.tone];
  context.fillText(text, X, Y + 1);
  if (mark.tone === "rejected") context.fillRect(X, Y - size / 2, width, 1);
}
