/** A CT series to scroll through and to mark a nodule in. */

import { slicePicture } from "./api.js";
import { Pictures, h, segments, slider } from "./dom.js";

const WINDOWS = [["-600,1500", "Lung"], ["40,400", "Soft tissue"]];
const WHEEL_STEP = 40;
const NUDGE_PX = 4;

/**
 * @param {Object} input `input` of an Analysis body: study, series, instances (SOP Instance UIDs in stack order)
 * @param {function} marked called with {sop_instance_uid, center_px: [column, row]} of the place that was marked
 */
export function seriesOf(input, marked) {
  const count = input.instances.length;
  const pictures = new Pictures(160);
  let at = Math.floor(count / 2);
  let window = WINDOWS[0][0].split(",").map(Number);
  let size = null; // [columns, rows] of the picture on the page
  let mark = null; // {slice, column, row}

  const cross = h("span", { class: "mark", hidden: true });
  const frame = h("div", { class: "frame" }, cross);
  const trouble = h("p", { class: "notice failed", role: "alert", hidden: true });
  const stage = h(
    "div",
    {
      class: "stage",
      tabindex: 0,
      role: "application",
      "aria-label": "CT series. Up and down arrows change the slice, Shift with arrows moves the mark, Enter analyses the marked place.",
    },
    frame,
  );
  const slide = slider("Slice", { min: 1, max: count, value: at + 1 }, (value) => `${value} of ${count}`, (value) => go(value - 1));

  const address = (number) => slicePicture(input, input.instances[number], window);

  async function draw() {
    const wanted = address(at);
    try {
      const picture = await pictures.get(wanted);
      if (wanted !== address(at)) return;
      trouble.hidden = true;
      picture.alt = `CT slice ${at + 1} of ${count}`;
      picture.draggable = false;
      size = [picture.naturalWidth, picture.naturalHeight];
      frame.replaceChildren(picture, cross);
      showMark();
      for (const next of [at + 1, at - 1, at + 2, at - 2]) {
        if (next >= 0 && next < count) pictures.get(address(next)).catch(() => {}); // a failure shows when the slice is asked for
      }
    } catch {
      if (wanted !== address(at)) return;
      trouble.textContent = "This slice could not be loaded.";
      trouble.hidden = false;
    }
  }

  function go(number) {
    at = Math.min(count - 1, Math.max(0, number));
    slide.show(at + 1);
    draw();
  }

  function showMark() {
    cross.hidden = mark === null || mark.slice !== at;
    if (cross.hidden) return;
    cross.style.left = `${(100 * (mark.column + 0.5)) / size[0]}%`;
    cross.style.top = `${(100 * (mark.row + 0.5)) / size[1]}%`;
  }

  function set(column, row) {
    const inside = (value, length) => Math.round(10 * Math.min(length - 1, Math.max(0, value))) / 10;
    mark = { slice: at, column: inside(column, size[0]), row: inside(row, size[1]) };
    showMark();
  }

  function done() {
    marked({ sop_instance_uid: input.instances[mark.slice], center_px: [mark.column, mark.row] });
  }

  frame.addEventListener("click", (event) => {
    if (!size) return;
    const box = frame.getBoundingClientRect();
    // Pixel centres lie at whole numbers (DICOM PS3.3 C.7.6.2.1.1).
    set(((event.clientX - box.left) / box.width) * size[0] - 0.5, ((event.clientY - box.top) / box.height) * size[1] - 0.5);
    done();
  });

  let turned = 0;
  stage.addEventListener(
    "wheel",
    (event) => {
      event.preventDefault();
      turned += event.deltaMode === 0 ? event.deltaY : event.deltaY * WHEEL_STEP;
      const steps = Math.trunc(turned / WHEEL_STEP);
      turned -= steps * WHEEL_STEP;
      if (steps !== 0) go(at + steps);
    },
    { passive: false },
  );

  stage.addEventListener("keydown", (event) => {
    const direction = { ArrowUp: [0, -1], ArrowDown: [0, 1], ArrowLeft: [-1, 0], ArrowRight: [1, 0] }[event.key];
    const slice = { ArrowUp: at - 1, ArrowDown: at + 1, PageUp: at - 10, PageDown: at + 10, Home: 0, End: count - 1 }[event.key];
    if (direction && event.shiftKey && size) {
      const from = mark?.slice === at ? mark : { column: (size[0] - 1) / 2, row: (size[1] - 1) / 2 };
      set(from.column + NUDGE_PX * direction[0], from.row + NUDGE_PX * direction[1]);
    } else if (slice !== undefined) go(slice);
    else if (event.key === "Enter" && mark?.slice === at) done();
    else return;
    event.preventDefault();
  });

  draw();
  return h(
    "section",
    { class: "series", "aria-label": "Mark a nodule" },
    h("p", {}, "Scroll to the nodule and click on its middle. Keys: ", h("kbd", {}, "Up"), " ", h("kbd", {}, "Down"), " slice, ", h("kbd", {}, "Shift"), "+arrows mark, ", h("kbd", {}, "Enter"), " analyse."),
    stage,
    trouble,
    slide.element,
    segments("Window", "window", WINDOWS, WINDOWS[0][0], (value) => {
      window = value.split(",").map(Number);
      draw();
    }),
  );
}
