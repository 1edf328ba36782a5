// Takes the pictures of the playground that the READMEs show, into docs/images: `node tools/screenshots.mjs [NAME..]`, after a
// build of it.

import { mkdirSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { root } from "./lib.mjs";
import { serve } from "./serve.mjs";

const { launch } = await import(pathToFileURL(join(root, "web", "npm", "test", "browser.mjs")).href);
const folder = join(root, "docs", "images");
/** What a picture may weigh: they are kept in git. */
const LIMIT = 150_000;

const desk = { viewport: { width: 1320, height: 960 }, deviceScaleFactor: 1.5 };
const phone = { viewport: { width: 360, height: 720 }, deviceScaleFactor: 2, hasTouch: true, isMobile: true };

/** As [file, window, scheme, example, what stands at the top]. */
const PICTURES = [
    ["playground-light", desk, "light", "group"],
    ["playground-dark", desk, "dark", "group"],
    ["playground-frames", { ...desk, viewport: { width: 1320, height: 800 } }, "light", "frames", ".stage"],
    ["playground-phone", phone, "dark", "gather", "#tasks"],
];

mkdirSync(folder, { recursive: true });
const server = await serve(join(root, "web", "playground", "dist"), 0);
const browser = await launch();
try {
    for (const [name, window, colorScheme, example, below] of PICTURES.filter(([name]) => process.argv.length < 3 || process.argv.includes(name))) {
        const context = await browser.newContext({ ...window, colorScheme });
        const page = await context.newPage();
        await page.goto(`http://localhost:${server.address().port}/#${example}`);
        await page.waitForSelector("html[data-ready]");
        const over = () => page.waitForFunction(() => /finished|failed/.test(document.documentElement.dataset.run), undefined, { timeout: 60_000 });
        // A machine that others use as well makes frames late, which is not what the picture is about.
        for (let attempt = 0; attempt < 8; attempt += 1) {
            if (attempt || example === "frames") await page.click("#run");
            await page.waitForFunction(() => /starting|running/.test(document.documentElement.dataset.run));
            await over();
            // The frames go on for a moment after what they frame.
            await page.waitForTimeout(1500);
            const longest = /longest ([\d.]+) ms/.exec(await page.textContent("#numbers"));
            if (longest && Number(longest[1]) < 40) break;
        }
        if (example === "frames") {
            await page.check('#variants input[value="plain"]', { force: true });
            await page.click("#run");
            await page.waitForSelector("#compare:not([hidden])", { timeout: 60_000 });
        }
        await page.mouse.move(0, 0);
        await page.evaluate((top) => {
            document.activeElement.blur();
            const at = top ? document.querySelector(top).getBoundingClientRect().top + scrollY - 16 : 0;
            scrollTo({ top: at, behavior: "instant" });
        }, below);
        await page.waitForTimeout(300);
        const client = await context.newCDPSession(page);
        const { width, height } = window.viewport;
        const clip = { x: 0, y: await page.evaluate("scrollY"), width, height, scale: window.deviceScaleFactor };
        const { data } = await client.send("Page.captureScreenshot", { format: "webp", quality: 72, clip });
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
