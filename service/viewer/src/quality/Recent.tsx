/** The latest verdicts, each with its case. */

import { useEffect, useState } from "preact/hooks";
import { problemOf, verdicts } from "../api/client";
import type { AssessmentRow, Problem } from "../api/types";
import { Badge, ProblemNotice } from "../parts/controls";
import { format } from "../route";
import { moment, sentence } from "../words";

const TONES = { accepted: "good", modified: "warn", rejected: "bad" } as const;
export const VERDICTS = { accepted: "accepted", modified: "corrected", rejected: "rejected" } as const;

export function Recent() {
  const [rows, setRows] = useState<AssessmentRow[]>([]);
  const [problem, setProblem] = useState<Problem | null>(null);
  useEffect(() => {
    const leaving = new AbortController();
    verdicts({ limit: "25" }, leaving.signal)
      .then((page) => setRows(page.assessments))
      .catch((error) => {
        if (!leaving.signal.aborted) setProblem(problemOf(error));
      });
    return () => leaving.abort();
  }, []);
  return (
    <section>
      <h2>Latest verdicts</h2>
      {problem && <ProblemNotice problem={problem} />}
      <table>
        <thead>
          <tr>
            <th scope="col">When</th>
            <th scope="col">Reader</th>
            <th scope="col">Model said</th>
            <th scope="col">Verdict</th>
            <th scope="col">Reason</th>
            <th scope="col">Case</th>
          </tr>
        </thead>
        <tbody>
          {rows.map((row) => (
            <tr key={row.id}>
              <td class="whole">{moment(row.created)}</td>
              <td>
                <bdi>{row.reader ?? row.account ?? "not named"}</bdi>
              </td>
              <td>{row.grade === null || row.grade === undefined ? row.label : `Grade ${row.grade}: ${row.label}`}</td>
              <td>
                <Badge tone={TONES[row.verdict]}>{sentence(VERDICTS[row.verdict])}</Badge>
                {row.value && ` ${sentence(row.value)}`}
              </td>
              <td>
                <bdi>{row.reason}</bdi>
              </td>
              <td>
                <a
                  href={format({
                    page: "case",
                    ...(row.study ? { study: row.study } : {}),
                    analysis: row.analysis,
                    finding: row.finding,
                  })}
                >
                  {row.finding}
                </a>
              </td>
            </tr>
          ))}
        </tbody>
      </table>
    </section>
  );
}
