/** What the stage asks the archive for: metadata of a series or an instance, and uncompressed frames (PS3.18 10.4). */

import { call } from "../api/client";
import { type Attributes, seriesPath } from "../api/dicomweb";
import { firstPart } from "./hu";

const UNCOMPRESSED = 'multipart/related; type="application/octet-stream"; transfer-syntax=1.2.840.10008.1.2.1';

function instancePath(study: string, series: string, uid: string): string {
  return `${seriesPath(study, series)}/instances/${encodeURIComponent(uid)}`;
}

export async function instanceMetadata(
  study: string,
  series: string,
  uid: string,
  signal?: AbortSignal,
): Promise<Attributes[]> {
  const response = await call(`${instancePath(study, series, uid)}/metadata`, {
    signal,
    headers: { Accept: "application/dicom+json" },
  });
  return (await response.json()) as Attributes[];
}

/** Bytes of a frame (from 1), as they are stored but not compressed. */
export async function frameBytes(
  study: string,
  series: string,
  uid: string,
  frame: number,
  signal?: AbortSignal,
): Promise<Uint8Array> {
  const response = await call(`${instancePath(study, series, uid)}/frames/${frame}`, {
    signal,
    headers: { Accept: UNCOMPRESSED },
  });
  const body = new Uint8Array(await response.arrayBuffer());
  return firstPart(body, response.headers.get("Content-Type") ?? "");
}

/** Instance and frame of a key (`uid` or `uid#n`). */
export function partsOf(key: string): { uid: string; frame: number } {
  const [uid = "", frame] = key.split("#");
  return { uid, frame: Number(frame ?? 1) };
}
