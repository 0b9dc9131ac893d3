// Unpacks the browser that the package ships, and tells it of the fonts.

import { mkdirSync, realpathSync, writeFileSync } from "node:fs";

const place = `${realpathSync(".")}/chromium`;
mkdirSync(place, { recursive: true });
// The package unpacks there, under names of its own.
process.env.TMPDIR = place;
const { inflate } = await import("@sparticuz/chromium");
for (const part of ["chromium.br", "al2023.tar.br"]) {
  await inflate(`node_modules/@sparticuz/chromium/bin/${part}`);
}

const fonts = realpathSync("node_modules/@expo-google-fonts");
const prefer = (family, font) => `  <match target="pattern">
    <test name="family"><string>${family}</string></test>
    <edit name="family" mode="prepend" binding="strong"><string>${font}</string></edit>
  </match>`;
writeFileSync(
  `${place}/fonts.conf`,
  `<?xml version="1.0"?>
<!DOCTYPE fontconfig SYSTEM "fonts.dtd">
<fontconfig>
  <dir>${fonts}</dir>
  <cachedir>${place}/fonts</cachedir>
${["system-ui", "sans-serif"].map((family) => prefer(family, "Inter")).join("\n")}
${["ui-monospace", "monospace"].map((family) => prefer(family, "JetBrains Mono")).join("\n")}
</fontconfig>
`,
);
