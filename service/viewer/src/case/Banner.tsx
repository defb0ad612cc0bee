/** Whose images these are: name, ID, birth date, sex; study date, description, accession number. And which analysis is shown. */

import { onlyNamed, summary } from "../panel/others";
import { dicomDate, EYES, moment, outcome, personName, SEXES } from "../words";
import { analysis, current, series, showAnalysis } from "./state";

export function Banner() {
  const now = current.value;
  if (!now) return null;
  const { info } = now;
  const born = info?.patient.birth_date ? dicomDate(info.patient.birth_date) : "";
  return (
    <section class="banner" aria-label="Patient and study">
      {info ? (
        <>
          <strong class="name">{personName(info.patient.name) || "No patient name"}</strong>
          <dl>
            <Fact name="ID" value={info.patient.id || "none"} />
            <Fact name="Born" value={born || "unknown"} />
            <Fact name="Sex" value={SEXES[info.patient.sex] ?? (info.patient.sex || "unknown")} />
            <Fact
              name="Study"
              value={[dicomDate(info.study_date), info.description].filter(Boolean).join(" ") || "no date"}
            />
            <Fact name="Accession" value={info.accession || "none"} />
          </dl>
        </>
      ) : (
        <>
          <strong class="name">No patient</strong>
          <span class="quiet">An image file without a DICOM header.</span>
        </>
      )}
      <Chooser />
    </section>
  );
}

function Fact(props: { name: string; value: string }) {
  return (
    <div>
      <dt>{props.name}</dt>
      <dd>{props.value}</dd>
    </div>
  );
}

/** Analyses of the case, and its series that have none. */
function Chooser() {
  const now = current.value;
  if (!now) return null;
  const done = new Set(now.analyses.map((one) => one.input.series));
  const loose = now.series.filter((one) => !done.has(one.series));
  const describe = (uid: string) => now.series.find((one) => one.series === uid)?.description ?? "";
  const options = [
    ...now.analyses.map((one) => ({
      value: one.id,
      label: [
        EYES[one.input.laterality] ?? describe(one.input.series),
        one.findings.length > 1 || onlyNamed(one) ? summary(one) : outcome(one),
        moment(one.created),
        one.superseded_by && "replaced",
      ]
        .filter(Boolean)
        .join(" · "),
    })),
    ...loose.map((one) => ({
      value: `series:${one.series}`,
      label: `${one.modality} ${one.description || one.series} (${one.instances} images) · not analysed`,
    })),
  ];
  if (options.length < 2) return null;
  return (
    <label class="chooser">
      <span>Shown</span>
      <select
        value={analysis.value?.id ?? `series:${series.value}`}
        onChange={(event) => showAnalysis(event.currentTarget.value)}
      >
        {options.map((option) => (
          <option key={option.value} value={option.value}>
            {option.label}
          </option>
        ))}
      </select>
    </label>
  );
}
