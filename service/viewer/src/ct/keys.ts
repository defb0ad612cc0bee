/** Keyboard of the stage. */

import { type Shortcut, useShortcuts } from "../shortcuts";
import { PRESETS, type Session } from "./session";
import { TOOLS } from "./Toolbar";

const group = "CT";

export function useCtKeys(session: Session, nodule: () => void, analysable: boolean): void {
  useShortcuts(() => keys(session, nodule, analysable), [session, nodule, analysable]);
}

function keys(session: Session, nodule: () => void, analysable: boolean): Shortcut[] {
  const one = (names: string[], what: string, run: () => void): Shortcut => ({ keys: names, what, group, run });
  return [
    one(["ArrowDown"], "One slice down the rail", () => session.step(1)),
    one(["ArrowUp"], "One slice up", () => session.step(-1)),
    one(["PageDown"], "Ten slices down", () => session.step(10)),
    one(["PageUp"], "Ten slices up", () => session.step(-10)),
    one(["Home"], "Uppermost slice", () => session.end(true)),
    one(["End"], "Lowest slice", () => session.end(false)),
    one([" "], "Cine: play and pause", () => {
      session.playing.value = !session.playing.peek();
    }),
    ...PRESETS.map((preset, k) => one([preset.key], `Window: ${preset.name}`, () => session.preset(k))),
    ...TOOLS.map((tool) => one([tool.key], tool.what, () => session.setTool(tool.tool))),
    ...(analysable
      ? [
          one(["n"], "Analyse: click a nodule", () => {
            session.picking.value = !session.picking.peek();
          }),
        ]
      : []),
    one(["g"], "Zoom to the selected finding, and back", nodule),
    one(["+", "="], "Larger", () => session.zoom(1.25)),
    one(["-"], "Smaller", () => session.zoom(0.8)),
    one(["0"], "View and window as at first", () => session.reset()),
    one(["i"], "Invert", () => session.setInverted(!session.inverted.peek())),
    one(["f"], "Mirror left and right", () => session.flip()),
    one(["t"], "Turn by 90 degrees", () => session.rotate()),
    one(["Delete", "Backspace"], "Remove the selected measurement", () => session.clearMeasurements(true)),
    one(["Escape"], "Back to the window tool", () => session.escape()),
  ];
}
