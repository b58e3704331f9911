// Builds the page into nat_observability/viewer/page, the same bytes each time.
import { build } from "esbuild";
import { readFileSync } from "node:fs";

const here = new URL(".", import.meta.url).pathname;
const outdir = process.argv[2] ?? `${here}../nat_observability/viewer/page`;

const licences = (names) => {
  const text = names.map((name) => {
    const { version } = JSON.parse(readFileSync(`${here}node_modules/${name}/package.json`, "utf8"));
    return `${name} ${version}\n\n${readFileSync(`${here}node_modules/${name}/LICENSE`, "utf8").trim()}`;
  });
  return `/*! This file holds:\n\n${text.join("\n\n----\n\n")}\n*/`;
};

const common = {
  absWorkingDir: here,
  bundle: true,
  target: "es2022",
  // Short names and no blanks; what a reader wants to read is in viewer/src.
  minify: true,
  charset: "utf8",
  legalComments: "none",
  jsx: "automatic",
  jsxImportSource: "preact",
  logLevel: "warning",
};
const inApp = ["preact", "@preact/signals", "@preact/signals-core"];

await Promise.all([
  build({
    ...common,
    format: "esm",
    entryPoints: { app: "src/main.tsx" },
    // Only the statistics page loads it.
    external: ["/page/plots.js"],
    outdir,
    banner: { js: licences(inApp) },
  }),
  build({
    ...common,
    format: "esm",
    entryPoints: { plots: "src/plots.ts" },
    outdir,
    banner: { js: licences(["uplot"]) },
  }),
  build({
    ...common,
    format: "iife",
    entryPoints: { offline: "src/offline.tsx" },
    outdir,
    banner: { js: licences(inApp) },
  }),
  build({ ...common, entryPoints: { app: "src/style.css" }, outdir, banner: { css: licences(["uplot"]) } }),
]);
