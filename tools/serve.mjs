// Serves a folder on localhost, with the headers that give a page shared memory: `node tools/serve.mjs [folder] [port]`.

import { createReadStream, statSync } from "node:fs";
import { createServer } from "node:http";
import { extname, join, resolve, sep } from "node:path";
import { pathToFileURL } from "node:url";

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

/** The file under `root` that an address names, or undefined. Nothing outside the folder has an address. */
function find(root, address) {
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

/**
 * Serves `folder` on a port of localhost, 0 for any that is free; resolves to the server once it listens. `headers` are sent
 * too; without `isolated` the page gets no shared memory.
 */
export function serve(folder, port, { isolated = true, headers = {} } = {}) {
    const root = resolve(folder);
    const server = createServer((request, response) => {
        // Isolation, which SharedArrayBuffer needs; and never a stale build.
        if (isolated) {
            response.setHeader("Cross-Origin-Opener-Policy", "same-origin");
            response.setHeader("Cross-Origin-Embedder-Policy", "require-corp");
            response.setHeader("Cross-Origin-Resource-Policy", "same-origin");
        }
        for (const [name, value] of Object.entries(headers)) response.setHeader(name, value);
        response.setHeader("Cache-Control", "no-store");
        const file = find(root, request.url);
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
    return new Promise((done, failed) => {
        server.on("error", failed);
        server.listen(port, "localhost", () => done(server));
    });
}

if (import.meta.url === pathToFileURL(process.argv[1]).href) {
    const [folder = ".", port = "8080"] = process.argv.slice(2);
    try {
        const server = await serve(folder, Number(port));
        console.log(`serving ${resolve(folder)} at http://localhost:${server.address().port}/ (Ctrl-C ends it)`);
    } catch (error) {
        const taken = error.code === "EADDRINUSE";
        console.error(taken ? `port ${port} is taken; another: just port=8081 web` : String(error));
        process.exit(1);
    }
}
