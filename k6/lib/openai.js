// OpenAI-shaped requests and checks, shared by every scenario.
import http from 'k6/http';
import { check } from 'k6';

export const BASE_URL = (__ENV.URL || 'http://127.0.0.1:3000').replace(/\/+$/, '').replace(/\/v1$/, '');
export const MODEL = __ENV.MODEL || 'default';
export const API_KEY = __ENV.API_KEY || 'unused';

// `extra`: tags; a key in place of API_KEY; statuses to `expect`, so that others count as failed, and only they.
export function post(path, body, extra = {}) {
  const params = parameters(path, extra);
  params.headers['content-type'] = 'application/json';
  return http.post(`${BASE_URL}${path}`, JSON.stringify(body), params);
}

export function get(path, extra = {}) {
  return http.get(`${BASE_URL}${path}`, parameters(path, extra));
}

function parameters(path, { tags, key, expect = [200] }) {
  return {
    headers: { authorization: `Bearer ${key || API_KEY}` },
    tags: Object.assign({ name: path }, tags),
    responseCallback: http.expectedStatuses(...expect),
  };
}

export function chat(prompt, options, extra) {
  const body = Object.assign(
    { model: MODEL, temperature: 0, max_tokens: 16, messages: [{ role: 'user', content: prompt }] },
    options,
  );
  return post('/v1/chat/completions', body, extra);
}

// k6 has a response's headers by their canonical names, X-Genkan-Cache.
export function header(response, name) {
  const canonical = name.replace(/(^|-)([a-z])/g, (_, dash, letter) => dash + letter.toUpperCase());
  return response.headers[canonical] || '';
}

// What a response's JSON has at `path`; undefined where there is no such thing, or no JSON: k6 itself would throw.
export function field(response, path) {
  try {
    return response.json(path);
  } catch (_) {
    return undefined;
  }
}

// The text of a chat completion, of an event stream that k6 has read whole, or of `/call`'s answer.
export function text(response) {
  if (header(response, 'content-type').startsWith('text/event-stream')) {
    return chunks(response)
      .map((chunk) => (chunk.choices && chunk.choices.length ? chunk.choices[0].delta.content || '' : ''))
      .join('');
  }
  return field(response, 'choices.0.message.content') || field(response, 'content') || '';
}

// The JSON chunks of an event stream that k6 has read whole; k6 shows no single events.
export function chunks(response) {
  return (response.body || '')
    .split('\n\n')
    .filter((event) => event.startsWith('data: {'))
    .map((event) => parsed(event.slice('data: '.length)));
}

// An exception would end the user's round, and no check would know of it.
function parsed(json) {
  try {
    return JSON.parse(json);
  } catch (_) {
    return { error: { message: 'not JSON' } };
  }
}

// A stream that just stops is no answer, and one that ends in an error event is none either.
export function isWhole(response) {
  if (response.status !== 200) return false;
  if (!header(response, 'content-type').startsWith('text/event-stream')) return text(response) !== '';
  return response.body.endsWith('data: [DONE]\n\n') && chunks(response).every((chunk) => !chunk.error);
}

export function checkError(response, status, code) {
  return check(response, {
    [`${status} ${code}`]: (r) => r.status === status && field(r, 'error.code') === code,
    'error has OpenAI\'s four keys': (r) =>
      Object.keys(field(r, 'error') || {}).sort().join() === 'code,message,param,type',
    'x-request-id': (r) => header(r, 'x-request-id').length > 0,
  });
}

// A refusal that a client may come back from: it says when, in whole seconds, one minute at most.
export function checkRefusal(response, status, code) {
  checkError(response, status, code);
  check(response, {
    'retry-after is 1 to 60 s': (r) => {
      const value = header(r, 'retry-after');
      return /^\d+$/.test(value) && Number(value) >= 1 && Number(value) <= 60;
    },
    'not told to stay away': (r) => header(r, 'x-should-retry') !== 'false',
  });
}
