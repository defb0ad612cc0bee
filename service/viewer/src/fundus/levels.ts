/** A picture at several sizes, each half of the one before: drawing it small is fast and does not flicker. */

const SMALLEST = 512;

/** Full size, half, a quarter ... down to about 512 pixels. The canvas is used up. */
export function halved(canvas: OffscreenCanvas): ImageBitmap[] {
  const levels: ImageBitmap[] = [];
  let from: OffscreenCanvas | ImageBitmap = canvas;
  let { width, height } = canvas;
  while (Math.max(width, height) >= 2 * SMALLEST) {
    [width, height] = [Math.max(1, Math.round(width / 2)), Math.max(1, Math.round(height / 2))];
    const small = new OffscreenCanvas(width, height);
    small.getContext("2d")!.drawImage(from, 0, 0, width, height); // bilinear at one half: the mean of 2 x 2
    const bitmap = small.transferToImageBitmap();
    levels.push(bitmap);
    from = bitmap;
  }
  return [canvas.transferToImageBitmap(), ...levels];
}

/** The smallest level that has at least `width` pixels across; the largest there is. */
export function levelFor<T extends { width: number }>(levels: readonly T[], width: number): T {
  return levels.findLast((level) => level.width >= width * 0.99) ?? levels[0]!;
}
