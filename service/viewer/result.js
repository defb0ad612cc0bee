/** One analysis on the page: what was decided, how sure, on which evidence, and what was wrong with the input. */

import { Problem, classes as classesOf, place } from "./api.js";
import { h } from "./dom.js";
import { pictureOf } from "./picture.js";
import { seriesOf } from "./series.js";
import { limit, model, moment, outcome, percent, plain, probability, sentence } from "./words.js";

/** A problem as the service described it. */
export function problemNotice(problem) {
  return h(
    "div",
    { class: "notice failed", role: "alert" },
    h("strong", {}, problem.title),
    problem.detail && h("p", {}, problem.detail),
    problem.errors.length > 0 &&
      h(
        "ul",
        {},
        problem.errors.map((one) => {
          return h("li", {}, [one.where, one.message].filter(Boolean).join(": "), measured(one));
        }),
      ),
  );
}

/** " (found 12, allowed 0.4 .. 3)" of a check or an error, as far as it has numbers. */
function measured({ value, limit: allowed }) {
  const numbers = [plain(value) && `found ${plain(value)}`, limit(allowed) && `allowed ${limit(allowed)}`].filter(Boolean).join(", ");
  return numbers && h("span", { class: "quiet" }, ` (${numbers})`);
}

/**
 * Put an analysis that has ended on the page.
 * @param {HTMLElement} main
 * @param {Object} body the Analysis body
 * @param {Object} hands `files()` the files it was made from or null, `keep(files)`, `mark(files, region)`
 */
export async function showResult(main, body, hands) {
  const classes = model(body) ? await classesOf(model(body)) : [];
  const isSeries = Boolean(body.input?.study && body.input.series && body.input.modality === "CT");
  const parts = [
    heading(body),
    body.error && problemNotice(new Problem(body.error)),
    quality(body.quality),
    ...body.findings.map((finding, number) => findingPart(finding, classes, number, body.findings.length)),
    isSeries && body.status === "completed" && body.outcome !== "out_of_scope" && marking(body, hands),
    details(body),
  ];
  main.replaceChildren(...parts.filter(Boolean));
}

function heading(body) {
  const name = model(body);
  const verdict = body.quality;
  return h(
    "section",
    { class: "heading" },
    h("h1", { class: body.outcome ?? body.status }, outcome(body)),
    h(
      "p",
      { class: "quiet" },
      name && h("a", { href: body.model.card ?? `/v2/models/${encodeURIComponent(name)}/card`, target: "_blank", rel: "noopener" }, `${name} ${body.model.version ?? ""}`),
      name && ", ",
      [verdict && `quality ${verdict.gradable ? "sufficient" : "insufficient"} (${plain(verdict.score)})`, body.input?.laterality && `eye ${body.input.laterality}`, moment(body.created), body.timing_ms?.total && `${Math.round(body.timing_ms.total)} ms`].filter(Boolean).join(", "),
    ),
    ...(body.warnings ?? []).map((text) => h("p", { class: "notice warn" }, text)),
    h("p", { class: "disclaimer" }, body.disclaimer),
  );
}

function quality(verdict) {
  if (!verdict || (verdict.gradable && verdict.reasons.length === 0)) return null;
  return h(
    "section",
    { class: `notice ${verdict.gradable ? "warn" : "failed"}`, "aria-label": "Quality" },
    h("strong", {}, verdict.gradable ? "Usable, with remarks" : "Not usable"),
    h("ul", {}, verdict.reasons.map((reason) => h("li", {}, reason.message, reason.retake && h("span", { class: "retake" }, reason.retake)))),
  );
}

function findingPart(finding, classes, number, count) {
  const hasMaps = Object.keys(finding.evidence?.maps ?? {}).length > 0;
  return h(
    "article",
    { class: hasMaps ? "finding" : "finding bare", "aria-label": `Finding ${finding.id}` },
    count > 1 && h("h2", {}, `${number + 1}. ${finding.id}: ${finding.label}`),
    hasMaps && pictureOf(finding, classes),
    h(
      "div",
      { class: "facts" },
      decision(finding),
      referable(finding),
      probabilities(finding, classes),
      evidence(finding, classes),
      whereabouts(finding),
    ),
  );
}

function decision(finding) {
  const point = finding.operating_point;
  if (!point) return null;
  const score = point.score === undefined ? "" : `Score ${probability(point.score)}, threshold ${probability(point.threshold)}.`;
  return h(
    "section",
    {},
    h("h3", {}, "Decision"),
    h("p", { class: `verdict ${point.decision}` }, `${sentence(String(point.decision))} at "${point.name}"`),
    h("p", {}, score || `Threshold ${probability(point.threshold)}.`),
    h("p", {}, `Sensitivity ${percent(point.sensitivity)}, specificity ${percent(point.specificity)} (n = ${point.n}${point.data_set ? `, ${point.data_set}` : ""}).`),
  );
}

const REFERRALS = { mtmDR: "More than mild retinopathy", vtDR: "Vision-threatening retinopathy" };

function referable(finding) {
  if (!finding.referable) return null;
  return h(
    "section",
    {},
    h("h3", {}, "Referral"),
    h("ul", { class: "plain" }, Object.entries(finding.referable).map(([name, value]) => h("li", {}, `${REFERRALS[name] ?? name} (${name}): `, h("strong", {}, value ? "yes" : "no")))),
  );
}

