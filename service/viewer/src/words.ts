/** Words and numbers for people. */

import type { Analysis, AnalysisRow, Finding, Outcome } from "./api/types";

const OUTCOMES: Record<Outcome, string> = {
  positive: "Positive",
  negative: "Negative",
  graded: "Graded",
  ungradable: "Cannot be graded",
  out_of_scope: "Out of scope",
  no_region: "No nodule marked",
};

/** The outcome of an analysis or of its row in the worklist, in a few words. */
export function outcome(what: Pick<Analysis | AnalysisRow, "status" | "outcome">): string {
  if (what.status === "failed") return "Failed";
  if (what.status !== "completed") return sentence(what.status);
  return what.outcome ? OUTCOMES[what.outcome] : "Completed";
}

/** "Grade 2: Moderate NPDR", or the label alone. */
export function answer(finding: Pick<Finding, "label" | "grade">): string {
  return finding.grade === undefined ? finding.label : `Grade ${finding.grade}: ${finding.label}`;
}

export function sentence(text: string): string {
  return text.charAt(0).toUpperCase() + text.slice(1).replaceAll("_", " ");
}

/** The same text with a capital first letter. */
export function capital(text: string): string {
  return text.charAt(0).toUpperCase() + text.slice(1);
}

/** The same text for the middle of a sentence; abbreviations stay as they are. */
export function lower(text: string): string {
  return /^[A-Z][a-z]/.test(text) ? text.charAt(0).toLowerCase() + text.slice(1) : text;
}

export function moment(time: string): string {
  const date = new Date(time);
  return Number.isNaN(date.valueOf())
    ? ""
    : date.toLocaleString(undefined, { dateStyle: "medium", timeStyle: "short" });
}

/** A DICOM date, YYYYMMDD, as an ISO date: the same in every country. */
export function dicomDate(text: string): string {
  const found = /^(\d{4})(\d{2})(\d{2})/.exec(text);
  return found ? `${found[1]}-${found[2]}-${found[3]}` : text;
}

/** A DICOM person name, `Family^Given^Middle^Prefix^Suffix`: its first group (alphabetic, ideographic, phonetic) that is not empty. */
export function personName(text: string): string {
  return text.split("=").map(nameGroup).find(Boolean) ?? "";
}

function nameGroup(text: string): string {
  const [family = "", given = "", middle = "", prefix = "", suffix = ""] = text.split("^").map((part) => part.trim());
  const rest = [prefix, given, middle, suffix].filter(Boolean).join(" ");
  return family && rest ? `${family}, ${rest}` : family || rest;
}

export const SEXES: Record<string, string> = { M: "male", F: "female", O: "other" };
export const EYES: Record<string, string> = { R: "Right eye", L: "Left eye" };

/** How it is known which eye a photograph shows. */
export const SIDE_FROM: Record<string, string> = {
  request: "as stated when it was sent",
  header: "from the DICOM header",
  file_name: "from the file name",
  disc: "from the disc's position",
};

/** Why a photograph cannot be graded, in a word or two. */
export const QUALITY: Record<string, string> = {
  not_a_fundus: "no photograph of the retina",
  out_of_focus: "out of focus",
  too_dark: "too dark",
  too_bright: "overexposed",
  field_cut_off: "field cut off",
  artefact: "artefact",
};

export function percent(value: number, digits = 0): string {
  return `${(100 * value).toFixed(digits)} %`;
}

/** Two decimals; three where two would say 0. */
export function probability(value: number): string {
  return value.toFixed(value > 0 && value < 0.01 ? 3 : 2);
}

export function millimetres(value: number): string {
  return `${value.toFixed(value < 10 ? 1 : 0)} mm`;
}

/** A value of a check or an error, whatever its type. */
export function plain(value: unknown): string {
  if (value === null || value === undefined || value === "") return "";
  if (typeof value === "number") return String(Math.round(value * 1000) / 1000);
  if (Array.isArray(value))
    return value.length === 2 && value.every((v) => typeof v === "number")
      ? value.map(plain).join(" to ")
      : value.map(plain).join(", ");
  return typeof value === "object" ? JSON.stringify(value) : String(value);
}
