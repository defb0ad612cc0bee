/** What this browser remembers: who reads, and nothing about patients. */

import { effect, signal } from "@preact/signals";

const KEY = "pellucid.reader";

function remembered(): string {
  try {
    return localStorage.getItem(KEY) ?? "";
  } catch {
    return ""; // storage is switched off
  }
}

/** Name or code of the reader, stored with every assessment. */
export const reader = signal(remembered());

effect(() => {
  const name = reader.value;
  try {
    if (name) localStorage.setItem(KEY, name);
    else localStorage.removeItem(KEY);
  } catch {
    // It is remembered until the page is closed.
  }
});
