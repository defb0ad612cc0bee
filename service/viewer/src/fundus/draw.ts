/** Draws a pane: three canvases on top of each other, photograph, map and marks, all by the same affine transform. */

import type { CriticalRegion } from "../api/types";
import { drawLayers, type Layers, layersOf } from "../maps/draw";
import type { Overlay } from "../maps/overlay";
import { paint } from "../maps/paint";
import type { ResponseMaps } from "../maps/response";
import type { Region } from "./attention";
import type { Affine } from "./geometry";
import { levelFor } from "./levels";
import type { Photograph, Picture } from "./photograph";
import type { PaneSize } from "./use";

export interface Named {
  name: string;
  label: string;
  color: string;
  probability: number;
}

export interface Drawing {
  size: PaneSize;
  at: Affine;
  photograph: Photograph;
  picture: Picture;
  greyUnder: boolean;
  layers: Layers | null;
  /** Of the map, in pixels of the image. */
  box: [number, number, number, number] | null;
  /** Of the map. */
  columns: number;
  outline: Path2D | null;
  attentive: (Region & Named) | null;
}

/** Layers of a finding's only map. */
export function paintedLayers(maps: ResponseMaps, classes: readonly Named[], how: Overlay): Layers {
  const picture = paint(
    maps,
    0,
    classes.map((one) => one.probability),
    classes.map((one) => one.color),
    how,
  );
  return layersOf(picture, how.kind);
}

/** The outline of a critical region in pixels of its image. */
export function outlineOf(region: CriticalRegion): Path2D | null {
  const rings = region.slices[0]?.polygons ?? [];
  if (!rings.length) return null;
  const path = new Path2D();
  for (const ring of rings) {
    for (const [k, [x, y]] of ring.entries()) {
      if (k === 0) path.moveTo(x, y);
      else path.lineTo(x, y);
    }
    path.closePath();
  }
  return path;
}

export function draw(pane: HTMLElement, what: Drawing): void {
  const { at, photograph, picture } = what;
  const shown = photograph.width * at.scale * what.size.ratio;
  const photo = cleared(pane, "photograph", what);
  onto(photo, levelFor(picture.levels, shown), what);

  const map = cleared(pane, "map", what);
  if (what.layers && what.box) {
    drawLayers(map, what.layers, what.box);
    if (what.greyUnder && picture.grey.length) {
      map.globalCompositeOperation = "destination-over";
      onto(map, levelFor(picture.grey, shown), what);
      map.globalCompositeOperation = "source-over";
    }
  }

  const marks = cleared(pane, "marks", what);
  const pixel = Math.max(1, Number.parseFloat(getComputedStyle(document.documentElement).fontSize) / 14) / at.scale;
  marks.lineJoin = "round";
  if (what.outline && what.box && what.columns) {
    const cell = ((what.box[2] - what.box[0]) / what.columns) * at.scale;
    outlined(marks, what.outline, pixel, Math.min(APART_PX, Math.max(0, APART_PX + 1 - cell / 2)));
  }
  if (what.attentive) boxed(marks, what.attentive, pixel, what);
}

/** A canvas of a pane, emptied, in coordinates of the image. */
function cleared(pane: HTMLElement, name: string, { size, at }: Drawing): CanvasRenderingContext2D {
  const canvas = pane.querySelector<HTMLCanvasElement>(`canvas.${name}`)!;
  if (canvas.width !== size.deviceWidth || canvas.height !== size.deviceHeight)
    [canvas.width, canvas.height] = [size.deviceWidth, size.deviceHeight];
  const context = canvas.getContext("2d")!;
  context.setTransform(1, 0, 0, 1, 0, 0);
  context.clearRect(0, 0, canvas.width, canvas.height);
  context.setTransform(at.scale * size.ratio, 0, 0, at.scale * size.ratio, at.x * size.ratio, at.y * size.ratio);
  return context;
}

function onto(context: CanvasRenderingContext2D, level: ImageBitmap, { photograph }: Drawing): void {
  context.imageSmoothingEnabled = true;
  context.drawImage(level, 0, 0, photograph.width, photograph.height);
}

/** How far the outline keeps away where the map's pixels are too small on the screen to be seen inside it, px. */
const APART_PX = 3;

/** White on dark round a region, `apart` pixels of the screen outside it, so that it does not cover what it shows. */
function outlined(context: CanvasRenderingContext2D, outline: Path2D, pixel: number, apart: number): void {
  for (const [width, color] of [
    [2.2, "#000b"],
    [1.2, "#fff"],
  ] as const) {
    context.lineWidth = 2 * (apart + width) * pixel;
    context.strokeStyle = color;
    context.stroke(outline);
  }
  context.globalCompositeOperation = "destination-out";
  context.fill(outline, "evenodd");
  if (apart > 0) {
    context.lineWidth = 2 * apart * pixel;
    context.stroke(outline);
  }
  context.globalCompositeOperation = "source-over";
}

const FONT_PX = 13;

function boxed(context: CanvasRenderingContext2D, region: Region & Named, pixel: number, what: Drawing): void {
  const [x0, y0, x1, y1] = region.box;
  for (const [width, color] of [
    [5, "#000c"],
    [2, region.color],
  ] as const) {
    context.lineWidth = width * pixel;
    context.strokeStyle = color;
    context.strokeRect(x0, y0, x1 - x0, y1 - y0);
  }
  const text = `Attention: ${region.label}`; // not "Grade 4": it is not the answer
  context.font = `600 ${FONT_PX * pixel}px system-ui, "DejaVu Sans", sans-serif`;
  context.textBaseline = "bottom";
  const wide = context.measureText(text).width + 10 * pixel;
  const tall = (FONT_PX + 7) * pixel;
  const { at, size } = what;
  const seen = { x0: -at.x / at.scale, y0: -at.y / at.scale, x1: (size.width - at.x) / at.scale };
  if (x1 < seen.x0 || x0 > seen.x1 || y1 < seen.y0) return;
  const left = Math.max(seen.x0, Math.min(x0, seen.x1 - wide));
  const above = y0 - 4 * pixel - tall < seen.y0 && y1 > seen.y0 ? y1 + 4 * pixel + tall : y0 - 4 * pixel;
  context.fillStyle = "#000c";
  context.fillRect(left, above - tall, wide, tall);
  context.fillStyle = region.color;
  context.fillText(text, left + 5 * pixel, above - 3 * pixel);
}
