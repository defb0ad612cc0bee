/** QIDO-RS and WADO-RS of the service, as far as the page needs them (PS3.18 10.6, 10.4; DICOM JSON Model, PS3.18 annex F). */

import { call } from "./client";

export type Attributes = Record<string, { vr: string; Value?: unknown[] }>;

const ROOT = "/dicomweb";

export function seriesPath(study: string, series: string): string {
  return `${ROOT}/studies/${encodeURIComponent(study)}/series/${encodeURIComponent(series)}`;
}

/** First value of an attribute as text; of a person name its alphabetic group. */
export function text(attributes: Attributes, tag: string): string {
  const value = attributes[tag]?.Value?.[0];
  if (value === null || value === undefined) return "";
  if (typeof value === "object") return String((value as { Alphabetic?: string }).Alphabetic ?? "");
  return String(value);
}

/** All values of an attribute as numbers. */
export function numbers(attributes: Attributes, tag: string): number[] {
  return (attributes[tag]?.Value ?? []).map(Number);
}

async function found(path: string, signal?: AbortSignal): Promise<Attributes[]> {
  const response = await call(path, { signal, headers: { Accept: "application/dicom+json" } });
  return response.status === 204 ? [] : ((await response.json()) as Attributes[]);
}

/** Metadata of every instance of a series. */
export function seriesMetadata(study: string, series: string, signal?: AbortSignal): Promise<Attributes[]> {
  return found(`${seriesPath(study, series)}/metadata`, signal);
}
