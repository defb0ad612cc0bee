import { expect, test } from "vitest";
import { Frames, nearestFirst } from "../src/ct/frames";

function bench() {
  const asked: string[] = [];
  const there = new Set<string>();
  const ends = new Map<string, (error?: Error) => void>();
  const frames = new Frames(
    (key) => {
      asked.push(key);
      return new Promise((resolve, reject) => {
        ends.set(key, (error) => {
          if (error) reject(error);
          else {
            there.add(key);
            resolve();
          }
        });
      });
    },
    (key) => there.has(key),
  );
  const end = async (key: string, error?: Error) => {
    ends.get(key)!(error);
    await new Promise((resolve) => setTimeout(resolve));
  };
  return { frames, asked, end };
}

test("nearest first, the way ahead wins", () => {
  expect(nearestFirst(6, 2, 10)).toEqual([2, 3, 1, 4, 0, 5]);
  expect(nearestFirst(6, 2, 10, -1)).toEqual([2, 1, 3, 0, 4, 5]);
  expect(nearestFirst(100, 0, 3)).toEqual([0, 1, 2]);
  expect(nearestFirst(0, 0, 3)).toEqual([]);
});

test("three at a time in the background; what is wanted does not wait for them", async () => {
  const { frames, asked, end } = bench();
  frames.ahead(["a", "b", "c", "d", "e"]);
  expect(asked).toEqual(["a", "b", "c"]);
  frames.load("e");
  expect(asked).toEqual(["a", "b", "c", "e"]);
  await end("b");
  expect(asked).toEqual(["a", "b", "c", "e", "d"]);
  await end("a");
  expect(asked).toHaveLength(5); // e is on its way already
});

test("asked twice, fetched once", async () => {
  const { frames, asked, end } = bench();
  const both = Promise.all([frames.load("a"), frames.load("a")]);
  await end("a");
  await both;
  await frames.load("a");
  expect(asked).toEqual(["a"]);
});

test("what failed is fetched again when it is wanted, not in the background", async () => {
  const { frames, asked, end } = bench();
  const first = frames.load("a");
  const seen = expect(first).rejects.toThrow("broken");
  await end("a", new Error("broken"));
  await seen;
  frames.ahead(["a"]);
  expect(asked).toEqual(["a"]);
  const second = frames.load("a");
  await end("a");
  await second;
  expect(asked).toEqual(["a", "a"]);
});

test("another place of the stack replaces what was to come", async () => {
  const { frames, asked, end } = bench();
  frames.ahead(["a", "b", "c", "d"]);
  frames.ahead(["x", "y"]);
  await end("a");
  await end("b");
  expect(asked).toEqual(["a", "b", "c", "x", "y"]);
  frames.stop();
  frames.ahead(["z"]);
  await end("c");
  expect(asked).not.toContain("z");
});

test("while the service is away nothing is given up: the rest waits until it is asked for again", async () => {
  const asked: string[] = [];
  let away = true;
  const frames = new Frames(
    async (key) => {
      asked.push(key);
      if (away) throw new TypeError("away");
    },
    () => false,
    () => {},
    (error) => error instanceof TypeError,
  );
  const rest = () => new Promise((resolve) => setTimeout(resolve));
  frames.ahead(["a", "b", "c", "d", "e"]);
  await rest();
  expect(asked).toEqual(["a", "b", "c"]);
  away = false;
  frames.ahead(["a", "b", "c", "d", "e"]);
  await rest();
  expect(asked.slice(3)).toEqual(["a", "b", "c", "d", "e"]);
});
