/** Tools of the stage: what the left button does, windows, the view, measurements, cine. */

import type { ComponentChildren } from "preact";
import { Slider } from "../parts/controls";
import { written } from "../shortcuts";
import { Icon, type IconName } from "./icons";
import { PRESETS, type Session } from "./session";
import type { ToolName } from "./viewport";

export const TOOLS: readonly { tool: ToolName; name: string; what: string; key: string; icon: IconName }[] = [
  { tool: "WindowLevel", name: "Window", what: "Drag: window width and level", key: "v", icon: "window" },
  { tool: "Scroll", name: "Scroll", what: "Drag: through the slices", key: "x", icon: "scroll" },
  { tool: "Pan", name: "Pan", what: "Drag: move the image (or middle button)", key: "p", icon: "pan" },
  { tool: "Zoom", name: "Zoom", what: "Drag: zoom (or right button, or Ctrl and wheel)", key: "z", icon: "zoom" },
  { tool: "Length", name: "Length", what: "Measure a length", key: "l", icon: "length" },
  { tool: "Bidirectional", name: "Diameters", what: "Long and short diameter", key: "d", icon: "diameters" },
  { tool: "EllipticalROI", name: "Ellipse", what: "Mean and SD of HU in an ellipse", key: "h", icon: "ellipse" },
];

function Tool(props: {
  icon?: IconName;
  name: string;
  what: string;
  shortcut?: string;
  pressed?: boolean;
  disabled?: boolean;
  onClick: () => void;
  children?: ComponentChildren;
}) {
  return (
    <button
      type="button"
      class="tool"
      title={props.shortcut ? `${props.what} (${written(props.shortcut)})` : props.what}
      aria-pressed={props.pressed}
      aria-keyshortcuts={props.shortcut?.trim() || undefined}
      disabled={props.disabled}
      onClick={props.onClick}
    >
      {props.icon && <Icon name={props.icon} />}
      <span>{props.name}</span>
      {props.children}
    </button>
  );
}

export function Toolbar(props: { session: Session; nodule: (() => void) | null; analysable: boolean }) {
  const { session } = props;
  const [tool, picking, playing] = [session.tool.value, session.picking.value, session.playing.value];
  const { center, width } = session.window.value;
  const ready = session.shown.value >= 0;
  return (
    <div class="ct-tools" role="toolbar" aria-label="Image tools" aria-orientation="vertical" data-testid="ct-tools">
      <div class="group" role="group" aria-label="Left mouse button">
        {TOOLS.map((one) => (
          <Tool
            key={one.tool}
            icon={one.icon}
            name={one.name}
            what={one.what}
            shortcut={one.key}
            pressed={tool === one.tool && !picking}
            onClick={() => session.setTool(one.tool)}
          />
        ))}
        <Tool
          icon="analyse"
          name="Analyse"
          what="Click a nodule to analyse it now"
          shortcut="n"
          pressed={picking}
          disabled={!ready || !props.analysable}
          onClick={() => {
            session.picking.value = !session.picking.peek();
          }}
        />
      </div>
      <div class="group" role="group" aria-label="Window">
        {PRESETS.map((one, k) => (
          <Tool
            key={one.name}
            name={one.name}
            what={
              one.window
                ? `Width ${one.window.width}, level ${one.window.center} HU`
                : "From the darkest to the brightest"
            }
            shortcut={one.key}
            pressed={one.window?.center === center && one.window.width === width}
            onClick={() => session.preset(k)}
          >
            <kbd>{one.key}</kbd>
          </Tool>
        ))}
      </div>
      <div class="group" role="group" aria-label="View">
        <Tool
          icon="nodule"
          name="To nodule"
          what="Zoom to the selected finding, and back"
          shortcut="g"
          disabled={!props.nodule}
          onClick={() => props.nodule?.()}
        />
        <Tool
          icon="reset"
          name="Reset"
          what="View and window as at first"
          shortcut="0"
          onClick={() => session.reset()}
        />
        <Tool
          icon="invert"
          name="Invert"
          what="Black and white exchanged"
          shortcut="i"
          pressed={session.inverted.value}
          onClick={() => session.setInverted(!session.inverted.peek())}
        />
        <Tool icon="flip" name="Flip" what="Mirror left and right" shortcut="f" onClick={() => session.flip()} />
        <Tool icon="rotate" name="Rotate" what="Turn by 90 degrees" shortcut="t" onClick={() => session.rotate()} />
        <Tool
          icon={playing ? "pause" : "play"}
          name={playing ? "Pause" : "Cine"}
          what="Play the slices as a film"
          shortcut=" "
          pressed={playing}
          onClick={() => {
            session.playing.value = !playing;
          }}
        />
      </div>
      {playing && (
        <Slider
          label="Slices / s"
          min={1}
          max={30}
          value={session.speed.value}
          onInput={(value) => {
            session.speed.value = value;
          }}
        />
      )}
      {session.measurements.value > 0 && (
        <div class="group wide">
          <Tool
            icon="clear"
            name="Clear measurements"
            what="Remove all measurements; Delete removes the selected one"
            onClick={() => session.clearMeasurements()}
          />
          <p class="quiet">Measurements are not stored: they end with this page.</p>
        </div>
      )}
    </div>
  );
}
