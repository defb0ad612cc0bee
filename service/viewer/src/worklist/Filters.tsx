/** Search and filters of the worklist, and how much waits. */

import type { RefObject } from "preact";
import { useEffect, useState } from "preact/hooks";
import type { Status } from "../api/types";
import { Badge } from "../parts/controls";
import { moment } from "../words";

const CHOICES: Record<string, { label: string; options: [string, string][] }> = {
  status: {
    label: "Status",
    options: [
      ["", "any status"],
      ["arriving", "arriving"],
      ["queued", "queued"],
      ["running", "running"],
      ["completed", "completed"],
      ["failed", "failed"],
      ["none", "not analysed"],
    ],
  },
  outcome: {
    label: "Outcome",
    options: [
      ["", "any outcome"],
      ["positive", "positive"],
      ["negative", "negative"],
      ["graded", "graded"],
      ["ungradable", "cannot be graded"],
      ["out_of_scope", "out of scope"],
      ["no_region", "no nodule marked"],
    ],
  },
  model: {
    label: "Model",
    options: [
      ["", "any model"],
      ["sisc_lung", "lung nodules"],
      ["clear_dr", "retina"],
    ],
  },
};

const DAYS: [string, string][] = [
  ["", "all times"],
  ["1", "last 24 hours"],
  ["7", "last 7 days"],
  ["31", "last 31 days"],
];

interface Props {
  query: Record<string, string>;
  counts: Record<Status, number> | null;
  onChange: (to: Record<string, string>) => void;
  search: RefObject<HTMLInputElement | null>;
}

export function Filters({ query, counts, onChange, search }: Props) {
  const [words, setWords] = useState(query.q ?? "");
  useEffect(() => setWords(query.q ?? ""), [query.q]);
  useEffect(() => {
    if (words === (query.q ?? "")) return;
    const timer = setTimeout(() => onChange({ q: words }), 250);
    return () => clearTimeout(timer);
  }, [words]);
  const days = DAYS.find(([value]) => value && query.since && sinceOf(value).slice(0, 13) === query.since.slice(0, 13));
  // From a link, or chosen an hour ago: it still narrows the list, and must be seen to.
  const earlier = query.since && !days ? query.since : "";
  return (
    <search class="filters">
      <input
        ref={search}
        type="search"
        aria-label="Search patient, ID, accession number, description, UID"
        placeholder="Patient, ID, accession, description"
        value={words}
        onInput={(event) => setWords(event.currentTarget.value)}
      />
      {Object.entries(CHOICES).map(([name, choice]) => (
        <select
          key={name}
          aria-label={choice.label}
          value={query[name] ?? ""}
          onChange={(event) => onChange({ [name]: event.currentTarget.value })}
        >
          {choice.options.map(([value, label]) => (
            <option key={value} value={value}>
              {label}
            </option>
          ))}
        </select>
      ))}
      <select
        aria-label="When"
        value={earlier || (days?.[0] ?? "")}
        onChange={(event) => onChange({ since: event.currentTarget.value ? sinceOf(event.currentTarget.value) : "" })}
      >
        {earlier && <option value={earlier}>since {moment(earlier) || earlier}</option>}
        {DAYS.map(([value, label]) => (
          <option key={value} value={value}>
            {label}
          </option>
        ))}
      </select>
      {counts && (
        <p class="counts" aria-live="polite">
          {counts.running > 0 && <Badge>{counts.running} running</Badge>}
          {counts.queued > 0 && <Badge>{counts.queued} queued</Badge>}
          {counts.failed > 0 && (
            <button type="button" class="plain" onClick={() => onChange({ status: "failed" })}>
              <Badge tone="bad">{counts.failed} failed</Badge>
            </button>
          )}
          <span class="quiet">{counts.completed} completed</span>
        </p>
      )}
    </search>
  );
}

/** So many days ago, to the full hour: the same query for an hour. */
function sinceOf(days: string): string {
  const date = new Date(Date.now() - Number(days) * 86_400_000);
  date.setMinutes(0, 0, 0);
  return date.toISOString();
}
