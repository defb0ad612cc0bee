/** Icons of the toolbar, 20 x 20, drawn in the colour of the text. */

import type { JSX } from "preact";

const PATHS = {
  window: "M10 3a7 7 0 1 0 0 14zM10 3a7 7 0 0 1 0 14",
  scroll: "M4 6h12M4 10h12M4 14h12M10 1.5l-2 2h4zM10 18.5l-2-2h4z",
  pan: "M10 2v16M2 10h16M10 2l-2 2.5h4zM10 18l-2-2.5h4zM2 10l2.5-2v4zM18 10l-2.5-2v4z",
  zoom: "M8.5 3a5.5 5.5 0 1 0 0 11a5.5 5.5 0 0 0 0-11zM12.5 12.5L17.5 17.5M6 8.5h5M8.5 6v5",
  length: "M3 17L17 3M2 13l5 5M13 2l5 5",
  diameters: "M3 17L17 3M6.5 6.5l7 7M2 14l4 4M14 2l4 4",
  ellipse: "M10 5c5 0 8 2.2 8 5s-3 5-8 5s-8-2.2-8-5s3-5 8-5z",
  analyse: "M10 4.5a5.5 5.5 0 1 0 0 11a5.5 5.5 0 0 0 0-11zM10 1v6M10 13v6M1 10h6M13 10h6",
  invert: "M3 3h14v14h-14zM3 3L17 17V3z",
  flip: "M10 2v16M8 5v10H2zM12 5v10h6z",
  rotate: "M16 10a6 6 0 1 1-2-4.5M14 1.5v4.5h-4.5",
  reset: "M4 4v5h5M4.5 9a6 6 0 1 1 .8 5",
  nodule: "M3 7V3h4M13 3h4v4M17 13v4h-4M7 17H3v-4M10 7.5a2.5 2.5 0 1 0 0 5a2.5 2.5 0 0 0 0-5z",
  play: "M6 3.5v13l10-6.5z",
  pause: "M6 4v12M7 4v12M13 4v12M14 4v12",
  clear: "M4 6h12M8 6V3.5h4V6M6 6l.7 11h6.6L14 6",
} as const;
const FILLED: readonly string[] = ["flip", "play"];

export type IconName = keyof typeof PATHS;

export function Icon(props: { name: IconName }): JSX.Element {
  const filled = FILLED.includes(props.name);
  return (
    <svg class="icon" viewBox="0 0 20 20" width="20" height="20" aria-hidden="true" focusable="false">
      <path
        d={PATHS[props.name]}
        fill={filled ? "currentColor" : "none"}
        stroke="currentColor"
        stroke-width="1.5"
        stroke-linecap="round"
        stroke-linejoin="round"
      />
    </svg>
  );
}
