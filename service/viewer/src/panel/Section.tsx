/** A part of the panel that can be folded; what is open stays open for the session. */

import { signal } from "@preact/signals";
import type { ComponentChildren } from "preact";

const KEY = "pellucid.panel";

function remembered(): Record<string, boolean> {
  try {
    return JSON.parse(sessionStorage.getItem(KEY) ?? "{}") as Record<string, boolean>;
  } catch {
    return {};
  }
}

const opened = signal(remembered());

export function setOpen(name: string, open: boolean): void {
  if (opened.peek()[name] === open) return;
  opened.value = { ...opened.peek(), [name]: open };
  try {
    sessionStorage.setItem(KEY, JSON.stringify(opened.value));
  } catch {
    // It is remembered until the page is closed.
  }
}

/** Its children are made when it is opened, so that what they fetch is fetched then. `aside` is read without opening. */
export function Section(props: {
  name: string;
  title: ComponentChildren;
  aside?: ComponentChildren;
  open?: boolean;
  minor?: boolean;
  children: ComponentChildren;
}) {
  const open = opened.value[props.name] ?? props.open ?? false;
  return (
    <details
      class={props.minor ? "fold minor" : "fold"}
      open={open}
      data-testid={`section-${props.name}`}
      onToggle={(event) => setOpen(props.name, event.currentTarget.open)}
    >
      <summary>
        {props.minor ? <h4 class="fold-title">{props.title}</h4> : <h2 class="fold-title">{props.title}</h2>}
        {props.aside && <span class="fold-aside">{props.aside}</span>}
      </summary>
      {open && <div class="fold-body">{props.children}</div>}
    </details>
  );
}
