/** All findings of a series, the most suspicious first. */

import { useEffect, useRef } from "preact/hooks";
import type { Analysis, Finding } from "../api/types";
import { select, sliceOf } from "../case/state";
import { Bar } from "../parts/plot";
import { millimetres, percent, probability } from "../words";
import { bySuspicion, numberOf, origin } from "./order";
import { decided } from "./point";
import { SAID, verdictOf } from "./verdicts";

/** More rows than this are one line each. */
const ROOMY = 4;

export function Findings({ analysis, chosen }: { analysis: Analysis; chosen: Finding | null }) {
  const rows = bySuspicion(analysis.findings);
  const open = rows.filter((one) => !verdictOf(analysis, one.id)).length;
  const compact = rows.length > ROOMY;
  const origins = new Set(rows.map(origin));
  return (
    <section class={compact ? "findings compact" : "findings"} aria-label="Findings">
      <header>
        <h2>Findings</h2>
        <span class="quiet">
          {open === 0 ? "all assessed" : `${open} to assess`} <kbd>J</kbd> <kbd>K</kbd>
        </span>
      </header>
      {compact && (
        <p class="columns-named" aria-hidden="true">
          <span>no.</span>
          <span>score</span>
          <span />
          <span class="num">size</span>
          <span class="num">slice</span>
          <span />
        </p>
      )}
      <ol data-testid="findings">
        {rows.map((one) => (
          <Row
            key={one.id}
            analysis={analysis}
            finding={one}
            chosen={one.id === chosen?.id}
            compact={compact}
            tellOrigin={origins.size > 1}
          />
        ))}
      </ol>
    </section>
  );
}

const VERDICT_SIGNS = { accepted: "✓", rejected: "×", modified: "✎" } as const;

function Row(props: { analysis: Analysis; finding: Finding; chosen: boolean; compact: boolean; tellOrigin: boolean }) {
  const { analysis, finding, chosen, compact } = props;
  const row = useRef<HTMLLIElement>(null);
  useEffect(() => {
    const list = row.current?.closest(".panel-scroll");
    // In a narrow window the whole page scrolls: it stays with the image.
    if (chosen && list && list.scrollHeight > list.clientHeight) row.current?.scrollIntoView({ block: "nearest" });
  }, [chosen]);
  const point = finding.operating_point;
  const positive = point.decision === "positive";
  const at = sliceOf(analysis, finding);
  const verdict = verdictOf(analysis, finding.id);
  const size = finding.location.diameter_mm;
  return (
    <li ref={row}>
      <button
        type="button"
        class={`finding-row${positive ? " positive" : ""}${verdict ? ` ${verdict.verdict}` : ""}`}
        aria-current={chosen ? "true" : undefined}
        data-testid="finding-row"
        data-finding={finding.id}
        data-decision={point.decision}
        title={`${finding.id}: ${decided(finding)}; threshold ${probability(point.threshold)} (sensitivity ${percent(point.sensitivity)}, specificity ${percent(point.specificity)}); likelier class ${finding.label.toLowerCase()}${origin(finding) && `; ${origin(finding)}`}`}
        onClick={() => select(finding.id)}
      >
        <span class="number">{numberOf(analysis, finding.id)}</span>
        <span class="score">
          <span class="sign" aria-hidden="true">
            {positive ? "◆" : "○"}
          </span>{" "}
          {probability(point.score)}
        </span>
        <Bar value={point.score} threshold={point.threshold} />
        <span class="num">{size === null || size === undefined ? "" : millimetres(size)}</span>
        <span class="num">
          <span class={compact ? "sr-only" : undefined}>slice </span>
          {at === undefined ? "" : at + 1}
        </span>
        <span class={compact ? "sr-only" : "label"}>
          {[decided(finding), (!compact || props.tellOrigin) && origin(finding)].filter(Boolean).join(", ")}
        </span>
        {verdict && (
          <span class={`verdict ${verdict.verdict}`} data-testid="row-verdict">
            <span aria-hidden="true">{VERDICT_SIGNS[verdict.verdict]}</span>{" "}
            <span class={compact ? "sr-only" : undefined}>{SAID[verdict.verdict]}</span>
          </span>
        )}
      </button>
    </li>
  );
}
