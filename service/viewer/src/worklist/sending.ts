/** Files on their way to the service: one analysis after the other, so that a slow line is not shared by all of them. */

import { signal } from "@preact/signals";
import { follow, problemOf, upload } from "../api/client";
import type { Analysis, Problem, Request } from "../api/types";
import { type Job, sorted } from "./files";

export interface Sent {
  key: number;
  title: string;
  /** `lost`: taken, but what became of it cannot be asked. */
  state: "waiting" | "sending" | "analysing" | "done" | "refused" | "lost";
  /** Share of the bytes that left, 0..1. */
  share: number;
  analysis: Analysis | null;
  problem: Problem | null;
}

export const sent = signal<readonly Sent[]>([]);

let last = 0;
let line: Promise<void> = Promise.resolve();
/** One after the other, as the service works: a hundred photographs are not asked for all at once. */
let watching: Promise<void> = Promise.resolve();

function change(key: number, to: Partial<Sent>): void {
  sent.value = sent.value.map((one) => (one.key === key ? { ...one, ...to } : one));
}

/** Queue what was dropped or chosen. `laterality` goes with photographs only. */
export function send(files: readonly File[], laterality: "R" | "L" | null): void {
  const jobs = sorted(files);
  if (files.length > 0 && jobs.length === 0)
    refuse("Nothing to send", {
      title: "There is no image among these files",
      detail: "Choose DICOM files, a ZIP of them, or photographs (JPEG, PNG, TIFF). A DICOMDIR alone holds none.",
    });
  for (const job of jobs) {
    const key = ++last;
    sent.value = [...sent.value, { key, title: job.title, state: "waiting", share: 0, analysis: null, problem: null }];
    line = line.then(() => one(key, job, job.photograph && laterality ? { laterality } : {}));
  }
}

async function one(key: number, job: Job, request: Request): Promise<void> {
  change(key, { state: "sending" });
  try {
    const analysis = await upload(job.files, request, (share) => change(key, { share }));
    change(key, { state: "analysing", share: 1, analysis });
    // The next one may be sent while this one is looked at.
    watching = watching
      .then(() => follow(analysis.id, (now) => change(key, { analysis: now })))
      .then(() => change(key, { state: "done" }))
      .catch((error) => change(key, { state: "lost", problem: problemOf(error) }));
  } catch (error) {
    change(key, { state: "refused", problem: problemOf(error) });
  }
}

/** Note that nothing of what was dropped or chosen can be sent. */
export function refuse(title: string, problem: Problem): void {
  sent.value = [...sent.value, { key: ++last, title, state: "refused", share: 0, analysis: null, problem }];
}

export function ended(one: Sent): boolean {
  return one.state === "done" || one.state === "refused" || one.state === "lost";
}

export function forget(key: number): void {
  sent.value = sent.value.filter((one) => one.key !== key);
}

/** Take everything that has ended off the list. */
export function forgetEnded(): void {
  sent.value = sent.value.filter((one) => !ended(one));
}
