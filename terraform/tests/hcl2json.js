// Prints the .tf files of a folder as one JSON object, a key for each file.
const { parse } = require("@cdktf/hcl2json");
const fs = require("fs");

(async () => {
  const folder = process.argv[2];
  const files = {};
  for (const name of fs.readdirSync(folder).filter((name) => name.endsWith(".tf"))) {
    files[name] = await parse(name, fs.readFileSync(`${folder}/${name}`, "utf8"));
  }
  console.log(JSON.stringify(files));
})();
