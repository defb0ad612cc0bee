/** Agreement over time: a point a period with its interval, and below it how many verdicts it stands on. */

import type { Share } from "../api/types";
import { percent } from "../words";

const WIDTH = 560;
const HEIGHT = 220;
const LEFT = 44;
const RIGHT = 12;
const TOP = 12;
const BOTTOM = 64;

export function AgreementPlot({ periods, by }: { periods: (Share & { start: string })[]; by: string }) {
  if (periods.length === 0) return null;
  const step = (WIDTH - LEFT - RIGHT) / periods.length;
  const x = (k: number) => LEFT + (k + 0.5) * step;
  const y = (value: number) => TOP + (1 - value) * (HEIGHT - TOP - BOTTOM);
  const most = Math.max(...periods.map((one) => one.n));
  const every = Math.ceil(periods.length / 7);
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
        <polyline class="line" points={shown.map((one) => `${x(one.k)},${y(one.agreement!)}`).join(" ")} />
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
              width={Math.min(28, step * 0.7)}
              y={HEIGHT - 24 - (20 * one.n) / most}
              height={(20 * one.n) / most}
              class="count"
            />
            {k % every === 0 && (
              <text x={x(k)} y={HEIGHT - 8} text-anchor="middle">
                {one.start}
              </text>
            )}
          </g>
        ))}
      </svg>
      <figcaption class="quiet">
        Points: agreement with its 95 % interval. Bars: verdicts of the {by}, at most {most}.
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
