// Fails where src/schema.d.ts is not what `npm run generate` makes of the service's OpenAPI document.
import { readFile } from "node:fs/promises";

const [kept, made] = await Promise.all(["src", "build"].map((folder) => readFile(`${folder}/schema.d.ts`, "utf8")));
if (kept !== made) {
    console.error("src/schema.d.ts is not up to date with docs/openapi.json: npm run generate");
    process.exit(1);
}
