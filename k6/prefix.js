// N unique system prompts against the embedded engine, each with several questions: who comes after the first finds the
// system prompt computed. The figures are the embedded model's; only the shares have thresholds.
import { check } from 'k6';
import exec from 'k6/execution';
import { Counter, Trend } from 'k6/metrics';
import { chat, field, isWhole } from './lib/openai.js';
import { SCALE, TREND_STATS } from './lib/load.js';
import { firstNumber } from './lib/questions.js';
import { count, summary } from './lib/summary.js';

const PREFIXES = Math.max(2, Math.round(Number(__ENV.PREFIXES || 20) * SCALE));
const USERS = Math.min(2, PREFIXES);
const QUESTIONS = ['May I smoke?', 'Where may I park?', 'Are dogs allowed?', 'When is breakfast?'];
const RULES = 'Guests are asked to be quiet after ten in the evening and to leave their shoes in the hall. ';
const RULE_COUNT = 15; // some 300 tokens

const promptTokens = new Counter('prompt_tokens');
const cachedTokens = new Counter('cached_tokens');
const cachedShare = new Trend('cached_share');

export const options = {
  scenarios: { prefixes: { executor: 'shared-iterations', vus: USERS, iterations: PREFIXES, maxDuration: '10m' } },
  thresholds: {
    checks: ['rate==1'],
    'cached_share{question:first}': ['med<0.5'],
    'cached_share{question:later}': ['med>0.8'],
    'http_req_duration{question:first}': [],
    'http_req_duration{question:later}': [],
  },
  summaryTrendStats: TREND_STATS,
};

export const handleSummary = summary('prefix', (data) => ({
  'system prompts': PREFIXES,
  'share of prompt tokens found in the prefix cache': count(data, 'cached_tokens') / count(data, 'prompt_tokens'),
}));

export function setup() {
  return firstNumber();
}

export default function (first) {
  const number = first + exec.scenario.iterationInTest;
  const system = { role: 'system', content: `You are the porter of inn ${number}. ${RULES.repeat(RULE_COUNT)}` };
  QUESTIONS.forEach((asked, place) => {
    const tags = { question: place === 0 ? 'first' : 'later' };
    const messages = [system, { role: 'user', content: asked }];
    record(chat('', { messages, max_tokens: 8 }, { tags }), tags);
  });
}

function record(answer, tags) {
  if (!check(answer, { 'a whole answer': isWhole }, tags)) return;
  const prompt = field(answer, 'usage.prompt_tokens');
  const cached = field(answer, 'usage.prompt_tokens_details.cached_tokens') || 0;
  promptTokens.add(prompt, tags);
  cachedTokens.add(cached, tags);
  cachedShare.add(cached / prompt, tags);
}
