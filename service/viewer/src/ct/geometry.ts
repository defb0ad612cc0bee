/** Patient space and the screen: DICOM PS3.3 C.7.6.2.1.1 (positions, cosines) and 10.x (letters of directions), without a renderer. */

export type Vector = [number, number, number];

/** A place on an image in CSS pixels of the stage: X = a x + c y + e, Y = b x + d y + f, where pixel k covers k..k+1. */
export interface Affine {
  a: number;
  b: number;
  c: number;
  d: number;
  e: number;
  f: number;
}

/** What of a slice says where it lies. */
export interface Plane {
  /** Centre of the first pixel, mm. */
  position: Vector;
  /** Direction of a row (growing column) and of a column (growing row). */
  row: Vector;
  column: Vector;
  /** Distance of rows, of columns, mm. */
  spacing: [number, number];
}

export function dot(a: Vector, b: Vector): number {
  return a[0] * b[0] + a[1] * b[1] + a[2] * b[2];
}

export function cross(a: Vector, b: Vector): Vector {
  return [a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]];
}

export function normal(plane: Plane): Vector {
  return cross(plane.row, plane.column);
}

/** Distance of a plane from the origin along its normal, mm. */
export function along(plane: Plane): number {
  return dot(normal(plane), plane.position);
}

/** Patient millimetres of a place on the image, pixel k covering k..k+1. */
export function toPatient(plane: Plane, x: number, y: number): Vector {
  const [u, v] = [(x - 0.5) * plane.spacing[1], (y - 0.5) * plane.spacing[0]];
  return [0, 1, 2].map((k) => plane.position[k]! + u * plane.row[k]! + v * plane.column[k]!) as Vector;
}

/** Place on the image of a point in patient millimetres (dropped onto the plane), and its height above the plane, mm. */
export function fromPatient(plane: Plane, point: Vector): { x: number; y: number; height: number } {
  const way = point.map((value, k) => value - plane.position[k]!) as Vector;
  return {
    x: dot(way, plane.row) / plane.spacing[1] + 0.5,
    y: dot(way, plane.column) / plane.spacing[0] + 0.5,
    height: dot(way, normal(plane)),
  };
}

export function apply(t: Affine, x: number, y: number): [number, number] {
  return [t.a * x + t.c * y + t.e, t.b * x + t.d * y + t.f];
}

export function invert(t: Affine, X: number, Y: number): [number, number] {
  const size = t.a * t.d - t.b * t.c;
  const [u, v] = [X - t.e, Y - t.f];
  return [(t.d * u - t.c * v) / size, (t.a * v - t.b * u) / size];
}

/** From where three places of the image lie on the screen: (0, 0), (w, 0), (0, h). */
export function affine(
  origin: readonly number[],
  across: readonly number[],
  down: readonly number[],
  w: number,
  h: number,
): Affine {
  return {
    a: (across[0]! - origin[0]!) / w,
    b: (across[1]! - origin[1]!) / w,
    c: (down[0]! - origin[0]!) / h,
    d: (down[1]! - origin[1]!) / h,
    e: origin[0]!,
    f: origin[1]!,
  };
}

/** Length of one millimetre on the screen, CSS pixels: of an image that is drawn in true proportions. */
export function perMillimetre(t: Affine, plane: Plane): number {
  return Math.sqrt(Math.abs(t.a * t.d - t.b * t.c) / (plane.spacing[0] * plane.spacing[1]));
}

/** CSS pixels of one image pixel. */
export function magnification(t: Affine): number {
  return Math.sqrt(Math.abs(t.a * t.d - t.b * t.c));
}

/** The direction on the screen, in patient space: (1, 0) = to the right, (0, 1) = down. */
export function direction(t: Affine, plane: Plane, X: number, Y: number): Vector {
  const [x0, y0] = invert(t, 0, 0);
  const [x1, y1] = invert(t, X, Y);
  const [u, v] = [(x1 - x0) * plane.spacing[1], (y1 - y0) * plane.spacing[0]];
  const way = [0, 1, 2].map((k) => u * plane.row[k]! + v * plane.column[k]!) as Vector;
  const length = Math.hypot(...way) || 1;
  return way.map((part) => part / length) as Vector;
}

const LETTERS = [
  ["L", "R"],
  ["P", "A"],
  ["H", "F"],
] as const;
/** Parts of a direction below this are not named: 11 degrees off. */
const NAMED = 0.2;

/** Letters of a direction in patient space, the largest part first: "L", "AH". */
export function letters(way: Vector): string {
  return [0, 1, 2]
    .filter((k) => Math.abs(way[k]!) >= NAMED)
    .sort((j, k) => Math.abs(way[k]!) - Math.abs(way[j]!))
    .map((k) => LETTERS[k]![way[k]! > 0 ? 0 : 1])
    .join("");
}

/** Which way a plane is looked at: right and down on the screen as radiologists are used to it. */
export function usual(plane: Plane): { right: Vector; down: Vector } {
  const n = normal(plane).map(Math.abs);
  const axis = n.indexOf(Math.max(...n));
  if (axis === 0) return { right: [0, 1, 0], down: [0, 0, -1] }; // sagittal: from the patient's left, face to the left
  if (axis === 1) return { right: [1, 0, 0], down: [0, 0, -1] }; // coronal: from the front
  return { right: [1, 0, 0], down: [0, 1, 0] }; // axial: from the feet, the patient's right on the left
}

/** How well a view agrees with the usual one: 2 = the same, -2 = upside down. */
export function agreement(t: Affine, plane: Plane): number {
  const { right, down } = usual(plane);
  return dot(direction(t, plane, 1, 0), right) + dot(direction(t, plane, 0, 1), down);
}

/** 1 where the next slice of a stack lies nearer to the feet (or the stack is not axial), -1 where it lies nearer to the head. */
export function downwards(first: Plane, last: Plane): 1 | -1 {
  const n = normal(first);
  const axial = Math.abs(n[2]) >= Math.max(Math.abs(n[0]), Math.abs(n[1]));
  return axial && last.position[2] > first.position[2] ? -1 : 1;
}

/** The side of a plane and how far, for people: "H 57.5 mm", "F 4.5 mm", from the origin of the scanner's coordinates. */
export function side(plane: Plane): string {
  const n = normal(plane);
  const axis = [0, 1, 2].reduce((best, k) => (Math.abs(n[k]!) > Math.abs(n[best]!) ? k : best), 0);
  const value = plane.position[axis]!;
  return `${LETTERS[axis]![value >= 0 ? 0 : 1]} ${Math.abs(value).toFixed(1)} mm`;
}

const LENGTHS = [1, 2, 5, 10, 20, 50, 100, 200, 500];

/** A round length in mm that takes between about 60 and 150 CSS pixels. */
export function roundLength(perMm: number): number {
  return LENGTHS.find((mm) => mm * perMm >= 60) ?? LENGTHS.at(-1)!;
}

/** The largest length of whole CSS pixels that is whole in the screen's pixels as well: pictures are not stretched by parts of a pixel. */
export function wholeLength(length: number, ratio: number): number {
  const most = Math.floor(length + 1e-3);
  for (let one = most; one > most - 20 && one > 0; one--)
    if (Math.abs(one * ratio - Math.round(one * ratio)) < 1e-3) return one;
  return most;
}
