/** What was dropped or chosen, sorted into analyses: every photograph alone, everything else together. */

const PHOTOGRAPH = /\.(png|jpe?g|tiff?)$/i;
const CLUTTER = /^(\..*|Thumbs\.db|desktop\.ini|DICOMDIR)$/i;

export interface Job {
  title: string;
  files: File[];
  photograph: boolean;
}

/** All files of a drop, with those inside folders. */
export async function dropped(transfer: DataTransfer): Promise<File[]> {
  const entries = [...transfer.items].map((item) => item.webkitGetAsEntry?.()).filter((entry) => entry !== null);
  if (entries.length === 0) return [...transfer.files];
  return (await Promise.all(entries.map(inside))).flat();
}

async function inside(entry: FileSystemEntry): Promise<File[]> {
  if (entry.isFile)
    return [await new Promise<File>((resolve, reject) => (entry as FileSystemFileEntry).file(resolve, reject))];
  const reader = (entry as FileSystemDirectoryEntry).createReader();
  const found: FileSystemEntry[] = [];
  for (;;) {
    // A reader hands out a folder in portions and ends with an empty one.
    const portion = await new Promise<FileSystemEntry[]>((resolve, reject) => reader.readEntries(resolve, reject));
    if (portion.length === 0) return (await Promise.all(found.map(inside))).flat();
    found.push(...portion);
  }
}

/** Analyses to send. */
export function sorted(files: readonly File[]): Job[] {
  const wanted = files.filter((file) => !CLUTTER.test(file.name));
  const photographs = wanted.filter((file) => PHOTOGRAPH.test(file.name));
  const others = wanted.filter((file) => !PHOTOGRAPH.test(file.name));
  const jobs = photographs.map((file) => ({ title: file.name, files: [file], photograph: true }));
  if (others.length > 0) {
    const title = others.length === 1 ? others[0]!.name : `${others.length} files`;
    jobs.unshift({ title, files: others, photograph: false });
  }
  return jobs;
}
