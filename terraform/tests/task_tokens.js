// Runs the state machine of modules/task_tokens on records of a table's stream, and
// prints, for each, what it calls and how it ends. It knows the states that are in it.
const fs = require("fs");
const jsonata = require("jsonata");

async function evaluated(value, input, variables) {
  if (typeof value === "string" && value.startsWith("{%")) {
    const result = await jsonata(value.slice(2, -2)).evaluate(undefined, { ...variables, states: input });
    // So do Step Functions: nothing is an error.
    if (result === undefined) throw new Error(`States.QueryEvaluationError: ${value} has no value`);
    return result;
  }
  if (Array.isArray(value)) return Promise.all(value.map((each) => evaluated(each, input, variables)));
  if (value === null || typeof value !== "object") return value;
  const entries = Object.entries(value).map(async ([key, each]) => [key, await evaluated(each, input, variables)]);
  return Object.fromEntries(await Promise.all(entries));
}

// `refused`: with what the call is answered, where it is not taken.
async function run(machine, record, refused) {
  const variables = {};
  const calls = [];
  let input = [{ dynamodb: { NewImage: record } }];
  for (let name = machine.StartAt; ; ) {
    const state = machine.States[name];
    const states = { input };
    const assign = async (from) => Object.assign(variables, await evaluated(from.Assign ?? {}, states, variables));
    const output = async (from) => (from.Output === undefined ? input : evaluated(from.Output, states, variables));
    if (state.Type === "Pass") {
      await assign(state);
      input = await output(state);
      name = state.Next;
    } else if (state.Type === "Choice") {
      let next = state.Default;
      for (const choice of [...state.Choices].reverse()) {
        if (await evaluated(choice.Condition, states, variables)) next = choice.Next;
      }
      name = next;
    } else if (state.Type === "Task") {
      calls.push({ resource: state.Resource, ...(await evaluated(state.Arguments, states, variables)) });
      const from = refused === undefined ? state : state.Catch[0];
      if (refused !== undefined) states.errorOutput = { Error: refused, Cause: "so it is" };
      await assign(from);
      input = await output(from);
      name = from.Next;
    } else {
      const told = state.Type === "Fail" ? await evaluated(state.Error, states, variables) : input;
      return { calls, ends: state.Type, told };
    }
  }
}

(async () => {
  const [machine, trials] = process.argv.slice(2).map((file) => JSON.parse(fs.readFileSync(file, "utf8")));
  const results = {};
  for (const [name, { record, refused }] of Object.entries(trials)) {
    results[name] = await run(machine, record, refused);
  }
  console.log(JSON.stringify(results));
})();
