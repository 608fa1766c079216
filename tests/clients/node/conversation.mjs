// What openai's own client for Node makes of a running genkan: `node conversation.mjs BASE_URL`. Prints one JSON object.

import OpenAI from "openai";

const client = new OpenAI({ baseURL: process.argv[2], apiKey: "unused", maxRetries: 0, timeout: 60_000 });
const model = "default";
const messages = [{ role: "user", content: "What is the weather in Hà Nội?" }];
const tools = [
  {
    type: "function",
    function: {
      name: "get_weather",
      parameters: {
        type: "object",
        properties: { city: { type: "string", maxLength: 12 }, unit: { enum: ["celsius", "fahrenheit"] } },
        required: ["city", "unit"],
        additionalProperties: false,
      },
    },
  },
];
const schema = {
  type: "object",
  properties: { city: { type: "string", maxLength: 12 }, guests: { type: "integer", minimum: 1, maximum: 9 } },
  required: ["city", "guests"],
  additionalProperties: false,
};

async function streams() {
  const stream = await client.chat.completions.create({
    model,
    messages,
    max_tokens: 8,
    stream: true,
    stream_options: { include_usage: true },
  });
  let text = "";
  let usage = null;
  for await (const chunk of stream) {
    text += chunk.choices[0]?.delta?.content ?? "";
    usage = chunk.usage ?? usage;
  }
  return { text, completion_tokens: usage.completion_tokens };
}

// By the client's helper, which puts the pieces of a streamed call together itself.
async function calls() {
  const runner = client.chat.completions.stream({ model, messages, tools, tool_choice: "required", max_tokens: 90 });
  const completion = await runner.finalChatCompletion();
  const [call] = completion.choices[0].message.tool_calls;
  const answered = await client.chat.completions.create({
    model,
    max_tokens: 8,
    tools,
    messages: [
      ...messages,
      completion.choices[0].message,
      { role: "tool", tool_call_id: call.id, content: JSON.stringify({ degrees: 31 }) },
    ],
  });
  return {
    finish_reason: completion.choices[0].finish_reason,
    name: call.function.name,
    arguments: JSON.parse(call.function.arguments),
    answered: answered.choices[0].finish_reason,
  };
}

async function parses() {
  const completion = await client.chat.completions.parse({
    model,
    messages,
    max_tokens: 60,
    response_format: { type: "json_schema", json_schema: { name: "visit", strict: true, schema } },
  });
  return JSON.parse(completion.choices[0].message.content);
}

async function embeds() {
  const { data } = await client.embeddings.create({ model: "multilingual-e5-small", input: ["a", "b"] });
  return data.map(({ embedding }) => embedding.length);
}

async function lists() {
  const ids = [];
  for await (const listed of client.models.list()) ids.push(listed.id);
  return ids;
}

async function refused() {
  try {
    await client.chat.completions.create({ model, messages, verbosity: "low" });
  } catch (error) {
    return { name: error.constructor.name, status: error.status, code: error.code, param: error.param };
  }
  return null;
}

const found = {};
for (const step of [streams, calls, parses, embeds, lists, refused]) found[step.name] = await step();
console.log(JSON.stringify(found));
