// For development only: serves dist/ as the aggregator does and answers the API with made-up but plausible data.
// `node e2e/mock-server.mjs [PORT] [MODE]`; MODE is data, empty or error, and POST /mode/NAME changes it while it runs.
import { createServer } from 'node:http';
import { readFile } from 'node:fs/promises';
import { extname, join, normalize } from 'node:path';
import { fileURLToPath } from 'node:url';
import { answer } from './mock-data.mjs';

const DIST = fileURLToPath(new URL('../dist/', import.meta.url));
const TYPES = { '.html': 'text/html; charset=utf-8', '.js': 'text/javascript', '.css': 'text/css', '.svg': 'image/svg+xml' };
const CSP = "default-src 'self'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'";

const port = Number(process.argv[2] ?? 8090);
let mode = process.argv[3] ?? 'data';

function json(response, status, body) {
  const type = status < 400 ? 'application/json' : 'application/problem+json';
  response.writeHead(status, { 'Content-Type': type });
  response.end(JSON.stringify(body));
}

async function file(path) {
  const wanted = normalize(path).startsWith('/assets/') ? path : '/index.html';
  return { body: await readFile(join(DIST, normalize(wanted))), type: TYPES[extname(wanted)] ?? 'application/octet-stream' };
}

async function body(request) {
  const parts = [];
  for await (const part of request) parts.push(part);
  return parts.length === 0 ? undefined : JSON.parse(Buffer.concat(parts).toString());
}

const server = createServer(async (request, response) => {
  const url = new URL(request.url, 'http://localhost');
  try {
    if (request.method === 'POST' && url.pathname.startsWith('/mode/')) {
      mode = url.pathname.slice(6);
      json(response, 200, { mode });
    } else if (url.pathname.startsWith('/api/v1/')) {
      const { status, body: said } = answer(mode, request.method, url, request.headers, await body(request));
      json(response, status, said);
    } else {
      const { body: content, type } = await file(url.pathname);
      response.writeHead(200, { 'Content-Type': type, 'Content-Security-Policy': CSP });
      response.end(content);
    }
  } catch (cause) {
    json(response, 404, { title: 'Not Found', status: 404, detail: String(cause) });
  }
});

server.listen(port, '127.0.0.1', () => console.log(`http://127.0.0.1:${server.address().port}`));
