/** Pointer and wheel on a pane: drag to pan, wheel or pinch to zoom, tap, double click. */

import type { RefObject } from "preact";
import { useEffect, useRef } from "preact/hooks";
import type { Point } from "./geometry";

export interface Gestures {
  pan: (dx: number, dy: number) => void;
  zoom: (factor: number, at: Point) => void;
  tap: () => void;
  double: (at: Point) => void;
}

/** Movement, in pixels, up to which a press is a tap. */
const STILL = 4;
/** A notch of a wheel (100 pixels) zooms by about a fifth. */
const PER_WHEEL_PIXEL = 0.0018;
const PIXELS_PER_LINE = 33;

export function useGestures(element: RefObject<HTMLElement | null>, gestures: Gestures): void {
  const latest = useRef(gestures);
  latest.current = gestures;
  useEffect(() => {
    const pane = element.current;
    if (!pane) return;
    const ending = new AbortController();
    const listen = <K extends keyof HTMLElementEventMap>(
      name: K,
      heard: (event: HTMLElementEventMap[K]) => void,
      passive = true,
    ) => pane.addEventListener(name, heard, { signal: ending.signal, passive });
    const down = new Map<number, Point>();
    let moved = 0;
    const at = (event: MouseEvent): Point => {
      const frame = pane.getBoundingClientRect();
      return { x: event.clientX - frame.left, y: event.clientY - frame.top };
    };
    listen("pointerdown", (event) => {
      if (event.button !== 0 && event.pointerType === "mouse") return;
      if (down.size === 0) moved = 0;
      down.set(event.pointerId, at(event));
      pane.setPointerCapture(event.pointerId);
    });
    listen("pointermove", (event) => {
      const before = down.get(event.pointerId);
      if (!before) return;
      const now = at(event);
      const others = [...down].filter(([id]) => id !== event.pointerId).map(([, point]) => point);
      down.set(event.pointerId, now);
      moved += Math.hypot(now.x - before.x, now.y - before.y);
      const fixed = others[0];
      if (fixed) {
        const span = (point: Point) => Math.max(1, Math.hypot(point.x - fixed.x, point.y - fixed.y));
        latest.current.zoom(span(now) / span(before), { x: (now.x + fixed.x) / 2, y: (now.y + fixed.y) / 2 });
      }
      if (moved > STILL)
        latest.current.pan((now.x - before.x) / (1 + others.length), (now.y - before.y) / (1 + others.length));
    });
    const up = (event: PointerEvent) => {
      if (down.delete(event.pointerId) && down.size === 0 && moved <= STILL && event.type === "pointerup")
        latest.current.tap();
    };
    listen("pointerup", up);
    listen("pointercancel", up);
    listen("dblclick", (event) => latest.current.double(at(event)));
    listen(
      "wheel",
      (event) => {
        event.preventDefault();
        const pixels = event.deltaY * (event.deltaMode === WheelEvent.DOM_DELTA_LINE ? PIXELS_PER_LINE : 1);
        latest.current.zoom(Math.exp(-pixels * PER_WHEEL_PIXEL), at(event));
      },
      false,
    );
    return () => ending.abort();
  }, []);
}
