/** One stack on the screen: a thin hand on cornerstone's StackViewport that speaks of pixels of the image. */

import { core, forget, imageId, ScrollTool, started, tools } from "./cornerstone";
import { type Affine, affine, agreement, apply, invert } from "./geometry";
import type { Slice } from "./slices";

export type ToolName = "WindowLevel" | "Scroll" | "Pan" | "Zoom" | "Length" | "Bidirectional" | "EllipticalROI";
const MEASURING: readonly ToolName[] = ["Length", "Bidirectional", "EllipticalROI"];
const MOVING: readonly ToolName[] = ["WindowLevel", "Scroll", "Pan", "Zoom"];

export interface Heard {
  /** The image, the view or the window were drawn. */
  drawn: () => void;
  window: (center: number, width: number) => void;
  scrolled: (steps: number) => void;
  /** How many measurements there are. */
  measured: (count: number) => void;
}

const NAME = "ct";
let made = 0;

export class CtViewport {
  readonly element: HTMLDivElement;
  private readonly engine: core.RenderingEngine;
  private readonly viewport: core.StackViewport;
  private readonly group: NonNullable<ReturnType<typeof tools.ToolGroupManager.createToolGroup>>;
  private readonly away = new AbortController();
  /** Drawn by the processor, cornerstone puts the corner of the first pixel where its centre belongs. */
  private readonly corner: number;
  private tool: ToolName = "WindowLevel";
  private ids: string[] = [];
  private held = false;

  static async on(element: HTMLDivElement, heard: Heard): Promise<CtViewport> {
    await started();
    return new CtViewport(element, heard);
  }

  private constructor(element: HTMLDivElement, heard: Heard) {
    this.element = element;
    const name = `${NAME}-${++made}`;
    this.engine = new core.RenderingEngine(name);
    this.engine.enableElement({ viewportId: name, element, type: core.Enums.ViewportType.STACK });
    // With the focus it would take every key for itself (tools/eventListeners/keyboard).
    element.removeAttribute("tabindex");
    this.viewport = this.engine.getViewport(name) as core.StackViewport;
    this.corner = core.getShouldUseCPURendering() ? 0 : 0.5;
    this.group = tools.ToolGroupManager.createToolGroup(name)!;
    for (const tool of [...MOVING, ...MEASURING]) this.group.addTool(tool, configuration(tool));
    this.group.addViewport(name, name);
    style(Number.parseFloat(getComputedStyle(element).fontSize));
    this.bind();
    ScrollTool.moved = heard.scrolled;
    const signal = { signal: this.away.signal };
    const { Events } = core.Enums;
    element.addEventListener(Events.IMAGE_RENDERED, () => heard.drawn(), signal);
    element.addEventListener(
      Events.VOI_MODIFIED,
      (event) => {
        const { range } = (event as CustomEvent<{ range: { lower: number; upper: number } }>).detail;
        const { windowCenter, windowWidth } = core.utilities.windowLevel.toWindowLevel(range.lower, range.upper);
        heard.window(windowCenter, windowWidth);
      },
      signal,
    );
    const count = () => heard.measured(tools.annotation.state.getAllAnnotations().length);
    for (const event of [tools.Enums.Events.ANNOTATION_COMPLETED, tools.Enums.Events.ANNOTATION_REMOVED]) {
      core.eventTarget.addEventListener(event, count);
      this.away.signal.addEventListener("abort", () => core.eventTarget.removeEventListener(event, count));
    }
  }

  /** The stack, by the keys of its slices, in order. */
  order(keys: readonly string[]): void {
    this.ids = keys.map(imageId);
    this.held = false;
  }

  /** Show a slice that is in memory. True when it is the first of its stack. */
  async show(index: number): Promise<boolean> {
    const fresh = !this.held;
    this.held = true;
    if (fresh) await this.viewport.setStack([...this.ids], index);
    else await this.viewport.setImageIdIndex(index);
    this.viewport.render();
    return fresh;
  }