/** Rows of a label, a bar in the class's colour and a number. */
function bars(values, classes, say) {
  const order = classes.length > 0 ? classes.filter((one) => one.name in values) : Object.keys(values).map((name) => ({ name, label: name }));
  return h(
    "dl",
    { class: "shares" },
    order.flatMap((one) => [
      h("dt", {}, one.label),
      h(
        "dd",
        {},
        h("span", { class: "track", "aria-hidden": "true" }, h("span", { style: { width: `${100 * values[one.name]}%`, "background-color": one.color ?? "gray" } })),
        h("span", { class: "number" }, say(values[one.name])),
      ),
    ]),
  );
}

function probabilities(finding, classes) {
  return h("section", {}, h("h3", {}, "Probabilities"), bars(finding.probabilities, classes, probability));
}

function evidence(finding, classes) {
  const about = finding.evidence ?? {};
  if (Object.keys(about.dominant_class_share ?? {}).length === 0) return null;
  const alike = about.class_correlation;
  return h(
    "details",
    {},
    h("summary", {}, "Evidence in numbers"),
    h("p", {}, "Share of each class in the dominant response:"),
    bars(about.dominant_class_share, classes, percent),
    typeof alike === "number" && h("p", {}, `Correlation of the classes' maps: ${alike.toFixed(2)} (1 = the maps say nothing about the class).`),
    about.rule && h("p", {}, `Rule ${about.rule}, start ${about.start}.`),
    about.scale && typeof about.scale === "object" && h("p", {}, `Full strength: ${plain(about.scale.per_image)} in this image, ${plain(about.scale.per_model)} on the comparable scale.`),
  );
}

function whereabouts(finding) {
  const at = finding.location;
  if (!at) return null;
  const rows = [
    ["Finding", finding.id],
    ["Tracking UID", finding.tracking_uid],
    ["SOP Instance UID", at.sop_instance_uid],
    ["Centre, mm", at.center_mm && at.center_mm.map((v) => v.toFixed(1)).join(", ")],
    ["Diameter, mm", at.diameter_mm && at.diameter_mm.toFixed(1)],
  ];
  return h("details", {}, h("summary", {}, "Where"), table(rows));
}

function table(rows) {
  return h("dl", { class: "table" }, rows.filter(([, value]) => plain(value)).flatMap(([name, value]) => [h("dt", {}, name), h("dd", {}, plain(value))]));
}

/** The series to mark a nodule in; open at once when nothing was marked yet, else behind a button. */
function marking(body, hands) {
  const waiting = h("div", { "aria-live": "polite" });
  const open = () => {
    button.remove();
    part.prepend(
      seriesOf(body.input, (region) => {
        const files = hands.files();
        if (files) hands.mark(files, region);
        else waiting.replaceChildren(filesAgain((found) => { hands.keep(found); hands.mark(found, region); }));
      }),
    );
  };
  const button = h("button", { type: "button", on: { click: open } }, "Mark another nodule");
  const part = h("section", { class: "marking" }, button, waiting);
  if (body.outcome === "no_region") open();
  return part;
}

/** Ask for the files of an analysis that was not sent from this page. */
function filesAgain(found) {
  const chooser = (text, folder) => {
    const input = h("input", { type: "file", multiple: !folder, webkitdirectory: folder });
    input.addEventListener("change", () => input.files.length > 0 && found([...input.files]));
    return h("label", { class: "button" }, text, input);
  };
  return h(
    "div",
    { class: "notice warn", role: "alert" },
    h("strong", {}, "Choose the files of this CT again"),
    h("p", {}, "The place is marked, but the files were not sent from this page (or it was reloaded since)."),
    h("div", { class: "row" }, chooser("Choose files", false), chooser("Choose a folder", true)),
  );
}

function checkRow(check) {
  return h("li", { class: check.result }, h("span", { class: "result" }, check.result), h("span", {}, check.message || sentence(check.id), measured(check)));
}

function details(body) {
  const checks = body.input?.checks ?? [];
  const bad = checks.some((check) => check.result !== "pass");
  const verdict = body.quality;
  return h(
    "section",
    { class: "details", "aria-label": "Details" },
    checks.length > 0 && h("details", { open: bad }, h("summary", {}, `Input checks (${checks.filter((c) => c.result === "pass").length} of ${checks.length} passed)`), h("ul", { class: "checks" }, checks.map(checkRow))),
    h(
      "details",
      {},
      h("summary", {}, "Input and model"),
      table([
        ["Analysis", body.id],
        ["Modality", body.input?.modality],
        ["Images", body.input?.instances?.length],
        ["Study", body.input?.study],
        ["Series", body.input?.series],
        ["Quality", verdict && `${verdict.code?.meaning ?? (verdict.gradable ? "gradable" : "not gradable")}, score ${plain(verdict.score)}`],
        ["Model", model(body)],
        ["Version", body.model?.version],
        ["Weights, SHA-256", body.model?.sha256],
        ["Device UID", body.model?.device_uid],
        ...Object.entries(body.timing_ms ?? {}).map(([stage, ms]) => [`Time, ${stage}`, `${Math.round(ms)} ms`]),
      ]),
    ),
    h(
      "p",
      { class: "row downloads" },
      h("a", { class: "button", href: place(body.id), download: `analysis-${body.id}.json` }, "Analysis (JSON)"),
      ...(body.objects ?? []).map((object) => h("a", { class: "button", href: object.href, download: true }, `DICOM ${object.kind}`)),
    ),
  );
}
