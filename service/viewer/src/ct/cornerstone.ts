/** cornerstone3D for this page: its start, the images it is given, and the tools it offers. Nothing is fetched by it. */

import * as core from "@cornerstonejs/core";
import * as tools from "@cornerstonejs/tools";
import type { Values } from "./hu";
import type { Slice } from "./slices";

const SCHEME = "pellucid";
/** Decoded slices that are kept: about 1000 of 512 x 512. */
export const MOST_BYTES = 512 * 1024 * 1024;

const known = new Map<string, Slice>();
let starting: Promise<void> | null = null;

/** Ready to draw; without WebGL it draws with the processor. */
export function started(): Promise<void> {
  starting ??= start();
  return starting;
}

async function start(): Promise<void> {
  await core.init({ rendering: { webGlContextCount: 1 } } as Parameters<typeof core.init>[0]);
  await tools.init();
  core.Settings.getRuntimeSettings().set("useCursors", false); // its cursors are SVG with inline styles
  core.cache.setMaxCacheSize(MOST_BYTES);
  core.imageLoader.registerImageLoader(SCHEME, () => ({
    promise: Promise.reject(new Error("images are put into the cache before they are shown")),
  }));
  core.metaData.addProvider(metadata, 100);
  for (const tool of [
    tools.WindowLevelTool,
    tools.PanTool,
    tools.ZoomTool,
    tools.LengthTool,
    tools.BidirectionalTool,
    tools.EllipticalROITool,
    ScrollTool,
  ])
    tools.addTool(tool);
}

export function imageId(key: string): string {
  return `${SCHEME}:${key}`;
}

export function isThere(key: string): boolean {
  return core.cache.isLoaded(imageId(key)) === true;
}

/** Values of a slice that is in memory, row by row. */
export function valuesOf(key: string): ArrayLike<number> | null {
  const image = core.cache.getImage(imageId(key)) as { hounsfield?: ArrayLike<number> } | undefined;
  return image?.hounsfield ?? null;
}

/** Take a decoded slice into memory; the one that was not looked at for the longest time makes room. */
export function keep(slice: Slice, { values, lowest, highest }: Values): void {
  if (isThere(slice.key)) return;
  known.set(imageId(slice.key), slice);
  const voxels = core.utilities.VoxelManager.createImageVoxelManager({
    width: slice.columns,
    height: slice.rows,
    scalarData: values,
    numberOfComponents: 1,
  });
  const window = slice.window ?? { center: -600, width: 1500 };
  const image = {
    imageId: imageId(slice.key),
    hounsfield: values,
    minPixelValue: lowest,
    maxPixelValue: Math.max(highest, lowest + 1), // an image of one value has a range, too
    slope: 1,
    intercept: 0,
    windowCenter: window.center,
    windowWidth: window.width,
    voiLUTFunction: core.Enums.VOILUTFunctionType.LINEAR,
    rows: slice.rows,
    columns: slice.columns,
    height: slice.rows,
    width: slice.columns,
    color: false,
    rgba: false,
    numberOfComponents: 1,
    columnPixelSpacing: slice.spacing[1],
    rowPixelSpacing: slice.spacing[0],
    invert: false,
    sizeInBytes: values.byteLength,
    getPixelData: () => values,
    dataType: values.constructor.name,
    voxelManager: voxels,
  };
  core.cache.putImageSync(imageId(slice.key), image as unknown as Parameters<typeof core.cache.putImageSync>[1]);
}

/** Free all images and what was measured on them. */
export function forget(): void {
  tools.annotation.state.removeAllAnnotations();
  core.cache.purgeCache();
  known.clear();
}

function metadata(type: string, id: string): unknown {
  const slice = known.get(id);
  if (!slice) return undefined;
  switch (type) {
    case "imagePlaneModule":
      return {
        frameOfReferenceUID: slice.frameOfReference,
        rows: slice.rows,
        columns: slice.columns,
        imageOrientationPatient: [...slice.row, ...slice.column],
        rowCosines: slice.row,
        columnCosines: slice.column,
        imagePositionPatient: slice.position,
        pixelSpacing: slice.spacing,
        rowPixelSpacing: slice.spacing[0],
        columnPixelSpacing: slice.spacing[1],
        sliceThickness: slice.thickness ?? undefined,
        usingDefaultValues: !slice.measured,
      };
    case "imagePixelModule": // of what is given, not of what was stored
      return {
        samplesPerPixel: 1,
        photometricInterpretation: "MONOCHROME2",
        rows: slice.rows,
        columns: slice.columns,
        bitsAllocated: 16,
        bitsStored: 16,
        highBit: 15,
        pixelRepresentation: 1,
      };
    case "generalSeriesModule":
      return { modality: slice.modality };
    case "generalImageModule":
      return { sopInstanceUID: slice.uid, instanceNumber: slice.number };
    default:
      return undefined;
  }
}

/** Drag up and down through the stack. */
export class ScrollTool extends tools.BaseTool {
  static override toolName = "Scroll";
  /** Hears how many steps down the screen the mouse went. */
  static moved: (steps: number) => void = () => {};
  private left = 0;

  preMouseDownCallback = (): boolean => {
    this.left = 0;
    return false;
  };

  mouseDragCallback(event: { detail: { deltaPoints: { canvas: number[] } } }): void {
    this.left += event.detail.deltaPoints.canvas[1]! / 6;
    const steps = Math.trunc(this.left);
    if (steps) ScrollTool.moved(steps);
    this.left -= steps;
  }
}

export { core, tools };
