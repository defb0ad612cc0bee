/** Words and numbers for people. */

const OUTCOMES = {
  positive: "Positive at the operating point",
  negative: "Negative at the operating point",
  graded: "Graded",
  ungradable: "Cannot be graded: take the photograph again",
  out_of_scope: "Out of scope: not an input this model was made for",
  no_region: "No nodule marked yet: scroll to it and click on it",
};

const SHORT = { ungradable: "Cannot be graded", out_of_scope: "Out of scope", no_region: "No nodule marked" };

export function outcome(body) {
  if (body.status === "failed") return "Failed";
  if (body.outcome === "graded" && body.findings?.[0]) return grade(body.findings[0]);
  return OUTCOMES[body.outcome] ?? body.outcome ?? body.status;
}

function grade(finding) {
  return finding.grade === undefined ? finding.label : `Grade ${finding.grade}: ${finding.label}`;
}

/** One line for the list. */
export function summary(body) {
  if (body.status !== "completed") return body.status === "failed" ? "Failed" : `${body.status} ...`;
  if (body.outcome === "graded" && body.findings?.[0]) return body.findings[0].label;
  return SHORT[body.outcome] ?? sentence(body.outcome ?? "completed");
}

export function sentence(text) {
  return text.charAt(0).toUpperCase() + text.slice(1).replaceAll("_", " ");
}

export function model(body) {
  return body.model?.name ?? (typeof body.model === "string" ? body.model : "");
}

export function moment(time) {
  const date = new Date(time);
  return Number.isNaN(date.valueOf()) ? "" : date.toLocaleString(undefined, { dateStyle: "medium", timeStyle: "short" });
}

export function percent(value) {
  return `${(100 * value).toFixed(1)} %`;
}

export function probability(value) {
  return value.toFixed(value > 0 && value < 0.01 ? 3 : 2);
}

/** A value of a check or an error, whatever its type. */
export function plain(value) {
  if (value === null || value === undefined || value === "") return "";
  if (typeof value === "number") return String(Math.round(value * 1000) / 1000);
  if (Array.isArray(value)) return value.map(plain).join(", ");
  return typeof value === "object" ? JSON.stringify(value) : String(value);
}

/** "-1 .. 4" for a range of two numbers. */
export function limit(value) {
  return Array.isArray(value) && value.length === 2 && value.every((v) => typeof v === "number") ? value.map(plain).join(" .. ") : plain(value);
}
