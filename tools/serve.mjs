// Serves a folder on localhost, with the headers that give a page shared memory: `node tools/serve.mjs [folder] [port]`.

import { createReadStream, statSync } from "node:fs";
import { createServer } from "node:http";
import { extname, join, resolve, sep } from "node:path";

const [folder = ".", port = "8080"] = process.argv.slice(2);
const root = resolve(folder);

const TYPES = {
    ".css": "text/css; charset=utf-8",
    ".html": "text/html; charset=utf-8",
    ".ico": "image/x-icon",
    ".js": "text/javascript; charset=utf-8",
    ".json": "application/json",
    ".map": "application/json",
    ".mjs": "text/javascript; charset=utf-8",
    ".png": "image/png",
    ".svg": "image/svg+xml",
    ".ts": "text/plain; charset=utf-8",
    ".txt": "text/plain; charset=utf-8",
    ".wasm": "application/wasm",
    ".woff2": "font/woff2",
};

/** The file that an address names, or undefined. Nothing outside the folder has an address. */
function find(address) {
    let path;
    try {
        path = resolve(join(root, decodeURIComponent(new URL(address, "http://localhost").pathname)));
        if (path !== root && !path.startsWith(root + sep)) return undefined;
        if (statSync(path).isDirectory()) path = join(path, "index.html");
        return statSync(path).isFile() ? path : undefined;
    } catch {
        return undefined;
    }
}

const server = createServer((request, response) => {
    // Isolation, which SharedArrayBuffer needs; and never a stale build.
    response.setHeader("Cross-Origin-Opener-Policy", "same-origin");
    response.setHeader("Cross-Origin-Embedder-Policy", "require-corp");
    response.setHeader("Cross-Origin-Resource-Policy", "same-origin");
    response.setHeader("Cache-Control", "no-store");
    const file = find(request.url);
    const allowed = request.method === "GET" || request.method === "HEAD";
    if (!file || !allowed) {
        response.writeHead(allowed ? 404 : 405, { "Content-Type": "text/plain; charset=utf-8" });
        response.end(allowed ? "not found\n" : "only GET and HEAD\n");
        return;
    }
    response.writeHead(200, { "Content-Type": TYPES[extname(file)] ?? "application/octet-stream", "Content-Length": statSync(file).size });
    if (request.method === "HEAD") response.end();
    else createReadStream(file).on("error", () => response.destroy()).pipe(response);
});
server.on("error", (error) => {
    const taken = error.code === "EADDRINUSE";
    console.error(taken ? `port ${port} is taken; another: just port=8081 web` : String(error));
    process.exit(1);
});
server.listen(Number(port), "localhost", () => {
    console.log(`serving ${root} at http://localhost:${server.address().port}/ (Ctrl-C ends it)`);
});
