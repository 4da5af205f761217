// Puts a gzip copy beside every built text file, so that the server compresses nothing.
import { readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { constants, gzipSync } from "node:zlib";

const OUT = "../../runengine_server/http/console";
const TEXT = /\.(html|js|css|svg|txt)$/;

for (const name of readdirSync(OUT, { recursive: true })) {
  if (TEXT.test(name)) {
    const path = join(OUT, name);
    writeFileSync(`${path}.gz`, gzipSync(readFileSync(path), { level: constants.Z_BEST_COMPRESSION }));
  }
}
