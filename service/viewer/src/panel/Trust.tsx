/** Is it to be trusted? Quality, checks, limits, published figures with their null, this case's own test, known cases. */

import type { Analysis, Check, Finding, ModelClass, Quality as Verdict } from "../api/types";
import { Badge } from "../parts/controls";
import { capital, plain } from "../words";
import { Figures } from "./Figures";
import { Limits } from "./Limits";
import { MapTest } from "./MapTest";
import { Section } from "./Section";
import { SimilarCases } from "./SimilarCases";

export function Trust(props: { analysis: Analysis; finding: Finding | null; classes: readonly ModelClass[] }) {
  const { analysis, finding } = props;
  const checks = analysis.input.checks;
  const bad = checks.filter((check) => check.result !== "pass");
  const tone =
    analysis.quality?.gradable === false || bad.some((check) => check.result === "fail")
      ? "bad"
      : bad.length > 0 || (analysis.quality?.reasons.length ?? 0) > 0
        ? "warn"
        : "good";
  return (
    <Section name="trust" open title="Is it to be trusted?" aside={<Passed tone={tone} />}>
      <Quality quality={analysis.quality} />
      <Checks checks={checks} />
      {finding && <Figures {...props} finding={finding} />}
      {finding && <MapTest {...props} finding={finding} />}
      {finding && <SimilarCases {...props} finding={finding} />}
      <Limits analysis={analysis} />
    </Section>
  );
}

function Passed({ tone }: { tone: "good" | "warn" | "bad" }) {
  const text = { good: "input passed", warn: "input with remarks", bad: "input failed" }[tone];
  return <Badge tone={tone}>{text}</Badge>;
}

function Quality({ quality }: { quality: Verdict | null }) {
  if (!quality) return null;
  return (
    <div class="part" data-testid="quality">
      <h3>Quality</h3>
      <p>
        {quality.code.meaning} <span class="quiet">(score {plain(quality.score)} of 1)</span>
      </p>
      {quality.gradable && quality.reasons.length > 0 && (
        <ul class="checks">
          {quality.reasons.map((reason) => (
            <li key={reason.code + reason.message} class="check-warn">
              <span>
                {capital(reason.message)}
                {reason.retake && <span class="quiet"> {reason.retake}</span>}
              </span>
            </li>
          ))}
        </ul>
      )}
    </div>
  );
}

const RANK: Record<Check["result"], number> = { fail: 0, warn: 1, pass: 2 };

function Checks({ checks }: { checks: readonly Check[] }) {
  if (checks.length === 0) return null;
  const bad = checks.filter((check) => check.result !== "pass").sort((a, b) => RANK[a.result] - RANK[b.result]);
  const passed = checks.filter((check) => check.result === "pass");
  return (
    <div class="part" data-testid="checks">
      <h3>Input checks</h3>
      {bad.length > 0 && <CheckList checks={bad} />}
      <Section name="passed" minor title={`${passed.length} of ${checks.length} passed`}>
        <CheckList checks={passed} />
      </Section>
    </div>
  );
}

function CheckList({ checks }: { checks: readonly Check[] }) {
  return (
    <ul class="checks">
      {checks.map((check) => (
        <li key={check.id + check.message} class={`check-${check.result}`}>
          <span class="result">{check.result}</span>
          <span>
            {capital(check.message || check.id)}{" "}
            <span class="quiet">
              (
              {[`value ${plain(check.value) || "none"}`, plain(check.limit) && `limit ${plain(check.limit)}`]
                .filter(Boolean)
                .join(", ")}
              )
            </span>
          </span>
        </li>
      ))}
    </ul>
  );
}
