/** Agreement over time: a point a period with its interval, and below it how many verdicts it stands on. */

import type { Share } from "../api/types";
import { percent } from "../words";

const WIDTH = 560;
const HEIGHT = 220;
const LEFT = 44;
const RIGHT = 12;
const TOP = 12;
const BOTTOM = 64;
/** Half the width of a date below the axis. */
const HALF_DATE = 36;
/** Points up to so many periods apart are joined: days leave out a weekend and a holiday. */
const NEIGHBOURS: Record<string, number> = { day: 4, week: 1, month: 1 };

/** How many periods there are from the first to the last, and the how-manieth each is: those without verdicts are not told. */
export function along(starts: readonly string[], by: string): { count: number; at: number[] } {
  const days = starts.map((start) => Date.parse(start) / 86_400_000);
  const months = starts.map((start) => 12 * Number(start.slice(0, 4)) + Number(start.slice(5, 7)));
  const place = by === "month" ? months : by === "week" ? days.map((day) => day / 7) : days;
  const at = place.map((one) => Math.round(one - place[0]!));
  return { count: (at.at(-1) ?? 0) + 1, at };
}

/** Runs of what is at most `apart` from the one before: no line is drawn where nothing was judged. */
export function stretches<T>(all: readonly T[], at: (one: T) => number, apart: number): T[][] {
  const found: T[][] = [];
  for (const one of all) {
    const last = found.at(-1);
    if (last && at(one) - at(last.at(-1)!) <= apart) last.push(one);
    else found.push([one]);
  }
  return found;
}

/** Indices of periods that are far enough apart to be written below the axis. */
function labelled(at: readonly number[], apart: number): Set<number> {
  const named = new Set<number>();
  let last = Number.NEGATIVE_INFINITY;
  for (const [k, place] of at.entries())
    if (place - last >= apart) {
      named.add(k);
      last = place;
    }
  return named;
}

export function AgreementPlot({ periods, by }: { periods: (Share & { start: string })[]; by: string }) {
  if (periods.length === 0) return null;
  const { count, at } = along(
    periods.map((one) => one.start),
    by,
  );
  const step = (WIDTH - LEFT - RIGHT) / count;
  const x = (k: number) => LEFT + (at[k]! + 0.5) * step;
  const y = (value: number) => TOP + (1 - value) * (HEIGHT - TOP - BOTTOM);
  const most = Math.max(...periods.map((one) => one.n));
  const named = labelled(at, count / 6);
  const shown = periods.map((one, k) => ({ ...one, k })).filter((one) => one.agreement !== null);
  return (
    <figure class="agreement-plot">
      <svg
        viewBox={`0 0 ${WIDTH} ${HEIGHT}`}
        role="img"
        aria-label={`Agreement by ${by}; the numbers are in the table below`}
      >
        {[0, 0.5, 1].map((value) => (
          <g key={value}>
            <line x1={LEFT} x2={WIDTH - RIGHT} y1={y(value)} y2={y(value)} class="grid" />
            <text x={LEFT - 6} y={y(value) + 4} text-anchor="end">
              {percent(value)}
            </text>
          </g>
        ))}
        {stretches(shown, (one) => at[one.k]!, NEIGHBOURS[by] ?? 1).map((stretch) => (
          <polyline
            key={stretch[0]!.start}
            class="line"
            points={stretch.map((one) => `${x(one.k)},${y(one.agreement!)}`).join(" ")}
          />
        ))}
        {shown.map((one) => (
          <g key={one.start}>
            {one.interval && (
              <line x1={x(one.k)} x2={x(one.k)} y1={y(one.interval[0])} y2={y(one.interval[1])} class="interval" />
            )}
            <circle cx={x(one.k)} cy={y(one.agreement!)} r="4" class="point">
              <title>
                {one.start}: {percent(one.agreement!)}, n = {one.n}
              </title>
            </circle>
          </g>
        ))}
        {periods.map((one, k) => (
          <g key={one.start}>
            <rect
              x={x(k) - Math.min(14, step * 0.35)}
              width={Math.max(1, Math.min(28, step * 0.7))}
              y={HEIGHT - 24 - (20 * one.n) / most}
              height={(20 * one.n) / most}
              class="count"
            />
            {named.has(k) && (
              <text x={Math.min(x(k), WIDTH - HALF_DATE)} y={HEIGHT - 8} text-anchor="middle">
                {one.start}
              </text>
            )}
          </g>
        ))}
      </svg>
      <figcaption class="quiet">
        Points: agreement with its 95 % interval. Bars: verdicts of the {by}, at most {most}. A {by} without verdicts is
        left empty.
      </figcaption>
      <details>
        <summary>As a table</summary>
        <table>
          <thead>
            <tr>
              <th scope="col">{by} from</th>
              <th scope="col" class="num">
                Verdicts
              </th>
              <th scope="col" class="num">
                Accepted
              </th>
              <th scope="col">Agreement</th>
            </tr>
          </thead>
          <tbody>
            {periods.map((one) => (
              <tr key={one.start}>
                <th scope="row">{one.start}</th>
                <td class="num">{one.n}</td>
                <td class="num">{one.accepted}</td>
                <td>
                  {one.agreement === null || !one.interval
                    ? "–"
                    : `${percent(one.agreement)} (${percent(one.interval[0])} to ${percent(one.interval[1])})`}
                </td>
              </tr>
            ))}
          </tbody>
        </table>
      </details>
    </figure>
  );
}
