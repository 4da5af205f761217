// How the console is built: into the server's package, under names that change with their content.
import { defineConfig } from "vite";
import { finish, LICENSES } from "./build/finish";

const ENGINE = process.env["RUNENGINE_URL"] ?? "http://127.0.0.1:3001";

export default defineConfig({
  plugins: [finish()],
  build: {
    outDir: "../../runengine_server/http/console",
    emptyOutDir: true,
    target: ["es2022"],
    cssTarget: ["chrome123", "firefox120", "safari17.5"], // all know light-dark()
    assetsInlineLimit: 0, // the content security policy allows no data: scripts or styles
    license: { fileName: LICENSES },
    chunkSizeWarningLimit: 700, // the library that draws models, which comes only with the first of them
    modulePreload: { polyfill: false },
  },
  server: { proxy: { "/api": ENGINE } }, // `npm run dev` beside `make dev`
});
