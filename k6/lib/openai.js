// OpenAI-shaped requests and checks, shared by every scenario.
import http from 'k6/http';
import { check } from 'k6';

export const BASE_URL = __ENV.URL || 'http://127.0.0.1:3000';
export const MODEL = __ENV.MODEL || 'default';

const HEADERS = { 'content-type': 'application/json', authorization: `Bearer ${__ENV.API_KEY || 'unused'}` };

export function post(path, body, name) {
  return http.post(`${BASE_URL}${path}`, JSON.stringify(body), { headers: HEADERS, tags: { name: name || path } });
}

export function chat(prompt, options) {
  const body = Object.assign(
    { model: MODEL, temperature: 0, max_tokens: 16, messages: [{ role: 'user', content: prompt }] },
    options,
  );
  return post('/v1/chat/completions', body);
}

// The JSON chunks of an event stream that k6 has read whole; k6 shows no single events.
export function chunks(response) {
  return response.body
    .split('\n\n')
    .filter((event) => event.startsWith('data: {'))
    .map((event) => JSON.parse(event.slice('data: '.length)));
}

export function checkError(response, status, code) {
  return check(response, {
    [`${status} ${code}`]: (r) => r.status === status && r.json('error.code') === code,
    'error has OpenAI\'s four keys': (r) =>
      Object.keys(r.json('error')).sort().join() === 'code,message,param,type',
    'x-request-id': (r) => (r.headers['X-Request-Id'] || '').length > 0,
  });
}
