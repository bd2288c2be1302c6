// How the dashboard is built: one HTML file and its assets in dist/, which the aggregator embeds.
// Nothing may be inlined into the HTML, because the page is served under a strict content security policy.
import { defineConfig } from 'vitest/config';

const proxy = { '/api': process.env['KEYVIGIL_URL'] ?? 'http://127.0.0.1:8080' };

export default defineConfig({
  esbuild: { jsx: 'automatic', jsxImportSource: 'preact' },
  build: {
    outDir: 'dist',
    assetsDir: 'assets',
    assetsInlineLimit: 0,
    modulePreload: { polyfill: false },
    target: 'es2022',
    chunkSizeWarningLimit: 250,
  },
  // `npm run dev` and `vite preview` ask a running aggregator; KEYVIGIL_URL says which.
  server: { proxy },
  preview: { proxy },
  test: { environment: 'node', include: ['src/**/*.test.ts'] },
});
