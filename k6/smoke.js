// One of each call, checked strictly: `make k6` against a running server.
import http from 'k6/http';
import { check } from 'k6';
import { BASE_URL, MODEL, chat, checkError, chunks, post } from './lib/openai.js';

export const options = {
  vus: 1,
  iterations: 1,
  thresholds: { checks: ['rate==1'] },
};

export default function () {
  const whole = chat('What is the capital of France?');
  check(whole, {
    'chat 200': (r) => r.status === 200,
    'chat says Paris': (r) => r.json('choices.0.message.content').includes('Paris'),
    'chat counts tokens': (r) => r.json('usage.total_tokens') > 0,
    'chat names its upstream': (r) => r.headers['X-Genkan-Upstream'] !== undefined,
  });

  const stream = chat('What is the capital of France?', { stream: true, stream_options: { include_usage: true } });
  const events = chunks(stream);
  const text = events.map((e) => (e.choices.length ? e.choices[0].delta.content || '' : '')).join('');
  check(stream, {
    'stream 200': (r) => r.status === 200,
    'stream is an event stream': (r) => r.headers['Content-Type'] === 'text/event-stream',
    'stream ends with [DONE]': (r) => r.body.endsWith('data: [DONE]\n\n'),
    'stream has the same text': () => text === whole.json('choices.0.message.content'),
    'stream has the same usage': () => events[events.length - 1].usage.total_tokens === whole.json('usage.total_tokens'),
  });

  check(post('/v1/completions', { model: MODEL, prompt: 'Once upon a time', max_tokens: 4, temperature: 0 }), {
    'completion 200': (r) => r.status === 200 && r.json('usage.completion_tokens') === 4,
  });
  check(post('/call', { messages: [{ role: 'user', content: 'Hi' }], max_tokens: 4 }), {
    'call 200': (r) => r.status === 200 && r.json('content').length > 0,
  });
  check(http.get(`${BASE_URL}/v1/models`), {
    'models lists the model': (r) => r.json('data').some((model) => model.id === MODEL),
  });
  check(http.get(`${BASE_URL}/health`), { 'health ok': (r) => r.json('status') === 'ok' });

  checkError(chat('Hi', { model: 'no-such-model' }), 404, 'model_not_found');
  checkError(chat('Hi', { max_tokens: 1000000 }), 400, 'context_length_exceeded');
  checkError(chat('Hi', { temperature: 'hot' }), 400, 'invalid_type');
  checkError(http.get(`${BASE_URL}/nowhere`), 404, 'unknown_url');
}
