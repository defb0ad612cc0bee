/** Computes the views of one photograph off the main thread. Hears the photograph once, then a look at a time. */

import { halved } from "./levels";
import { changed, grey, type Look } from "./looks";

export interface Asked {
  id: number;
  look: Look;
}

export interface Answered {
  id: number;
  /** The picture at full size, half, a quarter ... */
  levels: ImageBitmap[];
  /** The same without colours. */
  grey: ImageBitmap[];
}

let photograph: ImageBitmap | null = null;

addEventListener("message", (event: MessageEvent<ImageBitmap | Asked>) => {
  if (event.data instanceof ImageBitmap) {
    photograph = event.data;
    return;
  }
  if (!photograph) return;
  const { id, look } = event.data;
  const { width, height } = photograph;
  const canvas = new OffscreenCanvas(width, height);
  const context = canvas.getContext("2d", { willReadFrequently: true })!;
  context.drawImage(photograph, 0, 0);
  const image = context.getImageData(0, 0, width, height);
  changed(image.data, width, height, look);
  context.putImageData(image, 0, 0);
  const levels = halved(canvas);
  grey(image.data);
  context.putImageData(image, 0, 0);
  const answer: Answered = { id, levels, grey: halved(canvas) };
  postMessage(answer, { transfer: [...answer.levels, ...answer.grey] });
});
