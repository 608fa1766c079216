// One of each call, checked strictly, against the embedded default: `make k6`.
import { check } from 'k6';
import { Counter } from 'k6/metrics';
import { MODEL, chat, checkError, chunks, field, get, header, isWhole, post, text } from './lib/openai.js';
import { TREND_STATS } from './lib/load.js';
import { summary } from './lib/summary.js';

// Empty where the server has no model for embeddings.
const EMBEDDINGS = __ENV.EMBEDDINGS_MODEL === undefined ? 'multilingual-e5-small' : __ENV.EMBEDDINGS_MODEL;
const CAPITAL = 'What is the capital of France?';

// An exception in between would leave out checks, and those that were made would all be well.
const completed = new Counter('completed');

export const options = {
  vus: 1,
  iterations: 1,
  thresholds: { checks: ['rate==1'], http_req_failed: ['rate==0'], completed: ['count==1'] },
  summaryTrendStats: TREND_STATS,
};

export const handleSummary = summary('smoke');

export default function () {
  answers();
  others();
  errors();
  completed.add(1);
}

function answers() {
  const whole = chat(CAPITAL);
  check(whole, {
    'chat 200': (r) => r.status === 200,
    'chat says Paris': (r) => text(r).includes('Paris'),
    'chat counts tokens': (r) => field(r, 'usage.total_tokens') > 0,
    'chat names its upstream': (r) => header(r, 'x-genkan-upstream') !== '',
  });

  const stream = chat(CAPITAL, { stream: true, stream_options: { include_usage: true } });
  const usage = (chunks(stream).pop() || {}).usage || {};
  check(stream, {
    'stream 200': (r) => r.status === 200,
    'stream is an event stream': (r) => header(r, 'content-type') === 'text/event-stream',
    'stream is whole': isWhole,
    'stream has the same text': (r) => text(r) === text(whole),
    'stream has the same usage': () => usage.total_tokens === field(whole, 'usage.total_tokens'),
  });
}

function others() {
  check(post('/v1/completions', { model: MODEL, prompt: 'Once upon a time', max_tokens: 4, temperature: 0 }), {
    'completion 200': (r) => r.status === 200 && field(r, 'usage.completion_tokens') === 4,
  });
  check(post('/call', { messages: [{ role: 'user', content: 'Hi' }], max_tokens: 4 }), {
    'call 200': (r) => r.status === 200 && text(r).length > 0,
  });
  const hi = { model: MODEL, messages: [{ role: 'user', content: 'Hi' }], max_tokens: 4 };
  check(post('/batch_predict', { requests: [hi, { messages: [] }] }), {
    'batch answers one and refuses one': (r) =>
      field(r, 'results.0.status') === 200 && field(r, 'results.1.status') === 400,
  });
  if (EMBEDDINGS) {
    check(post('/v1/embeddings', { model: EMBEDDINGS, input: ['Good morning', 'xin chào'] }), {
      'embeddings 200': (r) => r.status === 200 && field(r, 'data.1.embedding.0') !== undefined,
    });
  }
  check(get('/v1/models'), {
    'models lists the model': (r) => (field(r, 'data') || []).some((model) => model.id === MODEL),
  });
  check(get('/health'), { 'health ok': (r) => field(r, 'status') === 'ok' });
  check(get('/metrics'), { 'metrics has ours': (r) => (r.body || '').includes('genkan_') });
}

function errors() {
  checkError(chat('Hi', { model: 'no-such-model' }, { expect: [404] }), 404, 'model_not_found');
  checkError(chat('Hi', { max_tokens: 1000000 }, { expect: [400] }), 400, 'context_length_exceeded');
  checkError(chat('Hi', { temperature: 'hot' }, { expect: [400] }), 400, 'invalid_type');
  checkError(get('/nowhere', { expect: [404] }), 404, 'unknown_url');
}
