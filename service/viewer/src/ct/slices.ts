/** Slices of a series from its metadata (DICOM JSON): classic CT, one an instance, or the frames of an enhanced object. */

import { type Attributes, numbers, text } from "../api/dicomweb";
import { along, dot, normal, type Plane, type Vector } from "./geometry";

export interface Slice extends Plane {
  /** SOP Instance UID, or `uid#n` for frame n of several: as `analysis.input.instances`. */
  key: string;
  uid: string;
  /** From 1. */
  frame: number;
  rows: number;
  columns: number;
  /** False where position or orientation are not in the header: it is drawn, and nothing is measured. */
  placed: boolean;
  /** False where the pixel spacing is unknown: 1 mm is assumed. */
  measured: boolean;
  thickness: number | null;
  frameOfReference: string;
  number: number;
  modality: string;
  description: string;
  /** Body Part Examined, upper case; empty where it is not said. */
  part: string;
  localizer: boolean;
  stored: Stored;
  /** Window of the header; null where it names none. */
  window: { center: number; width: number } | null;
}

/** How pixel values are stored (PS3.3 C.7.6.3), and what makes Hounsfield units of them (C.11.1). */
export interface Stored {
  allocated: number;
  bits: number;
  high: number;
  signed: boolean;
  samples: number;
  planar: boolean;
  photometric: string;
  slope: number;
  intercept: number;
  /** Stored values from..to that are no image (C.7.5.1.1.2); null without padding. */
  padding: [number, number] | null;
}

const SHARED = "52009229";
const PER_FRAME = "52009230";

function items(attributes: Attributes, tag: string): Attributes[] {
  return (attributes[tag]?.Value ?? []) as Attributes[];
}

/** All slices of the instances, in no order. */
export function slicesOf(instances: readonly Attributes[]): Slice[] {
  return instances.filter((one) => numbers(one, "00280010")[0]).flatMap(framesOf);
}

function framesOf(instance: Attributes): Slice[] {
  const count = numbers(instance, "00280008")[0] ?? 1;
  const own = items(instance, PER_FRAME);
  if (count <= 1 && own.length === 0) return [slice(instance, [instance], 1, false)];
  const shared = items(instance, SHARED)[0];
  // A macro of a frame goes before the one that all frames share.
  return Array.from({ length: count }, (_, k) =>
    slice(
      instance,
      [own[k], shared, instance].filter((one) => one !== undefined),
      k + 1,
      true,
    ),
  );
}

/** Numbers of an attribute: at the top of a place, or inside one of its functional group macros. */
function look(places: readonly Attributes[], macro: string, tag: string, count: number): number[] | null {
  for (const place of places) {
    const group = items(place, macro)[0];
    for (const one of group ? [group, place] : [place]) {
      const values = numbers(one, tag);
      if (values.length >= count && values.slice(0, count).every(Number.isFinite)) return values;
    }
  }
  return null;
}

function slice(instance: Attributes, places: readonly Attributes[], frame: number, several: boolean): Slice {
  const number = (tag: string, otherwise: number) => numbers(instance, tag)[0] ?? otherwise;
  const position = look(places, "00209113", "00200032", 3);
  const cosines = look(places, "00209116", "00200037", 6);
  const spacing = look(places, "00289110", "00280030", 2);
  const center = look(places, "00289132", "00281050", 1);
  const width = look(places, "00289132", "00281051", 1);
  const measured = spacing !== null && spacing[0]! > 0 && spacing[1]! > 0;
  const uid = text(instance, "00080018");
  const bits = number("00280101", 16);
  return {
    key: several ? `${uid}#${frame}` : uid,
    uid,
    frame,
    rows: number("00280010", 0),
    columns: number("00280011", 0),
    placed: position !== null && cosines !== null,
    measured,
    position: (position?.slice(0, 3) as Vector | undefined) ?? [0, 0, 0],
    row: unit(cosines?.slice(0, 3) ?? [1, 0, 0]),
    column: unit(cosines?.slice(3, 6) ?? [0, 1, 0]),
    spacing: measured ? [spacing[0]!, spacing[1]!] : [1, 1],
    thickness: look(places, "00289110", "00180050", 1)?.[0] ?? null,
    frameOfReference: text(instance, "00200052") || `series:${text(instance, "0020000E")}`,
    number: number("00200013", 0),
    modality: text(instance, "00080060"),
    description: text(instance, "0008103E"),
    part: text(instance, "00180015").toUpperCase(),
    localizer: (instance["00080008"]?.Value ?? []).includes("LOCALIZER"),
    window: center && width && width[0]! > 1 ? { center: center[0]!, width: width[0]! } : null,
    stored: {
      allocated: number("00280100", 16),
      bits,
      high: number("00280102", bits - 1),
      signed: number("00280103", 0) === 1,
      samples: number("00280002", 1),
      planar: number("00280006", 0) === 1,
      photometric: text(instance, "00280004"),
      slope: look(places, "00289145", "00281053", 1)?.[0] || 1,
      intercept: look(places, "00289145", "00281052", 1)?.[0] ?? 0,
      padding: padding(instance),
    },
  };
}

function unit(v: number[]): Vector {
  const length = Math.hypot(...v) || 1;
  return v.map((part) => part / length) as Vector;
}

function padding(instance: Attributes): [number, number] | null {
  const [value, limit = value] = ["00280120", "00280121"].map((tag) => numbers(instance, tag)[0]);
  if (value === undefined || limit === undefined || !Number.isFinite(value)) return null;
  return [Math.min(value, limit), Math.max(value, limit)];
}

/** The order of a stack that no analysis has put in order: ascending along the normal, localizers left out. */
export function ordered(slices: readonly Slice[]): Slice[] {
  const images = slices.some((one) => !one.localizer) ? slices.filter((one) => !one.localizer) : [...slices];
  const first = images.find((one) => one.placed);
  if (!first || !images.every((one) => one.placed))
    return [...images].sort((a, b) => a.number - b.number || a.frame - b.frame);
  const n = normal(first);
  // Planes at an angle to the others do not belong between them.
  const level = images.filter((one) => Math.abs(dot(n, normal(one))) > 0.99);
  const odd = images.filter((one) => !level.includes(one)).sort((a, b) => a.number - b.number);
  const at = (one: Slice) => dot(n, one.position);
  return [...level.sort((a, b) => at(a) - at(b) || a.number - b.number), ...odd];
}

/** Median distance of neighbours along the normal, mm; null for a single slice or without positions. */
export function slicePitch(slices: readonly Slice[]): number | null {
  const steps = slices
    .slice(1)
    .map((one, k) => Math.abs(along(one) - along(slices[k]!)))
    .sort((a, b) => a - b);
  const middle = steps[Math.floor(steps.length / 2)];
  return middle && slices.every((one) => one.placed) ? middle : null;
}
