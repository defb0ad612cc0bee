/** The picture of a finding with its response maps: kind, opacity, scale, legend and, for a CT, the slice. */

import { mapArrays, mapPicture } from "./api.js";
import { Pictures, h, segments, slider } from "./dom.js";
import { probability } from "./words.js";

const KINDS = { clear: "CLEAR", "two-sided": "Two-sided" };

/**
 * Two pictures lie on each other: the plain image (overlay 0) and the full map over it (overlay 1). The service's blend is
 * linear in the overlay, so the opacity of the upper one gives exactly the picture the service would draw.
 */
export function pictureOf(finding, classes) {
  const hrefs = finding.evidence.maps;
  const kinds = Object.keys(hrefs).sort((a, b) => order(a) - order(b));
  const slices = finding.slices ?? [];
  const pictures = new Pictures();
  const state = { kind: kinds[0], scale: "per_image", legend: true, slice: slices.length > 0 ? firstSlice(finding) : null };
  let opacity = 0.7;

  const stack = h("div", { class: "stack", role: "img" });
  const trouble = h("p", { class: "notice failed", role: "alert", hidden: true });
  const arrays = h("a", { class: "button" }, "Arrays (npz)");
  const image = h("a", { class: "button", download: true }, "Picture (PNG)");

  const classOf = (kind) => classes.find((one) => `class-${one.name}` === kind);
  const named = (kind) => KINDS[kind] ?? classOf(kind)?.label ?? kind.replace(/^class-/, "");

  let newest = 0;
  async function draw() {
    const mine = ++newest;
    // With a legend one picture pixel is one CSS pixel, so that its text keeps its size; else every screen pixel counts.
    const width = (stack.clientWidth || 560) * (state.legend ? 1 : devicePixelRatio);
    const size = Math.min(1536, Math.max(320, Math.ceil(width / 32) * 32));
    const address = (overlay) => mapPicture(hrefs[state.kind], { ...state, overlay, size });
    const where = state.slice === null ? "" : `, slice ${state.slice + 1} of ${slices.length}`;
    stack.setAttribute("aria-label", `${named(state.kind)} response map over the image${where}. The map's numbers stand beside it.`);
    arrays.href = mapArrays(hrefs[state.kind]);
    image.href = address(opacity);
    stack.setAttribute("aria-busy", "true");
    try {
      const [below, above] = await Promise.all([pictures.get(address(0)), pictures.get(address(1))]);
      if (mine !== newest) return;
      trouble.hidden = true;
      above.classList.add("over");
      above.style.opacity = opacity;
      stack.replaceChildren(below, above);
    } catch {
      if (mine !== newest) return;
      trouble.textContent = "The picture could not be loaded. Choose the map again, or reload the page.";
      trouble.hidden = false;
    }
    stack.removeAttribute("aria-busy");
  }

  const set = (change) => {
    Object.assign(state, change);
    draw();
  };
  const fade = slider("Map opacity", { min: 0, max: 100, value: 100 * opacity }, (value) => `${value} %`, (value) => {
    opacity = value / 100;
    const above = stack.querySelector(".over");
    if (above) above.style.opacity = opacity;
    image.href = mapPicture(hrefs[state.kind], { ...state, overlay: opacity, size: 768 });
  });
  const legend = h("input", { type: "checkbox", checked: true, on: { change: (event) => set({ legend: event.target.checked }) } });
  const chooser = slices.length > 1 ? sliceChooser(slices, classes, state.slice, (slice) => set({ slice })) : null;

  const element = h(
    "section",
    { class: "picture", "aria-label": "Picture with response map" },
    segments("Map", `kind-${finding.id}`, kinds.map((kind) => [kind, named(kind), classOf(kind)?.color]), state.kind, (kind) => set({ kind })),
    fade.element,
    chooser,
    stack,
    trouble,
    h(
      "div",
      { class: "row" },
      segments("Scale", `scale-${finding.id}`, [["per_image", "This image"], ["per_model", "Comparable"]], state.scale, (scale) => set({ scale })),
      h("label", { class: "check" }, legend, "Legend"),
      h("span", { class: "row downloads" }, image, arrays),
    ),
  );
  // Drawn when it is on the page, so that its width is known.
  requestAnimationFrame(draw);
  return element;
}

function order(kind) {
  return kind === "clear" ? 0 : kind === "two-sided" ? 2 : 1;
}

function firstSlice(finding) {
  const { evidence, location, slices } = finding;
  if (Number.isInteger(evidence.peak_slice) && evidence.peak_slice < slices.length) return evidence.peak_slice;
  const at = slices.findIndex((slice) => slice.sop_instance_uid === location?.sop_instance_uid);
  return at >= 0 ? at : Math.floor(slices.length / 2);
}

/** A slider through the slices, under bars that show each slice's probabilities. */
function sliceChooser(slices, classes, first, change) {
  const bars = slices.map((slice, number) => {
    const parts = Object.entries(slice.probabilities);
    const words = parts.map(([name, p]) => `${classes.find((one) => one.name === name)?.label ?? name} ${probability(p)}`).join(", ");
    return h(
      "button",
      { type: "button", class: "bar", title: `Slice ${number + 1}: ${words}`, "aria-label": `Slice ${number + 1}: ${words}`, on: { click: () => choose(number) } },
      parts.map(([name, p]) => h("span", { style: { "flex-grow": p, "background-color": classes.find((one) => one.name === name)?.color ?? "gray" } })),
    );
  });
  const slide = slider("Slice", { min: 1, max: slices.length, value: first + 1 }, (value) => `${value} of ${slices.length}`, (value) => choose(value - 1));

  function mark(number) {
    bars.forEach((bar, k) => bar.setAttribute("aria-pressed", k === number));
    slide.show(number + 1);
  }
  function choose(number) {
    mark(number);
    change(number);
  }
  mark(first);
  return h("div", { class: "slices" }, h("div", { class: "bars", role: "group", "aria-label": "Probabilities slice by slice" }, bars), slide.element);
}