  /** Turn the view of a stack to the one radiologists are used to. */
  settle(slice: Slice): void {
    if (agreement(this.view(slice), slice) > 1.5) return;
    let best = { score: -3, flip: false, turn: 0 };
    for (const flip of [false, true])
      for (const turn of [0, 90, 180, 270]) {
        this.place(flip, turn);
        const score = agreement(this.view(slice), slice);
        if (score > best.score + 1e-6) best = { score, flip, turn };
      }
    this.place(best.flip, best.turn);
    this.viewport.render();
  }

  /** The whole image, mirrored and turned. */
  private place(flip: boolean, turn: number): void {
    this.viewport.setCamera({ flipHorizontal: false });
    this.turn(0);
    this.viewport.resetCamera();
    if (flip) this.viewport.setCamera({ flipHorizontal: true });
    if (turn) this.turn(turn);
  }

  private turn(rotation: number): void {
    this.viewport.setViewPresentation({ rotation });
    // Drawn by the processor, places on the screen are those of the last camera.
    if (this.corner === 0) this.viewport.setCamera({ flipHorizontal: this.viewport.getCamera().flipHorizontal });
  }

  /** Where the image's pixels lie on the element, CSS pixels. */
  view(slice: Slice): Affine {
    const { position, row, column, spacing, columns, rows } = slice;
    const place = (x: number, y: number) => {
      const [u, v] = [(x - this.corner) * spacing[1], (y - this.corner) * spacing[0]];
      return this.viewport.worldToCanvas(
        [0, 1, 2].map((k) => position[k]! + u * row[k]! + v * column[k]!) as core.Types.Point3,
      );
    };
    return affine(place(0, 0), place(columns, 0), place(0, rows), columns, rows);
  }

  setWindow(center: number, width: number): void {
    const voiRange = core.utilities.windowLevel.toLowHighRange(Math.max(1, width), center);
    this.viewport.setProperties({ voiRange });
    this.viewport.render();
  }

  setInverted(inverted: boolean): void {
    this.viewport.setProperties({ invert: inverted });
    this.viewport.render();
  }

  /** Mirror about the middle of the element. */
  flip(slice: Slice): void {
    this.around(slice, () => this.viewport.setCamera({ flipHorizontal: !this.viewport.getCamera().flipHorizontal }));
  }

  /** By a quarter, clockwise on the screen, about the middle of the element. */
  rotate(slice: Slice): void {
    this.around(slice, () => this.turn((Math.round(this.viewport.getViewPresentation().rotation ?? 0) + 90) % 360));
  }

  /** Change the view and keep what lies in the middle of the element there. */
  private around(slice: Slice, change: () => void): void {
    const [X, Y] = [this.element.clientWidth / 2, this.element.clientHeight / 2];
    const [x, y] = invert(this.view(slice), X, Y);
    change();
    this.bring(x, y, X, Y, slice);
  }

  reset(slice: Slice): void {
    this.place(false, 0);
    this.settle(slice);
    this.viewport.render();
  }

  /** Zoom by a factor; the place on the element under (X, Y) stays. */
  zoom(factor: number, slice: Slice, X?: number, Y?: number): void {
    const before = this.view(slice);
    const fixed = X === undefined || Y === undefined ? null : invert(before, X, Y);
    const wanted = Math.min(100, Math.max(0.2, this.viewport.getZoom() * factor));
    this.viewport.setZoom(wanted);
    if (fixed) this.bring(fixed[0], fixed[1], X!, Y!, slice);
    this.viewport.render();
  }

  /** Move the image so that its place (x, y) lies at (X, Y) of the element. */
  bring(x: number, y: number, X: number, Y: number, slice: Slice): void {
    const [nowX, nowY] = apply(this.view(slice), x, y);
    const from = this.viewport.canvasToWorld([X, Y]);
    const to = this.viewport.canvasToWorld([nowX, nowY]);
    const { focalPoint, position } = this.viewport.getCamera();
    if (!focalPoint || !position) return;
    const moved = (point: core.Types.Point3) => point.map((value, k) => value + to[k]! - from[k]!) as core.Types.Point3;
    this.viewport.setCamera({ focalPoint: moved(focalPoint), position: moved(position) });
    this.viewport.render();
  }

