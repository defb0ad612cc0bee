/**
 * Put another photograph file next to this one: files have no study that would bring both eyes together. Photographs of a
 * study are not offered: whose they are is known, whose a file is is not.
 */

import { useEffect, useState } from "preact/hooks";
import { call, analysis as fetchAnalysis } from "../api/client";
import type { Analysis } from "../api/types";
import { moment } from "../words";
import { EYE_NAMES, eyeOf } from "./shots";
import { pair } from "./state";

interface Row {
  id: string;
  created: string;
  superseded_by: string | null;
  input: { study: string; laterality: string };
  findings: { label: string }[];
}

export function Compare(props: { shown: Analysis }) {
  const { shown } = props;
  const [rows, setRows] = useState<Row[]>([]);
  useEffect(() => {
    const ending = new AbortController();
    call(`/api/v1/analyses?model=${encodeURIComponent(shown.model.name)}&status=completed&limit=500`, {
      signal: ending.signal,
    })
      .then((response) => response.json())
      .then(
        (body: { analyses: Row[] }) => setRows(body.analyses),
        () => {},
      );
    return () => ending.abort();
  }, [shown.id]);
  const others = rows.filter((row) => row.id !== shown.id && !row.superseded_by && !row.input.study);
  if (!others.length) return null;
  const beside = pair.value.find((one) => one.id !== shown.id && pair.value.some((two) => two.id === shown.id));
  return (
    <label class="compare" title="Files name no patient: check yourself that both are of one person">
      <span class="quiet">Compare with</span>
      <select
        value={beside?.id ?? ""}
        onChange={async (event) => {
          const id = event.currentTarget.value;
          pair.value = id ? [shown, await fetchAnalysis(id)] : [];
        }}
      >
        <option value="">nothing</option>
        {others.map((row) => (
          <option key={row.id} value={row.id}>
            {[moment(row.created), row.findings[0]?.label ?? "no grade", EYE_NAMES[eyeOf(row.input.laterality)]].join(
              " · ",
            )}
          </option>
        ))}
      </select>
      {beside && <span class="unstated">Same person? The files do not say.</span>}
    </label>
  );
}
