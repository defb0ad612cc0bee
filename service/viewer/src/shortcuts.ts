/** Keyboard shortcuts: every part of the page registers its own while it is shown; `?` lists them. */

import { signal } from "@preact/signals";
import { useEffect } from "preact/hooks";

export interface Shortcut {
  /** As `KeyboardEvent.key` says it, lower case for letters: "j", "?", "ArrowDown", " ". With "Shift+" or "Ctrl+" before it where needed. */
  keys: string[];
  /** What it does, for the list. */
  what: string;
  /** Heading in the list. */
  group: string;
  run: (event: KeyboardEvent) => void;
}

const sets = signal<readonly (readonly Shortcut[])[]>([]);

/** Shortcuts that work now. */
export function shortcuts(): Shortcut[] {
  return sets.value.flat();
}

/** Register shortcuts while a component is shown. */
export function useShortcuts(make: () => Shortcut[], inputs: readonly unknown[] = []): void {
  useEffect(() => {
    const mine = make();
    sets.value = [...sets.peek(), mine];
    return () => {
      sets.value = sets.peek().filter((one) => one !== mine);
    };
  }, inputs);
}

export function nameOf(event: KeyboardEvent): string {
  const key = event.key.length === 1 ? event.key.toLowerCase() : event.key;
  const shifted = event.shiftKey && (event.key.length > 1 || /[a-z]/i.test(event.key));
  return `${event.ctrlKey || event.metaKey ? "Ctrl+" : ""}${shifted ? "Shift+" : ""}${key}`;
}

/** True where keys belong to what is typed in. */
function typing(target: EventTarget | null): boolean {
  if (!(target instanceof HTMLElement)) return false;
  if (target.isContentEditable || target.tagName === "TEXTAREA" || target.tagName === "SELECT") return true;
  return target instanceof HTMLInputElement && !["checkbox", "radio", "range", "button", "file"].includes(target.type);
}

/** True where a control moves with the arrow keys and Home / End by itself. */
function moves(target: EventTarget | null): boolean {
  return target instanceof HTMLInputElement && (target.type === "range" || target.type === "radio");
}

/** True where the key presses the control that has the focus. */
function pressed(event: KeyboardEvent): boolean {
  const { key, target } = event;
  if (!(target instanceof Element) || (key !== " " && key !== "Enter")) return false;
  return target.closest("button, a, summary, input, [role=button]") !== null;
}

addEventListener("keydown", (event) => {
  if (event.defaultPrevented || event.altKey || typing(event.target) || document.querySelector("dialog[open]")) return;
  if (moves(event.target) && /^(Arrow|Home|End|Page)/.test(event.key)) return;
  if (pressed(event)) return;
  const name = nameOf(event);
  const found = shortcuts().findLast((one) => one.keys.includes(name)); // the innermost part comes last
  if (found) {
    event.preventDefault();
    found.run(event);
  }
});

const SIGNS: Record<string, string> = {
  ArrowUp: "↑",
  ArrowDown: "↓",
  ArrowLeft: "←",
  ArrowRight: "→",
  " ": "Space",
  Escape: "Esc",
};

/** How a key is written for people. */
export function written(key: string): string {
  return key
    .split(/(?<=\+)(?=.)/)
    .map((part) => SIGNS[part] ?? (part.length === 1 ? part.toUpperCase() : part))
    .join("");
}