  /** Show a box of the image as large as `share` of the element. */
  frame(box: readonly [number, number, number, number], share: number, slice: Slice): void {
    const [X, Y] = [this.element.clientWidth, this.element.clientHeight];
    const t = this.view(slice);
    const [x, y] = [(box[0] + box[2]) / 2, (box[1] + box[3]) / 2];
    const size = Math.max(Math.hypot(t.a, t.b) * (box[2] - box[0]), Math.hypot(t.c, t.d) * (box[3] - box[1]));
    this.zoom((share * Math.min(X, Y)) / size, slice);
    this.bring(x, y, X / 2, Y / 2, slice);
  }

  setTool(tool: ToolName): void {
    this.group.setToolPassive(this.tool, { removeAllBindings: true });
    this.tool = tool;
    this.bind();
  }

  /** Left button: the chosen tool; middle: pan; right: zoom. Measurements stay editable. */
  private bind(): void {
    const { MouseBindings } = tools.Enums;
    for (const tool of MEASURING) this.group.setToolPassive(tool, { removeAllBindings: true });
    for (const tool of MOVING) this.group.setToolPassive(tool, { removeAllBindings: true });
    const buttons: [ToolName, number][] = [
      [this.tool, MouseBindings.Primary],
      ["Pan", MouseBindings.Auxiliary],
      ["Zoom", MouseBindings.Secondary],
    ];
    for (const [tool, mouseButton] of buttons) this.group.setToolActive(tool, { bindings: [{ mouseButton }] });
  }

  /** Remove the measurements that are selected; all of them where none is. */
  clear(onlySelected: boolean): void {
    const state = tools.annotation.state;
    const chosen = tools.annotation.selection.getAnnotationsSelected();
    if (onlySelected) for (const uid of chosen) state.removeAnnotation(uid);
    else state.removeAllAnnotations();
    this.viewport.render();
  }

  /** True while something is being drawn that Escape should end. */
  cancel(): boolean {
    return tools.cancelActiveManipulations(this.element) !== undefined;
  }

  /** Follow the element's size: the whole image stays whole, else the place `middle` of the image stays in the middle. */
  resize(slice: Slice | null, middle: [number, number] | null): void {
    const flip = this.viewport.getCamera().flipHorizontal === true;
    const turn = this.viewport.getViewPresentation().rotation ?? 0;
    this.engine.resize(true, middle !== null);
    if (!slice) return;
    if (!middle) {
      this.place(flip, turn);
      this.viewport.render();
    } else this.bring(middle[0], middle[1], this.element.clientWidth / 2, this.element.clientHeight / 2, slice);
  }

  get cpu(): boolean {
    return this.corner === 0;
  }

  destroy(): void {
    this.away.abort();
    ScrollTool.moved = () => {};
    tools.ToolGroupManager.destroyToolGroup(this.group.id);
    this.engine.destroy();
    forget();
  }
}

/** Measurements in the page's size of text, on a ground that keeps them readable. */
function style(size: number): void {
  const { style } = tools.annotation.config;
  const now = style.getDefaultToolStyles();
  const global = {
    ...now.global,
    lineWidth: String(size / 9),
    textBoxFontSize: `${size}px`,
    textBoxBackground: "rgba(0, 0, 0, 0.65)",
    textBoxFontFamily: 'system-ui, "DejaVu Sans", sans-serif',
  };
  style.setDefaultToolStyles({ ...now, global });
}

interface Figures {
  area?: number;
  mean?: number;
  stdDev?: number;
  areaUnit?: string;
  modalityUnit?: string;
}

function configuration(tool: ToolName): object {
  if (tool !== "EllipticalROI") return {};
  return {
    getTextLines: (data: { cachedStats: Record<string, Figures> }, target: string) => {
      const found = data.cachedStats[target];
      if (!found || found.mean === undefined) return [];
      const unit = found.modalityUnit ?? "";
      return [
        `mean ${found.mean.toFixed(0)} ${unit}`,
        `SD ${(found.stdDev ?? 0).toFixed(0)} ${unit}`,
        `${(found.area ?? 0).toFixed(0)} ${found.areaUnit ?? ""}`,
      ];
    },
  };
}
