// What a build does last: the licences of what it ships, and a gzip copy beside every text.
import { readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { constants, gzipSync } from "node:zlib";
import type { Plugin } from "vite";

export const LICENSES = "licenses.md";

const FONTS = ["@fontsource-variable/inter", "@fontsource-variable/jetbrains-mono"];
const TEXT = /\.(html|js|css|svg)$/;

export function finish(): Plugin {
  return {
    name: "finish",
    writeBundle({ dir = "" }) {
      const licenses = join(dir, LICENSES);
      writeFileSync(licenses, readFileSync(licenses, "utf8") + FONTS.map(licenseOfFont).join(""));
      for (const name of readdirSync(dir, { recursive: true }).map(String).filter((each) => TEXT.test(each))) {
        const path = join(dir, name);
        writeFileSync(`${path}.gz`, gzipSync(readFileSync(path), { level: constants.Z_BEST_COMPRESSION }));
      }
    },
  };
}

function licenseOfFont(font: string): string {
  return `\n## ${font}\n\n${readFileSync(`node_modules/${font}/LICENSE`, "utf8").trim()}\n`;
}
