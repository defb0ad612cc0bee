import { expect, it, vi } from "vitest";

const closed: number[] = [];
let made = 0;

class StubWorker {
  readonly id = made++;
  postMessage() {}
  terminate() {
    closed.push(this.id);
  }
}

it("a photograph that is still shown keeps its worker, however many others are looked at", async () => {
  vi.stubGlobal("Worker", StubWorker);
  vi.stubGlobal("createImageBitmap", async () => ({ width: 40, height: 30 }));
  vi.stubGlobal("fetch", async () => new Response("picture"));
  const { photograph } = await import("../src/fundus/photograph");
  const shown = photograph(["/0"]);
  await shown.photograph;
  for (let k = 1; k < 7; k++) {
    const other = photograph([`/${k}`]);
    await other.photograph;
    other.release();
  }
  await Promise.resolve();
  expect(closed).toEqual([1, 2, 3]); // the shown one and the last three are kept
  expect(photograph(["/0"]).photograph).toBe(shown.photograph);
  vi.unstubAllGlobals();
});
