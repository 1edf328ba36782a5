// Serves a folder on localhost, with the headers that give a page shared memory, and others beneath it:
// `node tools/serve.mjs [folder] [port] [name=folder..]`.

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

/** The path of an address, or undefined if it has none that can be read. */
function pathOf(address) {
    try {
        return decodeURIComponent(new URL(address, "http://localhost").pathname);
    } catch {
        return undefined;
    }
}

/** The file or folder under `root` at `path`, or undefined. Nothing outside the folder has an address. */
function find(root, path) {
    try {
        const found = resolve(join(root, path));
        if (found !== root && !found.startsWith(root + sep)) return undefined;
        return { path: found, folder: statSync(found).isDirectory() };
    } catch {
        return undefined;
    }
}

/**
 * Serves `folder` on a port of localhost, 0 for any that is free; resolves to the server once it listens. `headers` are sent
 * too; without `isolated` the page gets no shared memory. `mounts` are further folders by the name that they are served as.
 */
export function serve(folder, port, { isolated = true, headers = {}, mounts = {} } = {}) {
    const root = resolve(folder);
    const look = (path) => {
        const [, first, rest] = /^\/([^/]*)(.*)$/.exec(path) ?? [];
        return first && Object.hasOwn(mounts, first) ? find(resolve(mounts[first]), rest) : find(root, path);
    };
    const server = createServer((request, response) => {
        // Isolation, which SharedArrayBuffer needs; and never a stale build.
        if (isolated) {
            response.setHeader("Cross-Origin-Opener-Policy", "same-origin");
            response.setHeader("Cross-Origin-Embedder-Policy", "require-corp");
            response.setHeader("Cross-Origin-Resource-Policy", "same-origin");
        }
        for (const [name, value] of Object.entries(headers)) response.setHeader(name, value);
        response.setHeader("Cache-Control", "no-store");
        const path = pathOf(request.url);
        const found = path === undefined ? undefined : look(path);
        const allowed = request.method === "GET" || request.method === "HEAD";
        if (found?.folder && allowed && !path.endsWith("/")) {
            // What a page names is beside it, so the address of a folder has to end like one.
            response.writeHead(301, { Location: `${encodeURI(path).replace(/^\/+/, "/")}/` });
            response.end();
            return;
        }
        const file = found?.folder ? find(found.path, "index.html")?.path : found?.path;
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
    const [folder = ".", port = "8080", ...more] = process.argv.slice(2);
    try {
        const server = await serve(folder, Number(port), { mounts: Object.fromEntries(more.map((one) => one.split("="))) });
        console.log(`serving ${resolve(folder)} at http://localhost:${server.address().port}/ (Ctrl-C ends it)`);
    } catch (error) {
        const taken = error.code === "EADDRINUSE";
        console.error(taken ? `port ${port} is taken; another: just port=8081 web` : String(error));
        process.exit(1);
    }
}
