/** Beside each asset that was built: the same, packed once and for all, for the server to send as it is. */
import { readdirSync, readFileSync, writeFileSync } from "node:fs";
import { brotliCompressSync, gzipSync } from "node:zlib";

const ASSETS = new URL("dist/assets/", import.meta.url);

for (const name of readdirSync(ASSETS).filter((each) => /\.(js|css)$/.test(each))) {
  const content = readFileSync(new URL(name, ASSETS));
  writeFileSync(new URL(`${name}.br`, ASSETS), brotliCompressSync(content));
  writeFileSync(new URL(`${name}.gz`, ASSETS), gzipSync(content, { level: 9 }));
}
