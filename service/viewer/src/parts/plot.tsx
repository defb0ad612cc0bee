/** Small plots, drawn by hand as SVG or as bars beside text. Each has a text that says what it shows. */

import type { ComponentChildren } from "preact";
import "../styles/plot.css";

export interface Axis {
  label: string;
  min: number;
  max: number;
  ticks: readonly number[];
  format?: (value: number) => string;
}

export interface Line {
  name: string;
  points: readonly (readonly [number, number])[];
  /** `main` is what it is about, `other` what it is compared with (dashed). */
  tone: "main" | "other";
  /** Interval of each point. */
  band?: readonly (readonly [number, number])[];
}

export interface Dot {
  x: number;
  y: number;
  /** What it says when it is pointed at, and to a screen reader. */
  label: string;
  /** Where the reader is now. */
  current?: boolean;
  /** Marked as the special one. */
  marked?: boolean;
}

const WIDTH = 320;
const LEFT = 34;
const RIGHT = 8;
const TOP = 8;
const BOTTOM = 30;

/** Lines over an axis, with a threshold and points to choose from. `text` says in words what is to be seen. */
export function LinePlot(props: {
  text: string;
  x: Axis;
  y: Axis;
  lines?: readonly Line[];
  dots?: readonly Dot[];
  threshold?: { value: number; label: string };
  onPick?: (index: number) => void;
  height?: number;
  width?: number;
  caption?: ComponentChildren;
  testid?: string;
}) {
  const width = props.width ?? WIDTH;
  const height = props.height ?? 130;
  const { x, y, onPick } = props;
  const across = (value: number) => LEFT + ((value - x.min) / (x.max - x.min || 1)) * (width - LEFT - RIGHT);
  const up = (value: number) => height - BOTTOM - ((value - y.min) / (y.max - y.min || 1)) * (height - TOP - BOTTOM);
  const say = (axis: Axis, value: number) => axis.format?.(value) ?? String(value);
  const lines = props.lines ?? [];
  const free = freeCorner(props.threshold?.value ?? 0, lines[0]?.points ?? []);
  return (
    <figure class="plot" data-testid={props.testid}>
      <svg
        viewBox={`0 0 ${width} ${height}`}
        role={onPick ? "group" : "img"}
        aria-label={props.text}
        xmlns="http://www.w3.org/2000/svg"
      >
        {y.ticks.map((value) => (
          <g key={value}>
            <line class="grid" x1={LEFT} x2={width - RIGHT} y1={up(value)} y2={up(value)} />
            <text x={LEFT - 4} y={up(value) + 3.5} text-anchor="end">
              {say(y, value)}
            </text>
          </g>
        ))}
        {x.ticks.map((value) => (
          <text key={value} x={across(value)} y={height - BOTTOM + 12} text-anchor="middle">
            {say(x, value)}
          </text>
        ))}
        <text class="axis" x={LEFT} y={height - 4}>
          {x.label}
        </text>
        {lines.map(
          (line) =>
            line.band && (
              <polygon
                key={line.name}
                class={`band ${line.tone}`}
                points={[
                  ...line.band.map(([low], k) => `${across(line.points[k]![0])},${up(low)}`),
                  ...line.band.map(([, high], k) => `${across(line.points[k]![0])},${up(high)}`).reverse(),
                ].join(" ")}
              />
            ),
        )}
        {props.threshold && (
          <g>
            <line
              class="threshold"
              x1={LEFT}
              x2={width - RIGHT}
              y1={up(props.threshold.value)}
              y2={up(props.threshold.value)}
            />
            <text
              class="threshold-name"
              x={free.left ? LEFT + 3 : width - RIGHT - 3}
              y={up(props.threshold.value) + (free.above ? -4 : 11)}
              text-anchor={free.left ? "start" : "end"}
            >
              {props.threshold.label}
            </text>
          </g>
        )}
        {lines.map((line) => (
          <polyline
            key={line.name}
            class={`line ${line.tone}`}
            points={line.points.map(([a, b]) => `${across(a)},${up(b)}`).join(" ")}
          />
        ))}
        {props.dots?.map((dot, k) => (
          <g
            key={dot.label}
            class={`dot${dot.current ? " current" : ""}${dot.marked ? " marked" : ""}${onPick ? " button" : ""}`}
            {...(onPick && {
              role: "button",
              tabIndex: 0,
              "aria-label": dot.label,
              "aria-current": dot.current ? "true" : undefined,
              onClick: () => onPick(k),
              onKeyDown: (event: KeyboardEvent) => {
                if (event.key !== "Enter" && event.key !== " ") return;
                event.preventDefault();
                onPick(k);
              },
            })}
          >
            <title>{dot.label}</title>
            <rect class="target" x={across(dot.x) - 9} y={TOP} width="18" height={height - TOP - BOTTOM} />
            {dot.current && <line class="here" x1={across(dot.x)} x2={across(dot.x)} y1={TOP} y2={height - BOTTOM} />}
            {dot.marked ? (
              <path class="sign" d={`M${across(dot.x)} ${up(dot.y) - 6}l6 10.5h-12z`} />
            ) : (
              <circle class="sign" cx={across(dot.x)} cy={up(dot.y)} r={dot.current ? 5 : 4} />
            )}
          </g>
        ))}
      </svg>
      {(lines.length > 1 || props.caption) && (
        <figcaption>
          {lines.length > 1 &&
            lines.map((line) => (
              <span key={line.name} class={`key ${line.tone}`}>
                {line.name}
              </span>
            ))}
          {props.caption}
        </figcaption>
      )}
    </figure>
  );
}

