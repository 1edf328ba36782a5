// Takes the pictures of the playground that the READMEs show, into docs/images: `node tools/screenshots.mjs`, after a build of it.

import { mkdirSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { root } from "./lib.mjs";
import { serve } from "./serve.mjs";

const { launch } = await import(pathToFileURL(join(root, "web", "npm", "test", "browser.mjs")).href);
const folder = join(root, "docs", "images");
/** What a picture may weigh: they are kept in git. */
const LIMIT = 150_000;

const desk = { viewport: { width: 1440, height: 1000 }, deviceScaleFactor: 1.5 };
const phone = { viewport: { width: 360, height: 780 }, deviceScaleFactor: 2, hasTouch: true };

/** As [file, window, scheme, example, what to do once it has run]. */
const PICTURES = [
    ["playground-light", desk, "light", "group"],
    ["playground-dark", desk, "dark", "group"],
    ["playground-frames", desk, "light", "frames"],
    ["playground-phone", phone, "light", "gather", "#tasks"],
];

mkdirSync(folder, { recursive: true });
const server = await serve(join(root, "web", "playground", "dist"), 0);
const browser = await launch();
try {
    for (const [name, window, colorScheme, example, below] of PICTURES) {
        const context = await browser.newContext({ ...window, colorScheme });
        const page = await context.newPage();
        await page.goto(`http://localhost:${server.address().port}/#${example}`);
        await page.waitForSelector("html[data-ready]");
        const over = () => page.waitForFunction(() => /finished|failed/.test(document.documentElement.dataset.run), undefined, { timeout: 60_000 });
        if (example === "frames") await page.click("#run");
        await over();
        // The frames go on for a moment after what they frame.
        await page.waitForTimeout(1500);
        if (below) await page.$eval(below, (element) => element.scrollIntoView({ block: "start" }));
        const client = await context.newCDPSession(page);
        const { data } = await client.send("Page.captureScreenshot", { format: "webp", quality: 82 });
        const path = join(folder, `${name}.webp`);
        writeFileSync(path, Buffer.from(data, "base64"));
        const { size } = statSync(path);
        console.log(`${String(size).padStart(8)}  docs/images/${name}.webp`);
        if (size > LIMIT) {
            console.error(`${name} is larger than ${LIMIT} bytes`);
            process.exitCode = 1;
        }
        await context.close();
    }
} finally {
    await browser.close();
    server.close();
}
