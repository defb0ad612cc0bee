/** A link to another analysis of the case, whether it is loaded already or not. */

import type { ComponentChildren } from "preact";
import { current, load, showAnalysis } from "../case/state";
import { format, route } from "../route";

export function ShowAnalysis({ id, children }: { id: string; children: ComponentChildren }) {
  const at = route.value;
  const study = at.page === "case" ? at.study : undefined;
  return (
    <a
      href={format({ page: "case", study, analysis: id })}
      onClick={(event) => {
        if (event.ctrlKey || event.metaKey || event.shiftKey) return;
        event.preventDefault();
        const known = current.peek()?.analyses.some((one) => one.id === id);
        if (!known && study) addEventListener("hashchange", () => load(), { once: true });
        showAnalysis(id);
      }}
    >
      {children}
    </a>
  );
}
