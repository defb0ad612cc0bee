/** Draws a painted map onto a canvas at any size, as `service/maps/render.py` enlarges it: strengths smoothly, classes not. */

/** A painted map (see `paint`), ready to be drawn. */
export interface Layers {
  color: HTMLCanvasElement;
  /** How strongly, as opacity; null where colours may be mixed. */
  strength: HTMLCanvasElement | null;
}

/** In a CLEAR map a mixture of two classes' colours would look like a third class: colours are kept apart from strengths. */
export function layersOf(picture: ImageData, kind: string): Layers {
  if (kind !== "clear") return { color: canvasOf(picture), strength: null };
  const color = new ImageData(picture.width, picture.height);
  const strength = new ImageData(picture.width, picture.height);
  for (let k = 0; k < picture.data.length; k += 4) {
    strength.data[k + 3] = picture.data[k + 3]!;
    if (picture.data[k + 3] === 0) continue;
    for (let c = 0; c < 3; c++) color.data[k + c] = picture.data[k + c]!;
    color.data[k + 3] = 255;
  }
  return { color: canvasOf(color), strength: canvasOf(strength) };
}

/** Draw onto an empty canvas, in its present coordinates. */
export function drawLayers(
  context: CanvasRenderingContext2D,
  layers: Layers,
  [x0, y0, x1, y1]: readonly [number, number, number, number],
): void {
  const place = [x0, y0, x1 - x0, y1 - y0] as const;
  context.imageSmoothingEnabled = layers.strength === null;
  context.drawImage(layers.color, ...place);
  context.imageSmoothingEnabled = true;
  if (!layers.strength) return;
  context.globalCompositeOperation = "destination-in";
  context.drawImage(layers.strength, ...place);
  context.globalCompositeOperation = "source-over";
}

function canvasOf(picture: ImageData): HTMLCanvasElement {
  const canvas = document.createElement("canvas");
  canvas.width = picture.width;
  canvas.height = picture.height;
  canvas.getContext("2d")!.putImageData(picture, 0, 0);
  return canvas;
}
