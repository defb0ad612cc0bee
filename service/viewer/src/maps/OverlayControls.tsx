/** What is laid over the image and how: kind of map, strength, scale, outline and box. */

import { useEffect } from "preact/hooks";
import { classes, finding } from "../case/state";
import { Segments, Slider, Toggle } from "../parts/controls";
import { useShortcuts } from "../shortcuts";
import "../styles/maps.css";
import { percent } from "../words";
import { naming } from "./legend";
import { classNames, kindsOf, type Overlay, overlay, type Scale, setOverlay } from "./overlay";
import { hasMaps } from "./useMaps";

const SCALES = [
  {
    value: "per_image" as const,
    label: "This image",
    title: "Full strength = the strongest responses of this image: even a weak map looks bright",
  },
  {
    value: "per_model" as const,
    label: "Comparable",
    title: "Full strength = the model's reference, the same for all images: compares patients and visits",
  },
];
const STEP = 0.1;
/** A key held longer than this shows the image without its map only while it is held. */
const PEEK_MS = 350;

/** Shares below which nothing is drawn, where the slider's steps lie: brightness is the root of the share, so is the slider. */
const THRESHOLD_STEPS = 20;

export function OverlayControls() {
  const one = finding.value;
  const how = overlay.value;
  const kinds = one ? kindsOf(one.evidence.maps) : [];
  const known = kinds.includes(how.kind);
  useEffect(() => {
    if (kinds.length && !known) setOverlay({ kind: kinds[0] ?? "clear" });
  }, [known, kinds.length]);
  useShortcuts(() => shortcuts(kinds), [kinds.join()]);
  if (!one) return null;
  if (!hasMaps(one)) return <p class="overlay-controls quiet">No response maps were asked for.</p>;
  const names = classNames(one.evidence.maps);
  const all = naming(names, one, classes.value);
  const options = kinds.map((kind) => {
    const at = all.find((each) => kind === `class-${each.name}`);
    if (at) return { value: kind, label: at.label, color: at.color, title: `Response map of ${at.label} alone` };
    return kind === "clear"
      ? { value: kind, label: "CLEAR", title: "All classes in one map: colour = the class with the strongest response" }
      : { value: kind, label: "Two-sided", title: "The most probable class against the strongest of all others" };
  });
  return (
    <div class="overlay-controls" role="group" aria-label="Response map" data-testid="overlay-controls">
      <Segments
        label="Map"
        options={options}
        value={how.kind}
        onChange={(kind) => setOverlay({ kind, visible: true })}
      />
      <Toggle
        label="Show"
        checked={how.visible}
        onChange={(visible) => setOverlay({ visible })}
        title="Map on or off (O; hold O to peek)"
      />
      <Slider
        label="Opacity"
        min={0}
        max={100}
        step={5}
        value={Math.round(100 * how.opacity)}
        text={percent(how.opacity)}
        onInput={(value) => setOverlay({ opacity: value / 100, visible: true })}
      />
      <Slider
        label="Threshold"
        min={0}
        max={THRESHOLD_STEPS}
        value={Math.round(THRESHOLD_STEPS * Math.sqrt(how.threshold))}
        text={percent(how.threshold)}
        onInput={(value) => setOverlay({ threshold: thresholdOf(value) })}
      />
      <Segments label="Scale" options={SCALES} value={how.scale} onChange={(scale: Scale) => setOverlay({ scale })} />
      <Toggle
        label="Contour"
        checked={how.contour}
        onChange={(contour) => setOverlay({ contour })}
        title="Outline of the critical region: where the map of the answer reaches half its peak (C)"
      />
      <Toggle
        label="Box"
        checked={how.box}
        onChange={(box) => setOverlay({ box })}
        title="Box round a nodule's window, or round the part of a photograph with the most response, named after its strongest class (B)"
      />
    </div>
  );
}

function thresholdOf(step: number): number {
  return Math.round(10000 * (step / THRESHOLD_STEPS) ** 2) / 10000;
}

function clamp(value: number, most: number): number {
  return Math.min(most, Math.max(0, value));
}

function change(make: (now: Overlay) => Partial<Overlay>): () => void {
  return () => setOverlay(make(overlay.peek()));
}

function shortcuts(kinds: readonly string[]) {
  if (!kinds.length) return [];
  const next = (by: number) =>
    change((now) => ({ kind: kinds.at((kinds.indexOf(now.kind) + by) % kinds.length) ?? "clear", visible: true }));
  const opacity = (by: number) =>
    change((now) => ({ opacity: clamp(Math.round(10 * (now.opacity + by)) / 10, 1), visible: true }));
  const threshold = (by: number) =>
    change((now) => ({
      threshold: thresholdOf(clamp(Math.round(THRESHOLD_STEPS * Math.sqrt(now.threshold)) + by, THRESHOLD_STEPS)),
    }));
  const group = "Maps";
  return [
    { keys: ["o"], what: "Map on or off; hold to peek", group, run: peek },
    { keys: ["m"], what: "Next kind of map", group, run: next(1) },
    { keys: ["Shift+m"], what: "Previous kind of map", group, run: next(-1) },
    { keys: ["["], what: "Fainter map", group, run: opacity(-STEP) },
    { keys: ["]"], what: "Stronger map", group, run: opacity(STEP) },
    { keys: ["{"], what: "Lower threshold", group, run: threshold(-1) },
    { keys: ["}"], what: "Higher threshold", group, run: threshold(1) },
    {
      keys: ["s"],
      what: "Scale: this image or comparable",
      group,
      run: change((now) => ({ scale: now.scale === "per_image" ? "per_model" : "per_image" })),
    },
    { keys: ["c"], what: "Contour of the critical region", group, run: change((now) => ({ contour: !now.contour })) },
    { keys: ["b"], what: "Box", group, run: change((now) => ({ box: !now.box })) },
  ];
}

/** Toggle the map; when the key is held, toggle back as it is let go. */
function peek(event: KeyboardEvent): void {
  if (event.repeat) return;
  const pressed = event.timeStamp;
  setOverlay({ visible: !overlay.peek().visible });
  const key = event.key;
  const released = (up: KeyboardEvent) => {
    if (up.key.toLowerCase() !== key.toLowerCase()) return;
    removeEventListener("keyup", released);
    if (up.timeStamp - pressed > PEEK_MS) setOverlay({ visible: !overlay.peek().visible });
  };
  addEventListener("keyup", released);
}
