// Drives the official SDK against the simulator: what to do comes as JSON on standard input, what came of it goes out
// as JSON. `readme: true` runs every block of the SDK's own README that makes a call.

const fs = require("node:fs");
const path = require("node:path");
const SDK = require("activitysmith");

const ActivitySmith = SDK.default ?? SDK.ActivitySmith ?? SDK;
const { url, key, calls, readme } = JSON.parse(fs.readFileSync(0, "utf8"));

function client(apiKey) {
  const made = new ActivitySmith({ apiKey });
  const apis = [made.notifications.api, made.liveActivities.api, made.metrics.api, made.appIconBadgesApi];
  for (const api of apis) api.configuration.configuration.basePath = url;
  return made;
}

async function outcome(call) {
  try {
    return { answer: await call() };
  } catch (error) {
    const { name, response } = error;
    return response ? { error: name, status: response.status, body: await response.json() } : { error: name, message: error.message };
  }
}

async function runReadme() {
  const text = fs.readFileSync(path.join(path.dirname(require.resolve("activitysmith")), "../../README.md"), "utf8");
  const blocks = [...text.matchAll(/```ts\n([\s\S]*?)```/g)].map((found) => found[1]);
  const run = Object.getPrototypeOf(async () => {}).constructor;
  const outcomes = [];
  for (const block of blocks.filter((each) => each.includes("await activitysmith."))) {
    const code = block.replaceAll(/await (activitysmith\.[\w.]+\()/g, "answers[answers.length] = await $1");
    const answers = [];
    const made = await outcome(async () => {
      await new run("activitysmith", "ActivitySmith", "answers", "console", code)(client(key), ActivitySmith, answers, console);
      return answers;
    });
    outcomes.push({ block, ...made });
  }
  return outcomes;
}

async function main() {
  if (readme) return runReadme();
  const outcomes = [];
  for (const { method, args, apiKey } of calls) {
    const target = client(apiKey ?? key);
    const names = method.split(".");
    const owner = names.slice(0, -1).reduce((object, name) => object[name], target);
    outcomes.push(await outcome(() => owner[names.at(-1)](...args)));
  }
  return outcomes;
}

main().then((outcomes) => console.log(JSON.stringify(outcomes)));
