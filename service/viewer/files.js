/** What was dropped or chosen, sorted into analyses: every photograph alone, everything else together. */

const PHOTOGRAPH = /\.(png|jpe?g|tiff?)$/i;
const CLUTTER = /^(\..*|Thumbs\.db|desktop\.ini|DICOMDIR)$/i;

/** All files of a drop, with those inside folders. */
export async function dropped(transfer) {
  const entries = [...transfer.items].map((item) => item.webkitGetAsEntry?.()).filter(Boolean);
  if (entries.length === 0) return [...transfer.files];
  return (await Promise.all(entries.map(inside))).flat();
}

async function inside(entry) {
  if (entry.isFile) return [await new Promise((resolve, reject) => entry.file(resolve, reject))];
  const reader = entry.createReader();
  const found = [];
  for (;;) {
    // A reader hands out a folder in portions and ends with an empty one.
    const portion = await new Promise((resolve, reject) => reader.readEntries(resolve, reject));
    if (portion.length === 0) return (await Promise.all(found.map(inside))).flat();
    found.push(...portion);
  }
}

/** Analyses to send: [{title, files}]. */
export function sorted(files) {
  const wanted = files.filter((file) => !CLUTTER.test(file.name));
  const photographs = wanted.filter((file) => PHOTOGRAPH.test(file.name));
  const others = wanted.filter((file) => !PHOTOGRAPH.test(file.name));
  const jobs = photographs.map((file) => ({ title: file.name, files: [file] }));
  if (others.length > 0) jobs.unshift({ title: others.length === 1 ? others[0].name : `${others.length} files`, files: others });
  return jobs;
}