/** Where a threshold's name does not lie on the line: the end that is further from it, on the other side of it. */
export function freeCorner(
  threshold: number,
  points: readonly (readonly [number, number])[],
): { left: boolean; above: boolean } {
  const first = (points[0]?.[1] ?? threshold) - threshold;
  const last = (points.at(-1)?.[1] ?? threshold) - threshold;
  const left = Math.abs(first) >= Math.abs(last);
  return { left, above: (left ? first : last) < 0 };
}

/** A number from 0 to `max` as a bar: with a threshold, an interval, and what chance would give. The number is written beside it. */
export function Bar(props: {
  value: number;
  max?: number;
  color?: string;
  threshold?: number;
  interval?: readonly [number, number];
  chance?: number | null;
}) {
  const max = props.max ?? 1;
  const share = (value: number) => `${100 * Math.min(1, Math.max(0, value / max))}%`;
  return (
    <span class="bar" aria-hidden="true">
      <span class="fill" style={{ width: share(props.value), backgroundColor: props.color }} />
      {props.interval && (
        <span
          class="interval"
          style={{
            left: share(props.interval[0]),
            width: `${(100 * (Math.min(max, props.interval[1]) - Math.max(0, props.interval[0]))) / max}%`,
          }}
        />
      )}
      {typeof props.chance === "number" && <span class="chance" style={{ left: share(props.chance) }} />}
      {props.threshold !== undefined && <span class="limit" style={{ left: share(props.threshold) }} />}
    </span>
  );
}

export interface BarRow {
  name: string;
  label: ComponentChildren;
  value: number;
  text: string;
  color?: string;
  strong?: boolean;
  threshold?: number;
  interval?: readonly [number, number];
  chance?: number | null;
}

/** Rows of a name, a bar and a number. */
export function Bars(props: { label: string; rows: readonly BarRow[]; max?: number }) {
  return (
    <ul class="bars" aria-label={props.label}>
      {props.rows.map((row) => (
        <li key={row.name} class={row.strong ? "strong" : undefined}>
          <span class="bar-name">{row.label}</span>
          <Bar {...row} max={props.max} />
          <span class="bar-number">{row.text}</span>
        </li>
      ))}
    </ul>
  );
}
