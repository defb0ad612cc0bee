import { createHash } from "node:crypto";
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import type { Plugin } from "vite";
import { defineConfig } from "vitest/config";

const here = fileURLToPath(new URL(".", import.meta.url));

// vtk.js writes and reads XML formats with this package; the page needs none of them and saves 300 kB.
const xml = join(here, "src/parts/no-xml.ts");

/** Files that the built page is made of, in order: `tests/unit/http/test_viewer.py` computes the same. */
function sources(): string[] {
  const inside = ["src", "public"].flatMap((folder) =>
    readdirSync(join(here, folder), { recursive: true, withFileTypes: true })
      .filter((entry) => entry.isFile())
      .map((entry) => join(entry.parentPath, entry.name).slice(here.length)),
  );
  return [...inside, "index.html", "package-lock.json", "vite.config.ts"].sort();
}

/** Writes `dist/build.json`: the SHA-256 of the sources, so that a build that was forgotten is noticed without Node. */
function stamp(): Plugin {
  return {
    name: "stamp",
    apply: "build",
    generateBundle() {
      const all = createHash("sha256");
      for (const name of sources()) {
        const file = createHash("sha256").update(readFileSync(join(here, name)));
        all.update(`${file.digest("hex")}  ${name}\n`);
      }
      this.emitFile({
        type: "asset",
        fileName: "build.json",
        source: `${JSON.stringify({ sources: all.digest("hex") })}\n`,
      });
    },
  };
}

/** The texts of measurements set their style as an attribute, which the page's policy refuses; as a property it is allowed. */
function styleByProperty(): Plugin {
  const attribute = "textElement.setAttribute('style', combinedStyle)";
  return {
    name: "style-by-property",
    apply: "build",
    transform(code, id) {
      if (!id.endsWith("@cornerstonejs/tools/dist/esm/drawingSvg/drawTextBox.js")) return;
      if (!code.includes(attribute))
        this.error("the tools changed: look whether their texts still set a style attribute");
      return { code: code.replace(attribute, "textElement.style.cssText = combinedStyle"), map: null };
    },
  };
}

export default defineConfig({
  base: "./",
  plugins: [stamp(), styleByProperty()],
  resolve: { alias: { xmlbuilder2: xml } },
  oxc: { jsx: { runtime: "automatic", importSource: "preact" } },
  build: {
    outDir: "dist",
    target: "es2022",
    modulePreload: { polyfill: false },
    license: { fileName: "licenses.md" },
    chunkSizeWarningLimit: 4000,
  },
  server: {
    proxy: { "^/(api|dicomweb|v2|health|docs|conformance)": process.env.PELLUCID_SERVICE ?? "http://127.0.0.1:8080" },
  },
  test: { include: ["test/**/*.test.ts"], environment: "node" },
});
