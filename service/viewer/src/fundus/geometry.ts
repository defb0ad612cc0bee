/** Where a photograph lies in its pane. Lengths of the pane are CSS pixels; of the image pixels, whose borders lie at whole numbers. */

export interface Size {
  width: number;
  height: number;
}

export interface Point {
  x: number;
  y: number;
}

/** What a pane looks at, whatever its size: so it outlives a change of the window, and another eye can follow. */
export interface Place {
  /** 1: the whole image just fits. */
  zoom: number;
  /** The point in the middle of the pane, in shares of the image. */
  cx: number;
  cy: number;
}

/** pane = scale * image + (x, y) */
export interface Affine extends Point {
  scale: number;
}

export const WHOLE: Place = { zoom: 1, cx: 0.5, cy: 0.5 };
const SMALLEST_ZOOM = 0.5;
/** Screen pixels an image pixel may grow to. */
const LARGEST_SCALE = 16;

export function fitScale(pane: Size, image: Size): number {
  return Math.min(pane.width / image.width, pane.height / image.height);
}

export function affine(place: Place, pane: Size, image: Size): Affine {
  const scale = place.zoom * fitScale(pane, image);
  return {
    scale,
    x: pane.width / 2 - scale * place.cx * image.width,
    y: pane.height / 2 - scale * place.cy * image.height,
  };
}

export function toImage(at: Affine, point: Point): Point {
  return { x: (point.x - at.x) / at.scale, y: (point.y - at.y) / at.scale };
}

/** The same place with the zoom within its limits and its middle in the image. */
export function held(place: Place, pane: Size, image: Size): Place {
  const most = Math.max(1, LARGEST_SCALE / fitScale(pane, image));
  return {
    zoom: clamp(place.zoom, SMALLEST_ZOOM, most),
    cx: clamp(place.cx, 0, 1),
    cy: clamp(place.cy, 0, 1),
  };
}

function clamp(value: number, least: number, most: number): number {
  return Math.min(most, Math.max(least, value));
}

/** Zoom by a factor; what lies at `point` of the pane stays there. */
export function zoomedAt(place: Place, factor: number, point: Point, pane: Size, image: Size): Place {
  const zoom = held({ ...place, zoom: place.zoom * factor }, pane, image).zoom;
  const kept = toImage(affine(place, pane, image), point);
  const scale = zoom * fitScale(pane, image);
  return held(
    {
      zoom,
      cx: (kept.x + (pane.width / 2 - point.x) / scale) / image.width,
      cy: (kept.y + (pane.height / 2 - point.y) / scale) / image.height,
    },
    pane,
    image,
  );
}

/** Move the image by (dx, dy) of the pane. */
export function panned(place: Place, dx: number, dy: number, pane: Size, image: Size): Place {
  const { scale } = affine(place, pane, image);
  return held(
    { ...place, cx: place.cx - dx / scale / image.width, cy: place.cy - dy / scale / image.height },
    pane,
    image,
  );
}

/** Zoom at which one image pixel is one pixel of the screen. */
export function trueZoom(pane: Size, image: Size, pixelRatio: number): number {
  return 1 / pixelRatio / fitScale(pane, image);
}

/** Pixel on pixel where the scale is 1:1, so that nothing is smoothed. */
export function snapped(at: Affine, pixelRatio: number): Affine {
  if (Math.abs(at.scale * pixelRatio - 1) > 1e-6) return at;
  return {
    scale: at.scale,
    x: Math.round(at.x * pixelRatio) / pixelRatio,
    y: Math.round(at.y * pixelRatio) / pixelRatio,
  };
}

/** The same place in the other eye, which is its mirror image: nasal is nasal. */
export function mirrored(place: Place): Place {
  return { ...place, cx: 1 - place.cx };
}
