import react from "@vitejs/plugin-react";
import { defineConfig, loadEnv } from "vite";

export default defineConfig(({ mode }) => {
  const target = loadEnv(mode, ".", "CLEW_").CLEW_API_URL ?? "http://127.0.0.1:8000";
  const proxy = { "/api": { target } };
  return {
    plugins: [react()],
    // The page's CSP allows files of its own origin only, so nothing is inlined.
    // What the first page loads is measured: `make bench ONLY=dashboard`.
    build: { target: "es2023", assetsInlineLimit: 0, chunkSizeWarningLimit: 600 },
    server: { proxy },
    preview: { proxy },
  };
});
