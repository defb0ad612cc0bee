/** A button that copies a text, also where the browser has no clipboard (plain HTTP). */

import type { ComponentChildren } from "preact";
import { useState } from "preact/hooks";

async function copy(text: string): Promise<void> {
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    const area = document.createElement("textarea");
    area.value = text;
    area.style.position = "fixed";
    area.style.opacity = "0";
    document.body.append(area);
    area.select();
    document.execCommand("copy");
    area.remove();
  }
}

export function Copy(props: { text: string; children: ComponentChildren; testid?: string }) {
  const [done, setDone] = useState("");
  return (
    <button
      type="button"
      class="small"
      data-testid={props.testid}
      data-text={props.text}
      onClick={() => copy(props.text).then(() => setDone(props.text))}
    >
      {done === props.text ? "Copied" : props.children}
    </button>
  );
}
