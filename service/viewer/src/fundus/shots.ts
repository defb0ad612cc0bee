/** The photographs of a case: which there are, of which eye, and which stand side by side. */

import { analysisPath } from "../api/client";
import { type Attributes, seriesPath, text } from "../api/dicomweb";
import type { Analysis } from "../api/types";
import { answer, outcome } from "../words";

export type Eye = "R" | "L" | "";

export interface Shot {
  key: string;
  eye: Eye;
  /** null: not analysed. */
  analysis: Analysis | null;
  /** Addresses of its picture, the best first. */
  places: string[];
  /** What tells it from the others of its eye. */
  label: string;
  /** As the address of the page names it. */
  name: string;
}

/** What stands in one half of the screen. */
export interface Pane {
  eye: Eye;
  shown: Shot;
  /** Photographs of this eye, `shown` among them. */
  shots: Shot[];
}

export const EYE_NAMES: Record<Eye, string> = {
  R: "Right eye (OD)",
  L: "Left eye (OS)",
  "": "Eye not stated",
};

export function eyeOf(laterality: string): Eye {
  return laterality === "R" || laterality === "L" ? laterality : "";
}

/** Models whose findings lie on a photograph. */
export function ofPhotograph(analysis: Analysis): boolean {
  return (
    analysis.model.name !== "sisc_lung" && (analysis.input.modality !== "CT" || analysis.model.name === "clear_dr")
  );
}

export function shotOf(analysis: Analysis): Shot {
  const { study, series, instances, laterality } = analysis.input;
  const places = [`${analysisPath(analysis.id)}/images/0.jpg`];
  if (study && series && instances[0]) places.push(renderedPath(study, series, instances[0]));
  return {
    key: analysis.id,
    eye: eyeOf(laterality),
    analysis,
    places,
    label: [
      analysis.findings[0] ? answer(analysis.findings[0]) : outcome(analysis),
      new Date(analysis.created).toLocaleTimeString(undefined, { timeStyle: "short" }),
    ].join(" · "),
    name: analysis.id,
  };
}

/** Photographs of a series that has no analysis. */
export function shotsOf(study: string, series: string, metadata: readonly Attributes[]): Shot[] {
  return metadata.map((one, k) => {
    const instance = text(one, "00080018");
    return {
      key: instance,
      eye: eyeOf(text(one, "00200062") || text(one, "00200060")),
      analysis: null,
      places: [renderedPath(study, series, instance)],
      label: `Image ${text(one, "00200013") || k + 1} · not analysed`,
      name: `series:${series}`,
    };
  });
}

function renderedPath(study: string, series: string, instance: string): string {
  return `${seriesPath(study, series)}/instances/${encodeURIComponent(instance.split("#")[0] ?? "")}/rendered`;
}

/**
 * Right and left side by side, the right eye on the left side of the screen as when facing the patient. A photograph of an eye
 * that nobody stated stands alone, unless a photograph was put beside it (`first`: to its left, where the eyes do not decide).
 *
 * @param active the photograph that the result beside the images belongs to
 * @param all photographs of the case, the newest first
 * @param chosen for each eye the key of a photograph that was picked from several
 */
export function panesOf(
  active: Shot,
  all: readonly Shot[],
  chosen: Partial<Record<Eye, string>>,
  beside: { shot: Shot; first: boolean } | null,
): Pane[] {
  const pane = (shown: Shot): Pane => ({
    eye: shown.eye,
    shown,
    shots: all.some((one) => one.key === shown.key) ? all.filter((one) => one.eye === shown.eye) : [shown],
  });
  const mine = pane(active);
  if (beside && beside.shot.key !== active.key) {
    const [one, two] = [active.eye, beside.shot.eye];
    const told = one !== two && (one === "R" || two === "R" || one === "L" || two === "L");
    const swapped = told ? one === "L" || two === "R" : beside.first;
    return swapped ? [pane(beside.shot), mine] : [mine, pane(beside.shot)];
  }
  if (active.eye === "") return [mine];
  const other = all.filter((one) => one.eye === (active.eye === "R" ? "L" : "R"));
  const shown = other.find((one) => one.key === chosen[other[0]!.eye]) ?? other[0];
  if (!shown) return [mine];
  return active.eye === "R" ? [mine, pane(shown)] : [pane(shown), mine];
}
