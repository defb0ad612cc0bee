/** Findings as they are marked on a slice and on the rail. */

import type { Analysis, Finding } from "../api/types";
import { verdictOf } from "../panel/verdicts";
import { fromPatient } from "./geometry";
import type { Mark, Tone } from "./scene";
import type { Slice } from "./slices";

/** Of a finding without a measured diameter. */
const USUAL_RADIUS_MM = 7;
/** Room between a nodule's edge and its ring. */
const MARGIN_MM = 2;
/** A finding so far from the slice is still hinted at. */
const NEAR_MM = 5;

export function toneOf(analysis: Analysis, finding: Finding): Tone {
  if (verdictOf(analysis, finding.id)?.verdict === "rejected") return "rejected";
  return finding.operating_point.decision;
}

/** Marks of all findings on or near a slice. `pitch` = distance of slices, mm. */
export function marksOn(
  analysis: Analysis,
  slice: Slice,
  pitch: number | null,
  selected: string | undefined,
): (Mark & { finding: string })[] {
  const depth = (pitch ?? slice.thickness ?? 1) / 2;
  return analysis.findings.flatMap((one, k) => {
    const place = placeOf(one, slice);
    if (!place) return [];
    const half = (one.location.diameter_mm ?? 0) / 2;
    const height = Math.abs(place.height);
    const on = height <= Math.max(depth, half) + 1e-3;
    if (!on && height > Math.max(depth, half) + NEAR_MM) return [];
    const radius = (half ? half + MARGIN_MM : USUAL_RADIUS_MM) / Math.sqrt(slice.spacing[0] * slice.spacing[1]);
    const tone = toneOf(analysis, one);
    return [
      { finding: one.id, x: place.x, y: place.y, radius, number: k + 1, tone, on, selected: one.id === selected },
    ];
  });
}

/** Centre of a finding on a slice, and how far above it, mm. Of a finding without millimetres only on its own slice. */
export function placeOf(finding: Finding, slice: Slice): { x: number; y: number; height: number } | null {
  const { center_mm: center, sop_instance_uid: key, box_px: box } = finding.location;
  if (center && slice.placed) return fromPatient(slice, center);
  if (key !== slice.key) return null;
  return { x: (box[0] + box[2]) / 2, y: (box[1] + box[3]) / 2, height: 0 };
}

/** "slices 60 to 64", "slice 7"; numbers from 1. */
export function range(places: readonly number[]): string {
  if (!places.length) return "";
  const [low, high] = [Math.min(...places) + 1, Math.max(...places) + 1];
  return low === high ? `slice ${low}` : `slices ${low} to ${high}`;
}
